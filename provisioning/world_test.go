package provisioning_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/keys"
	"github.com/passmuster/muster/hub/azure"
	hubwebhook "github.com/passmuster/muster/hub/webhook"
	"github.com/passmuster/muster/internal/callout"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/sqlite"
	"github.com/passmuster/muster/store/storetest"
	"github.com/passmuster/muster/verify"
)

// world is one installation on a real SQLite file, with a clock the test moves. Its
// invariants are checked after every step and at the end.
type world struct {
	t          testing.TB
	ctx        context.Context
	db         *store.DB
	file       store.Engine
	authority  *ca.Authority
	engine     *provisioning.Engine
	clock      time.Time
	jumped     time.Duration // what of clock has not passed
	began      time.Time     // zero: clock moves only when the test says so
	webhook    webhook       // answers custom allocation
	checkEvery time.Duration
	drivers    map[string]provisioning.HubDriver // beside the webhook and azure
	folder     *keys.Folder
	box        *seal.Box
	azure      *azure.Driver // trusts no hub but one that was linked
	tripwires  provisioning.TripwireRule

	quarantineTwin []byte
}

var loopback = callout.Options{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}

const (
	scope   = "0neTEST"
	builtIn = "hub-1.example.net"
)

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOn(t, newFile(t), newBox(t))
}

func newBox(t testing.TB) *seal.Box {
	t.Helper()
	kek, err := seal.CreateKEK(filepath.Join(t.TempDir(), "kek.pem"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return seal.NewBox(kek)
}

// newFile is a SQLite database.
func newFile(t testing.TB) store.Engine {
	t.Helper()
	file, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "muster.db"), sqlite.Options{})
	if err == nil {
		t.Cleanup(func() {
			if err := file.Close(); err != nil {
				t.Error(err)
			}
		})
		err = file.Migrate(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// newWorldOn is a world on a migrated database, with secrets in a box.
func newWorldOn(t testing.TB, database store.Engine, box *seal.Box) *world {
	t.Helper()
	w := &world{t: t, ctx: t.Context(), clock: testkit.Now()}
	dir := t.TempDir()
	w.db, w.file = store.New(database), database
	var err error
	w.folder, err = keys.OpenFolder(filepath.Join(dir, "keys"), nil)
	w.must(err)
	w.authority, err = ca.New(w.ctx, w.db.CA(), w.folder, ca.Config{PKIURL: "http://pki.example.net"}, w.now)
	w.must(err)
	root, err := w.authority.CreateRoot(w.ctx, "operator:test", ca.RootRequest{Name: "Test Root"})
	w.must(err)
	_, err = w.authority.CreateIssuing(w.ctx, "operator:test", root.ID, ca.IssuingRequest{Name: "Test Issuing"})
	w.must(err)
	w.box = box
	w.restart()
	_, err = w.engine.PutProfile(w.ctx, "operator:test", policies.DefaultProfile(), provisioning.Precondition{})
	w.must(err)
	w.hub(builtIn)
	t.Cleanup(w.check)
	return w
}

// restart makes a new engine on what is stored.
func (w *world) restart() {
	if w.azure == nil {
		w.azure = azure.New(loopback)
	}
	drivers := map[string]provisioning.HubDriver{hubwebhook.Name: hubwebhook.New(loopback, true), azure.Name: w.azure}
	maps.Copy(drivers, w.drivers)
	w.engine = provisioning.New(provisioning.Config{
		IDScope: scope, Store: w.db.Provisioning(), Authority: w.authority, Box: w.box, Now: w.now,
		Log: slog.New(slog.DiscardHandler), Allocator: &w.webhook, LocalWebhooks: true, Ledger: w.db.Log(),
		Even:       w.even,
		HubDrivers: drivers, CheckHubsEvery: w.checkEvery, Tripwires: w.tripwires, QuarantineTwin: w.quarantineTwin,
	})
}

func (w *world) now() time.Time {
	if !w.began.IsZero() {
		return w.clock.Add(time.Since(w.began))
	}
	return w.clock
}

// real has the clock go as time does, from now on.
func (w *world) real() { w.began = time.Now() }

// even is a clock that never jumps.
func (w *world) even() time.Duration { return w.clock.Sub(testkit.Now()) - w.jumped }

func (w *world) pass(d time.Duration) { w.clock = w.clock.Add(d) }

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// check asserts the named invariants on what is stored (architecture §7).
func (w *world) check() {
	w.t.Helper()
	storetest.Check(w.t, w.db)
}

func id(w *world, s string) verify.RegistrationID {
	w.t.Helper()
	out, err := verify.ParseRegistrationID(s)
	w.must(err)
	return out
}

func (w *world) hub(name string) {
	w.t.Helper()
	_, err := w.engine.PutHub(w.ctx, "operator:test", provisioning.Hub{Name: name, Driver: provisioning.BuiltIn, Weight: 1}, provisioning.Precondition{})
	w.must(err)
}

// anchor uploads a CA and, unless it shall stay unverified, proves possession.
func (w *world) anchor(e *testkit.Entity, verified bool) {
	w.t.Helper()
	name := e.Cert.Subject.CommonName
	_, err := w.engine.UploadAnchor(w.ctx, "operator:test", name, e.PEM(), false, provisioning.Precondition{})
	w.must(err)
	if verified {
		w.prove(e)
	}
}

func (w *world) prove(e *testkit.Entity) {
	w.t.Helper()
	name := e.Cert.Subject.CommonName
	a, err := w.engine.NewVerificationCode(w.ctx, "operator:test", name, provisioning.Precondition{})
	w.must(err)
	_, err = w.engine.ProveAnchor(w.ctx, "operator:test", name, e.Prove(w.t, a.Record().Code).Raw, provisioning.Precondition{})
	w.must(err)
}

type edit func(*provisioning.Draft)

func disabled(d *provisioning.Draft) { d.Enabled = false }

func (w *world) put(kind provisioning.Kind, name string, a provisioning.Attestation, edits ...edit) provisioning.Enrollment {
	w.t.Helper()
	d := provisioning.Draft{
		Owner: provisioning.Owner{Kind: kind, ID: id(w, name)}, Spelled: name, Enabled: true, Attestation: a,
		Allocation: policies.Hashed, Reprovision: policies.DefaultReprovisionPolicy(), Profile: "default",
	}
	for _, e := range edits {
		e(&d)
	}
	en, _, err := w.engine.Put(w.ctx, "operator:test", d, provisioning.Precondition{})
	if fault.Is(err, fault.PreconditionRequired) {
		en, _, err = w.engine.Put(w.ctx, "operator:test", d, provisioning.Precondition{Any: true})
	}
	w.must(err)
	w.check()
	return en
}

func slots(certs ...*testkit.Entity) (out [2]provisioning.SlotDraft) {
	for i, c := range certs {
		if c != nil {
			out[i].Certificate = c.PEM()
		}
	}
	return out
}

// group makes an X.509 group on signing certificates.
func (w *world) group(name string, signing *testkit.Entity, edits ...edit) provisioning.Enrollment {
	w.t.Helper()
	return w.put(provisioning.Group, name, provisioning.Attestation{Role: provisioning.RoleSigning, Slots: slots(signing)}, edits...)
}

// reference makes an X.509 group on a trust anchor.
func (w *world) reference(name string, anchor *testkit.Entity, edits ...edit) provisioning.Enrollment {
	w.t.Helper()
	a := provisioning.Attestation{Role: provisioning.RoleCARef}
	a.Slots[0].Anchor = anchor.Cert.Subject.CommonName
	return w.put(provisioning.Group, name, a, edits...)
}

// individual makes an individual enrollment that pins up to two leaves.
func (w *world) individual(name string, primary, secondary *testkit.Entity, edits ...edit) provisioning.Enrollment {
	w.t.Helper()
	return w.put(provisioning.Individual, name, provisioning.Attestation{Role: provisioning.RoleClient, Slots: slots(primary, secondary)}, edits...)
}

// keyed makes an entry with symmetric keys made by the engine, and reveals the primary.
func (w *world) keyed(kind provisioning.Kind, name string, edits ...edit) []byte {
	w.t.Helper()
	en := w.put(kind, name, provisioning.Attestation{Role: provisioning.RoleKey}, edits...)
	keys, err := w.engine.Keys(w.ctx, "operator:test", en.Owner)
	w.must(err)
	return keys[0]
}

func (w *world) enable(o provisioning.Owner, enabled bool) {
	w.t.Helper()
	_, err := w.engine.SetEnabled(w.ctx, "operator:test", o, enabled, provisioning.Precondition{})
	w.must(err)
}

// presenting is a device that shows certificates.
func (w *world) presenting(name string, certs ...*x509.Certificate) provisioning.Attempt {
	w.t.Helper()
	chain, err := verify.ReadChain(certs)
	w.must(err)
	return provisioning.Attempt{ID: id(w, name), Spelled: name, Evidence: provisioning.Evidence{Chain: chain}, Door: "test"}
}

// signing is a device that shows a token made with a key.
func (w *world) signing(name string, key []byte) provisioning.Attempt {
	w.t.Helper()
	token, err := verify.ParseSAS(testkit.SAS(key, scope, name, w.clock.Add(time.Hour)))
	w.must(err)
	return provisioning.Attempt{ID: id(w, name), Spelled: name, Evidence: provisioning.Evidence{Token: &token}, Door: "test"}
}

// register asks without a CSR.
func (w *world) register(a provisioning.Attempt) (provisioning.Operation, error) {
	w.t.Helper()
	op, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: a})
	w.check()
	return op, err
}

// enroll asks with a CSR for a new key and returns the certificate issued.
func (w *world) enroll(a provisioning.Attempt) (*x509.Certificate, error) {
	w.t.Helper()
	return w.enrollKey(a, testkit.NewKey(w.t, "p256"))
}

func (w *world) enrollKey(a provisioning.Attempt, key crypto.Signer) (*x509.Certificate, error) {
	w.t.Helper()
	op, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: a, CSR: testkit.CSR(w.t, key, a.Spelled)})
	w.check()
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(op.Chain[0])
	w.must(err)
	return leaf, nil
}

// assigned registers and insists on success.
func (w *world) assigned(a provisioning.Attempt) provisioning.Operation {
	w.t.Helper()
	op, err := w.register(a)
	w.must(err)
	if op.State != provisioning.Assigned {
		w.t.Fatalf("state %s (%s), want assigned", op.State, op.ErrorMessage)
	}
	return op
}

// refused registers and insists on a refusal by a rule: nothing recorded, and the
// explanation for an operator only.
func (w *world) refused(a provisioning.Attempt, rule string) {
	w.t.Helper()
	before := w.rows()
	_, err := w.register(a)
	if fault.KindOf(err) != fault.Unauthenticated || fault.RuleOf(err) != rule {
		w.t.Fatalf("got %v (%s, rule %q), want a refusal by %q", err, fault.KindOf(err), fault.RuleOf(err), rule)
	}
	if _, err := w.engine.Poll(w.ctx, provisioning.PollRequest{Attempt: a}); fault.RuleOf(err) != rule {
		w.t.Fatalf("a poll got %v, want the same refusal", err)
	}
	if after := w.rows(); after != before {
		w.t.Fatalf("a refusal wrote to the ledger: newest entry %d, before %d", after, before)
	}
}

// rows is the newest ledger entry's number.
func (w *world) rows() int64 {
	w.t.Helper()
	list, err := w.engine.Ledger(w.ctx, provisioning.LedgerFilter{Limit: 1})
	w.must(err)
	if len(list) == 0 {
		return 0
	}
	return list[0].Seq
}

func (w *world) registration(name string) provisioning.Registration {
	w.t.Helper()
	d, err := w.engine.Device(w.ctx, id(w, name))
	w.must(err)
	return d.Registration
}

// rules lists the rule words of a trace, for tests of a decision's order.
func rules(t provisioning.Trace) string {
	var out []string
	for _, s := range t {
		out = append(out, s.Rule)
	}
	return strings.Join(out, " ")
}

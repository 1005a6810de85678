package storetest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/verify"
)

// world is a store with the few things most tests need.
type world struct {
	*testing.T
	engine store.Engine
	db     *store.DB
	store  provisioning.Store
	now    time.Time
	serial atomic.Int64
}

// bg is the context of tests that are not about contexts.
var bg = context.Background()

func newWorld(t *testing.T, open Open) *world {
	t.Helper()
	e := open(t)
	db := store.New(e)
	return &world{T: t, engine: e, db: db, store: db.Provisioning(), now: testkit.Now()}
}

// update runs f and wants it to succeed.
func (w *world) update(f func(provisioning.Tx) error) {
	w.Helper()
	if err := w.store.Update(bg, f); err != nil {
		w.Fatalf("Update: %v", err)
	}
}

// refused runs f in an Update and wants a fault of kind, and of rule unless "".
func (w *world) refused(kind fault.Kind, rule string, f func(provisioning.Tx) error) {
	w.Helper()
	err := w.store.Update(bg, f)
	if err == nil || fault.KindOf(err) != kind || rule != "" && fault.RuleOf(err) != rule {
		w.Errorf("Update: %v (%v, %q), want %v %q", err, fault.KindOf(err), fault.RuleOf(err), kind, rule)
	}
}

// view reads one value and wants it to be there.
func view[T any](w *world, f func(provisioning.Tx) (T, error)) (v T) {
	w.Helper()
	err := w.store.View(bg, func(tx provisioning.Tx) (err error) {
		v, err = f(tx)
		return err
	})
	if err != nil {
		w.Fatalf("View: %v", err)
	}
	return v
}

// absent wants a read to answer NotFound.
func absent[T any](w *world, f func(provisioning.Tx) (T, error)) {
	w.Helper()
	err := w.store.View(bg, func(tx provisioning.Tx) error {
		_, err := f(tx)
		return err
	})
	if !fault.Is(err, fault.NotFound) {
		w.Errorf("View: %v, want not-found", err)
	}
}

// same compares what was written with what was read.
func same[T any](w *world, got, want T) {
	w.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), comparePairs, compareIDs); d != "" {
		w.Errorf("read differs from written (-want +got):\n%s", d)
	}
}

var comparePairs = cmp.Comparer(func(a, b rotation.Pair) bool { return a == b })
var compareIDs = cmp.Comparer(func(a, b verify.RegistrationID) bool { return a == b })

func id(t testing.TB, s string) verify.RegistrationID {
	t.Helper()
	x, err := verify.ParseRegistrationID(s)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func (w *world) id(s string) verify.RegistrationID { w.Helper(); return id(w, s) }

func (w *world) individual(s string) provisioning.Owner {
	return provisioning.Owner{Kind: provisioning.Individual, ID: w.id(s)}
}

func (w *world) group(s string) provisioning.Owner {
	return provisioning.Owner{Kind: provisioning.Group, ID: w.id(s)}
}

// issuer is an active issuing CA with the id of 16 digits d.
func (w *world) issuer(d byte) ca.Issuer {
	i := ca.Issuer{
		ID: ca.IssuerID(fmt.Sprintf("%016x", d)), Name: "Issuing CA", Role: ca.RoleIssuing, State: ca.IssuerActive,
		KeyURI: "softkms:issuing.pem", Certificate: []byte{0x30, d}, Created: w.now,
	}
	i.Parent = i.ID
	return i
}

// certificate is one that i issued to a device; each has another serial.
func (w *world) certificate(i ca.Issuer, device string) ca.Certificate {
	n := w.serial.Add(1)
	der := fmt.Appendf(nil, "certificate %d of %s", n, device)
	return ca.Certificate{
		Issuer: i.ID, Serial: ca.Serial(fmt.Sprintf("%040x", 1<<60+n)), Thumbprint: verify.ThumbprintOf(der),
		KeyHash: sha256.Sum256(fmt.Appendf(nil, "key %d", n)), RegistrationID: w.id(device),
		NotBefore: w.now.Add(-time.Minute), NotAfter: w.now.Add(90 * 24 * time.Hour), Issued: w.now, DER: der,
	}
}

// issued is the ledger row of a certificate.
func (w *world) issued(c ca.Certificate) audit.Event {
	return audit.Event{
		At: w.now, Actor: "device:" + c.RegistrationID.String(), Action: audit.Issued, Subject: "registration:" + c.RegistrationID.String(),
		Body: audit.Body(map[string]any{"issuer": string(c.Issuer), "serial": string(c.Serial)}),
	}
}

// record writes a certificate as ca.Record does.
func (w *world) record(tx provisioning.Tx, c ca.Certificate) error {
	if err := tx.InsertCertificate(c); err != nil {
		return err
	}
	return tx.Append(w.issued(c))
}

// create writes an issuer and its ledger row.
func (w *world) create(tx provisioning.Tx, i ca.Issuer) error {
	if err := tx.InsertIssuer(i); err != nil {
		return err
	}
	return tx.Append(w.note(audit.IssuerCreated, "issuer:"+string(i.ID)))
}

// note is the ledger row of a change.
func (w *world) note(action audit.Action, subject string) audit.Event {
	return audit.Event{At: w.now, Actor: "operator:ann", Action: action, Subject: subject, Body: []byte("{}")}
}

func (w *world) entry(o provisioning.Owner, credentials ...provisioning.Credential) provisioning.Enrollment {
	return provisioning.Enrollment{
		Owner: o, Spelled: o.ID.String(), Enabled: true, Credentials: credentials, Allocation: "hashed",
		Reprovision: policies.DefaultReprovisionPolicy(), Created: w.now, Updated: w.now, Version: 1,
	}
}

// enroll writes an entry and its ledger row.
func (w *world) enroll(e provisioning.Enrollment) {
	w.Helper()
	w.update(func(tx provisioning.Tx) error {
		if err := tx.InsertEnrollment(e); err != nil {
			return err
		}
		return tx.Append(w.note(audit.EnrollmentCreated, strings.Replace(e.Owner.String(), " ", ":", 1)))
	})
}

func pin(e *testkit.Entity, slot rotation.Slot) provisioning.Credential {
	return placed(provisioning.Credential{Role: provisioning.RoleClient, Slot: slot, Certificate: e.Cert.Raw})
}

func signing(e *testkit.Entity, slot rotation.Slot) provisioning.Credential {
	return placed(provisioning.Credential{Role: provisioning.RoleSigning, Slot: slot, Certificate: e.Cert.Raw})
}

func reference(anchor string, slot rotation.Slot) provisioning.Credential {
	return placed(provisioning.Credential{Role: provisioning.RoleCARef, Slot: slot, Anchor: anchor})
}

func key(secret string, slot rotation.Slot) provisioning.Credential {
	return placed(provisioning.Credential{Role: provisioning.RoleKey, Slot: slot, SealedKey: []byte(secret)})
}

// anchor uploads a CA under its name, verified or not.
func (w *world) anchor(e *testkit.Entity, verified bool) verify.TrustAnchor {
	w.Helper()
	a, err := verify.NewTrustAnchor(e.Name, e.Cert, w.now)
	if err != nil {
		w.Fatal(err)
	}
	if verified {
		a = a.VouchedBy("ann", w.now)
	}
	w.update(func(tx provisioning.Tx) error {
		if err := tx.InsertAnchor(a); err != nil {
			return err
		}
		return tx.Append(w.note(audit.AnchorUploaded, "anchor:"+e.Name))
	})
	return a
}

// registration is a device that is not assigned yet, at version 1.
func (w *world) registration(device string, o provisioning.Owner) provisioning.Registration {
	return provisioning.Registration{
		ID: w.id(device), Spelled: device, Owner: o, Mechanism: verify.MechanismX509, State: provisioning.Unassigned,
		Created: w.now, Updated: w.now, Version: 1,
		Operation: provisioning.OperationRecord{ID: "op-" + device, Digest: sha256.Sum256([]byte(device)), At: w.now},
	}
}

// assigned is a device on a hub under a device id.
func (w *world) assigned(device, hub, deviceID string, o provisioning.Owner) provisioning.Registration {
	r := w.registration(device, o)
	r.State, r.Hub, r.DeviceID, r.Substatus = provisioning.Assigned, hub, deviceID, "initialAssignment"
	return r
}

func (w *world) put(r provisioning.Registration) {
	w.Helper()
	w.update(func(tx provisioning.Tx) error { return tx.PutRegistration(r) })
}

func (w *world) disallow(digest [32]byte, isKey bool) provisioning.Disallowance {
	w.Helper()
	d := provisioning.Disallowance{ID: fmt.Sprintf("dis-%x", digest[:6]), Digest: digest, Key: isKey, Reason: "keyCompromise", Actor: "operator:ann", Created: w.now}
	w.update(func(tx provisioning.Tx) error {
		if err := tx.InsertDisallowance(d); err != nil {
			return err
		}
		return tx.Append(w.note(audit.KeyDisallowed, "key:"+d.ID))
	})
	return d
}

// revoked is the ledger row of a revocation.
func (w *world) revoked(c ca.Certificate) audit.Event {
	e := w.issued(c)
	e.Action, e.Actor = audit.Revoked, "operator:ann"
	return e
}

// sortedHolders puts holders in an order that no engine promises.
func sortedHolders(h []provisioning.Holder) []provisioning.Holder {
	slices.SortFunc(h, func(a, b provisioning.Holder) int {
		return strings.Compare(a.Owner.String()+"|"+a.Anchor, b.Owner.String()+"|"+b.Anchor)
	})
	return h
}

// placed is a credential as a new entry has it: the one in the first slot is active.
func placed(c provisioning.Credential) provisioning.Credential {
	c.State = rotation.Active
	if c.Slot == rotation.Secondary {
		c.State = rotation.Staged
	}
	return c
}

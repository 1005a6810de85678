package upstream_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/keys"
	"github.com/passmuster/muster/ca/upstream/stepca"
	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/sqlite"
	"github.com/passmuster/muster/store/storetest"
	"github.com/passmuster/muster/verify"
)

const (
	scope = "0neTEST"
	group = "line-1"
	actor = "operator:test"
)

// world is an engine on a real SQLite file in front of a real step-ca. The time is the
// machine's, moved on by later.
type world struct {
	t         *testing.T
	ctx       context.Context
	step      *stepCA
	proxy     *proxy
	db        *store.DB
	folder    *keys.Folder
	config    ca.Config
	authority *ca.Authority
	engine    *provisioning.Engine
	box       *seal.Box
	store     *faultyStore
	life      *life
	issuer    ca.Issuer
	key       []byte // of the group

	mu    sync.Mutex
	later time.Duration // guarded by mu
}

// faultyStore breaks commits of registrations: in one way it fails before the commit, which
// is lost; in the other after it, which was kept.
type faultyStore struct {
	provisioning.Store
	before, after func() error
	life          *life
}

func (s *faultyStore) Update(ctx context.Context, f func(provisioning.Tx) error) error {
	err := s.Store.Update(ctx, func(tx provisioning.Tx) error {
		if err := errors.Join(f(tx), s.life.over()); err != nil || s.before == nil {
			return err
		}
		return s.before()
	})
	if err != nil || s.after == nil {
		return err
	}
	return s.after()
}

// life is how many commits of its authority's a process lives for; after that, it has
// ended, and nothing it does leaves a trace.
type life struct {
	ca.Store
	commits atomic.Int32 // -1: it does not end
}

func (l *life) over() error {
	if l.commits.Load() == 0 {
		return errInjected
	}
	return nil
}

func (l *life) Update(ctx context.Context, f func(ca.Tx) error) error {
	if err := l.over(); err != nil {
		return err
	}
	err := l.Store.Update(ctx, f)
	l.commits.Add(-1)
	return err
}

func newWorld(t *testing.T, timeout time.Duration, template string) *world {
	t.Helper()
	w := &world{t: t, ctx: t.Context(), step: newStepCA(t, template)}
	w.proxy = newProxy(t, w.step.addr)
	dir := t.TempDir()
	w.step.file("provisioner-password", []byte(password+"\n"))
	upstream, err := stepca.Config{
		URL: "https://" + w.proxy.addr, Fingerprint: w.step.fingerprint, Provisioner: provisioner, PasswordFile: w.step.path("provisioner-password"),
	}.Open()
	w.must(err)
	file, err := sqlite.Open(w.ctx, filepath.Join(dir, "muster.db"), sqlite.Options{})
	w.must(err)
	t.Cleanup(func() { w.must(file.Close()) })
	w.must(file.Migrate(w.ctx))
	w.db = store.New(file)
	w.folder, err = keys.OpenFolder(filepath.Join(dir, "keys"), nil)
	w.must(err)
	w.config = ca.Config{PKIURL: "http://pki.example.net", Upstreams: map[string]ca.Upstream{"factory": upstream}, UpstreamTimeout: timeout}
	kek, err := seal.CreateKEK(filepath.Join(dir, "kek.pem"), nil)
	w.must(err)
	w.box = seal.NewBox(kek)
	w.open()
	_, err = w.engine.PutProfile(w.ctx, actor, policies.DefaultProfile(), provisioning.Precondition{})
	w.must(err)
	_, err = w.engine.PutHub(w.ctx, actor, provisioning.Hub{Name: "hub-1.example.net", Driver: provisioning.BuiltIn, Weight: 1}, provisioning.Precondition{})
	w.must(err)
	w.issuer, err = w.authority.Adopt(w.ctx, actor, ca.AdoptRequest{Upstream: "factory"})
	w.must(err)
	owner := provisioning.Owner{Kind: provisioning.Group, ID: w.id(group)}
	_, _, err = w.engine.Put(w.ctx, actor, provisioning.Draft{
		Owner: owner, Spelled: group, Enabled: true, Attestation: provisioning.Attestation{Role: provisioning.RoleKey},
		Allocation: policies.Hashed, Reprovision: policies.DefaultReprovisionPolicy(), Profile: "default",
	}, provisioning.Precondition{})
	w.must(err)
	list, err := w.engine.Keys(w.ctx, actor, owner)
	w.must(err)
	w.key = list[0]
	t.Cleanup(func() { storetest.Check(t, w.db) })
	return w
}

// open makes authority and engine anew, as a new process would.
func (w *world) open() {
	w.t.Helper()
	var err error
	w.life = &life{Store: w.db.CA()}
	w.life.commits.Store(-1)
	w.authority, err = ca.New(w.ctx, w.life, w.folder, w.config, w.now)
	w.must(err)
	w.store = &faultyStore{Store: w.db.Provisioning(), life: w.life}
	w.engine = provisioning.New(provisioning.Config{
		IDScope: scope, Store: w.store, Authority: w.authority, Box: w.box, Now: w.now, Log: slog.New(slog.DiscardHandler),
	})
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.later)
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.later += d
}

func (w *world) id(name string) verify.RegistrationID {
	w.t.Helper()
	id, err := verify.ParseRegistrationID(name)
	w.must(err)
	return id
}

// enroll registers a device with a CSR.
func (w *world) enroll(name string, key crypto.Signer) (provisioning.Operation, error) {
	w.t.Helper()
	token, err := verify.ParseSAS(testkit.SAS(verify.DeriveKey(verify.NewSecret(w.key), name).Reveal(), scope, name, w.now().Add(time.Hour)))
	w.must(err)
	return w.engine.Register(w.ctx, provisioning.RegisterRequest{
		Attempt: provisioning.Attempt{ID: w.id(name), Spelled: name, Evidence: provisioning.Evidence{Token: &token}, Door: "test"},
		CSR:     testkit.CSR(w.t, key, name),
	})
}

// intents is all intents, oldest first.
func (w *world) intents() []ca.Intent {
	w.t.Helper()
	list, err := w.authority.Intents(w.ctx, ca.IntentFilter{})
	w.must(err)
	return list
}

// intent is the one there is, in the state wanted.
func (w *world) intent(want ca.IntentState) ca.Intent {
	w.t.Helper()
	list := w.intents()
	if len(list) != 1 || list[0].State != want {
		w.t.Fatalf("the intents are %+v, want one that is %s", list, want)
	}
	return list[0]
}

func (w *world) sweep() {
	w.t.Helper()
	w.must(w.authority.SweepUpstreams(w.ctx))
}

// eventually waits for what another goroutine does.
func (w *world) eventually(what string, happened func() bool) {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); !happened(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("it never happened: %s; the intents are %+v", what, w.intents())
		}
	}
}

func (w *world) parse(der []byte) *x509.Certificate {
	w.t.Helper()
	c, err := x509.ParseCertificate(der)
	w.must(err)
	return c
}

var errInjected = errors.New("injected")

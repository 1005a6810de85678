package nats

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/keys"
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
	operator = "operator:ann"
	hub      = "hub-1.example.net"
)

// world is the real engine on SQLite, a real nats-server that asks it over mutual TLS, and the
// factory's devices.
type world struct {
	t         *testing.T
	engine    *provisioning.Engine
	store     *failing
	authority *ca.Authority
	factory   *testkit.Entity
	plant     *testkit.Entity // signs what is neither Muster's nor the factory's: the server, Muster, an application

	user, system, issuer, xkey nkeys.KeyPair
	server                     *testkit.NATSServer
	callout                    *Callout
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, user: must(nkeys.CreateUser()), system: must(nkeys.CreateUser()), issuer: must(nkeys.CreateAccount()), xkey: must(nkeys.CreateCurveKeys())}
	ctx, dir := t.Context(), t.TempDir()
	database := must(sqlite.Open(ctx, filepath.Join(dir, "muster.db"), sqlite.Options{}))
	t.Cleanup(func() { w.must(database.Close()) })
	w.must(database.Migrate(ctx))
	db := store.New(database)
	t.Cleanup(func() { storetest.Check(t, db) })
	w.authority = must(ca.New(ctx, db.CA(), must(keys.OpenFolder(filepath.Join(dir, "keys"), nil)), ca.Config{PKIURL: "http://pki.example"}, time.Now))
	root := must(w.authority.CreateRoot(ctx, operator, ca.RootRequest{Name: "Root"}))
	must(w.authority.CreateIssuing(ctx, operator, root.ID, ca.IssuingRequest{Name: "Issuing"}))
	w.store = &failing{Store: db.Provisioning()}
	w.engine = provisioning.New(provisioning.Config{
		IDScope: "0neNATS", Store: w.store, Authority: w.authority, Box: seal.NewBox(must(seal.CreateKEK(filepath.Join(dir, "kek.pem"), nil))),
		Now: time.Now, Log: slog.New(slog.DiscardHandler), Ledger: db.Log(),
	})
	must(w.engine.PutProfile(ctx, operator, policies.DefaultProfile(), provisioning.Precondition{}))
	must(w.engine.PutHub(ctx, operator, provisioning.Hub{Name: hub, Driver: provisioning.BuiltIn, Weight: 1}, provisioning.Precondition{}))
	w.factory, w.plant = testkit.Root(t, "factory"), testkit.Root(t, "plant")
	must(w.engine.UploadAnchor(ctx, operator, "factory", w.factory.PEM(), true, provisioning.Precondition{}))
	_, _, err := w.engine.Put(ctx, operator, provisioning.Draft{
		Owner: provisioning.Owner{Kind: provisioning.Group, ID: id("line")}, Spelled: "line", Enabled: true, Profile: "default",
		Attestation: provisioning.Attestation{Role: provisioning.RoleSigning, Slots: [2]provisioning.SlotDraft{{Certificate: w.factory.PEM()}}},
		Allocation:  policies.Hashed, Reprovision: policies.DefaultReprovisionPolicy(),
	}, provisioning.Precondition{})
	w.must(err)
	return w
}

// failing is a store whose reads fail while it is broken.
type failing struct {
	provisioning.Store
	broken bool
}

func (s *failing) View(ctx context.Context, f func(provisioning.Tx) error) error {
	if s.broken {
		return errors.New("disk I/O error")
	}
	return s.Store.View(ctx, f)
}

// asking is a world whose server asks Muster.
func asking(t *testing.T, edits ...func(*Config)) *world {
	t.Helper()
	w := newWorld(t)
	w.serve(true)
	w.open(edits...)
	return w
}

func public(k nkeys.KeyPair) string { return must(k.PublicKey()) }

// serve starts a server that asks.
func (w *world) serve(sealed bool) {
	w.t.Helper()
	trusted := append(w.plant.PEM(), w.factory.PEM()...)
	for _, der := range w.authority.Bundle() {
		trusted = append(trusted, testkit.PEM(must(x509.ParseCertificate(der)))...)
	}
	xkey := ""
	if sealed {
		xkey = "xkey: " + public(w.xkey)
	}
	w.server = testkit.NewNATSServer(w.t, w.plant, trusted, fmt.Sprintf(`
system_account: SYS
accounts: {
  SYS: {users: [{nkey: %s}]}
  AUTH: {users: [{nkey: %s}]}
  DEVICES: {jetstream: enabled, users: [{user: app, password: of-the-plant}]}
}
authorization: {auth_callout: {issuer: %s, account: AUTH, auth_users: [%s, %s, app], %s}}
`, public(w.system), public(w.user), public(w.issuer), public(w.user), public(w.system), xkey))
}

// open has Muster answer.
func (w *world) open(edits ...func(*Config)) {
	w.t.Helper()
	c := Config{
		Engine: w.engine, Hub: hub, URL: "tls://" + w.server.Address, TLS: w.tls(w.plant.Issue(w.t, "muster").TLS()),
		User: w.user, Issuer: w.issuer, XKey: w.xkey, System: w.system, Account: "DEVICES",
		Publish: []string{"devices.{device}.>"}, Subscribe: []string{"devices.{device}.>"}, AskAgain: time.Hour,
		Now: time.Now, Log: slog.New(slog.DiscardHandler), Checked: func(string, string) {},
	}
	for _, edit := range edits {
		edit(&c)
	}
	w.callout = must(Open(c))
	w.t.Cleanup(w.callout.Close)
	await(w.t, "Muster is connected", w.callout.IsConnected)
	w.must(w.callout.conn.Flush())
}

func (w *world) tls(own tls.Certificate) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(w.plant.Cert)
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12}
}

// enroll registers a device of the factory's with a CSR, and returns the leaf that Muster issued.
func (w *world) enroll(name string) tls.Certificate {
	w.t.Helper()
	key := testkit.NewKey(w.t, "p256")
	op := must(w.engine.Register(w.t.Context(), provisioning.RegisterRequest{
		Attempt: provisioning.Attempt{ID: id(name), Spelled: name, Door: "test", Evidence: provisioning.Evidence{Chain: must(verify.ReadChain(w.factory.Issue(w.t, name).Chain()))}},
		CSR:     testkit.CSR(w.t, key, name),
	}))
	return tls.Certificate{Certificate: op.Chain, PrivateKey: key}
}

// client is a connection of a device's or an application's, and how it ended.
type client struct {
	*nats.Conn
	failed chan error // asynchronous errors
	closed chan error
}

// connect tries once, and never again.
func (w *world) connect(own tls.Certificate, options ...nats.Option) (*client, error) {
	w.t.Helper()
	c := &client{failed: make(chan error, 16), closed: make(chan error, 1)}
	options = append([]nats.Option{
		nats.Secure(w.tls(own)), nats.NoReconnect(), nats.Timeout(10 * time.Second),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.failed <- err }),
		nats.ClosedHandler(func(conn *nats.Conn) { c.closed <- conn.LastError() }),
	}, options...)
	var err error
	if c.Conn, err = nats.Connect("tls://"+w.server.Address, options...); err == nil {
		w.t.Cleanup(c.Close)
	}
	return c, err
}

func (w *world) in(what string, own tls.Certificate, options ...nats.Option) *client {
	w.t.Helper()
	c, err := w.connect(own, options...)
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
	return c
}

func (w *world) out(what string, own tls.Certificate, options ...nats.Option) {
	w.t.Helper()
	if _, err := w.connect(own, options...); err == nil || !strings.Contains(strings.ToLower(err.Error()), "authorization violation") {
		w.t.Errorf("%s: %v, want a refusal", what, err)
	}
}

// app is an application of the plant's, which the server knows by itself.
func (w *world) app() *client {
	w.t.Helper()
	return w.in("the application", w.plant.Issue(w.t, "app").TLS(), nats.UserInfo("app", "of-the-plant"))
}

func (w *world) disallow(der []byte) {
	w.t.Helper()
	r := provisioning.DisallowRequest{Certificate: der}
	must(w.engine.Disallow(w.t.Context(), operator, r, must(w.engine.PreviewDisallow(w.t.Context(), r)).ID))
}

// ends waits until a connection has ended.
func (w *world) ends(what string, c *client) error {
	w.t.Helper()
	select {
	case err := <-c.closed:
		return err
	case <-time.After(20 * time.Second):
		w.t.Fatalf("%s: still connected", what)
		return nil
	}
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func id(name string) verify.RegistrationID { return must(verify.ParseRegistrationID(name)) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

package check_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/api/check"
	"github.com/passmuster/muster/api/internal/wire"
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
	idScope  = "0neCHECK"
)

// world is the door over the real engine and SQLite, with a factory whose devices are on the hub.
type world struct {
	t       *testing.T
	door    http.Handler
	engine  *provisioning.Engine
	store   *failing
	db      *store.DB
	now     time.Time
	token   string // of the scope hub
	factory *testkit.Entity
	checked map[[2]string]int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: testkit.Now(), checked: map[[2]string]int{}}
	ctx, dir := t.Context(), t.TempDir()
	database := must(sqlite.Open(ctx, filepath.Join(dir, "muster.db"), sqlite.Options{}))
	t.Cleanup(func() { w.must(database.Close()) })
	w.must(database.Migrate(ctx))
	w.db = store.New(database)
	t.Cleanup(func() { storetest.Check(t, w.db) })
	now := func() time.Time { return w.now }
	authority := must(ca.New(ctx, w.db.CA(), must(keys.OpenFolder(filepath.Join(dir, "keys"), nil)), ca.Config{PKIURL: "http://pki.example"}, now))
	w.store = &failing{Store: w.db.Provisioning()}
	w.engine = provisioning.New(provisioning.Config{
		IDScope: idScope, Store: w.store, Authority: authority, Box: seal.NewBox(must(seal.CreateKEK(filepath.Join(dir, "kek.pem"), nil))),
		Now: now, Log: slog.New(slog.DiscardHandler), Ledger: w.db.Log(),
	})
	w.token = w.newToken("broker", policies.ScopeHub)
	must(w.engine.PutHub(ctx, operator, provisioning.Hub{Name: hub, Driver: provisioning.BuiltIn, Weight: 1}, provisioning.Precondition{}))
	w.factory = testkit.Root(t, "factory")
	must(w.engine.UploadAnchor(ctx, operator, "factory", w.factory.PEM(), true, provisioning.Precondition{}))
	w.put(provisioning.Draft{
		Owner: provisioning.Owner{Kind: provisioning.Group, ID: id("line")}, Spelled: "line", Attestation: provisioning.Attestation{
			Role: provisioning.RoleSigning, Slots: [2]provisioning.SlotDraft{{Certificate: w.factory.PEM()}},
		},
	})
	w.door = must(check.New(wire.Settings{Log: slog.New(slog.DiscardHandler), Now: now}, check.Options{
		AskAgain: time.Hour, Checked: func(broker, reason string) { w.checked[[2]string{broker, reason}]++ },
	}, wire.Tenant{Engine: w.engine, Authority: authority}))
	return w
}

// failing is a store whose reads fail while it is broken, or do not end.
type failing struct {
	provisioning.Store
	broken, stuck bool
}

func (s *failing) View(ctx context.Context, f func(provisioning.Tx) error) error {
	switch {
	case s.broken:
		return errors.New("disk I/O error")
	case s.stuck:
		<-ctx.Done()
		return ctx.Err()
	}
	return s.Store.View(ctx, f)
}

func (w *world) newToken(name string, scopes ...policies.Scope) string {
	w.t.Helper()
	var words []string
	for _, s := range scopes {
		words = append(words, string(s))
	}
	text, _, err := w.engine.CreateToken(w.t.Context(), operator, name, must(policies.ParseScopes(strings.Join(words, " "))), time.Hour)
	w.must(err)
	return text
}

func (w *world) put(d provisioning.Draft) {
	w.t.Helper()
	d.Enabled, d.Allocation, d.Reprovision = true, policies.Hashed, policies.DefaultReprovisionPolicy()
	_, _, err := w.engine.Put(w.t.Context(), operator, d, provisioning.Precondition{})
	w.must(err)
}

func (w *world) register(name string, ev provisioning.Evidence) {
	w.t.Helper()
	op := must(w.engine.Register(w.t.Context(), provisioning.RegisterRequest{Attempt: provisioning.Attempt{ID: id(name), Spelled: name, Evidence: ev, Door: "test"}}))
	if op.State != provisioning.Assigned {
		w.t.Fatalf("%s is %s: %s", name, op.State, op.ErrorMessage)
	}
}

// device registers one with a certificate of the factory's.
func (w *world) device(name string) *testkit.Entity {
	w.t.Helper()
	e := w.factory.Issue(w.t, name)
	w.register(name, provisioning.Evidence{Chain: must(verify.ReadChain(e.Chain()))})
	return e
}

// keyed registers a device with keys, and returns the primary one.
func (w *world) keyed(name string) []byte {
	w.t.Helper()
	o := provisioning.Owner{ID: id(name)}
	w.put(provisioning.Draft{Owner: o, Spelled: name, Attestation: provisioning.Attestation{Role: provisioning.RoleKey}})
	key := must(w.engine.Keys(w.t.Context(), operator, o))[0]
	token := must(verify.ParseSAS(testkit.SAS(key, idScope, name, w.now.Add(time.Hour))))
	w.register(name, provisioning.Evidence{Token: &token})
	return key
}

func (w *world) disallow(der []byte) {
	w.t.Helper()
	r := provisioning.DisallowRequest{Certificate: der}
	p := must(w.engine.PreviewDisallow(w.t.Context(), r))
	must(w.engine.Disallow(w.t.Context(), operator, r, p.ID))
}

// object is a JSON object.
type object = map[string]any

// ask posts a body as the broker, and reads the answer.
func (w *world) ask(path string, body any) (int, object) {
	w.t.Helper()
	return w.post(path, string(must(json.Marshal(body))), "Authorization", "Bearer "+w.token)
}

func (w *world) post(path, body string, header ...string) (int, object) {
	w.t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	recorder := httptest.NewRecorder()
	w.door.ServeHTTP(recorder, r)
	var answer object
	w.must(json.Unmarshal(recorder.Body.Bytes(), &answer))
	if got := recorder.Header().Get("Content-Type"); got != "application/json" {
		w.t.Errorf("the answer is %q, which EMQX does not read", got)
	}
	return recorder.Code, answer
}

// emqx is the body that EMQX sends of a client.
func emqx(name string, e *testkit.Entity) object {
	return object{"clientid": name, "username": "", "password": "", "cert_pem": base64.StdEncoding.EncodeToString(e.Cert.Raw), "hub": hub}
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

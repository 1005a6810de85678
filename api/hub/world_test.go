package hub_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/api/hub"
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
	server   = "muster.example.net"
	hubName  = "hub-1.example.net"
	version  = "api-version=2021-04-12"
)

// tenant is an id scope on a database of its own.
type tenant struct {
	wire.Tenant
	keys map[string][]byte // primary keys of the shared access policies
}

// world is the door over the real engine and SQLite, with one tenant or several.
type world struct {
	t       testing.TB
	door    http.Handler
	tenants []tenant
	now     time.Time
	header  http.Header // of the last answer
}

func newWorld(t testing.TB, scopes ...string) *world {
	t.Helper()
	w := &world{t: t, now: testkit.Now()}
	if len(scopes) == 0 {
		scopes = []string{"0ne004A1B2C"}
	}
	var served []wire.Tenant
	for _, scope := range scopes {
		w.tenants = append(w.tenants, w.tenant(scope))
		served = append(served, w.tenants[len(w.tenants)-1].Tenant)
	}
	w.door = hub.New(must(wire.NewTenants(served...)), wire.Settings{
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return w.now }, Hosts: []string{server},
	})
	return w
}

// template is a migrated, empty database, made once: migrating takes longer than a test.
var template = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "muster-hub")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "muster.db")
	database, err := sqlite.Open(context.Background(), path, sqlite.Options{})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(database.Migrate(context.Background()), database.Close()); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

func (w *world) tenant(scope string) tenant {
	w.t.Helper()
	ctx, dir := w.t.Context(), w.t.TempDir()
	path := filepath.Join(dir, "muster.db")
	check(w.t, os.WriteFile(path, must(template()), 0o600))
	database := must(sqlite.Open(ctx, path, sqlite.Options{}))
	w.t.Cleanup(func() { check(w.t, database.Close()) })
	db := store.New(database)
	w.t.Cleanup(func() { storetest.Check(w.t, db) })
	now := func() time.Time { return w.now }
	authority := must(ca.New(ctx, db.CA(), must(keys.OpenFolder(filepath.Join(dir, "keys"), nil)), ca.Config{PKIURL: "http://pki.example"}, now))
	e := provisioning.New(provisioning.Config{
		IDScope: scope, Store: db.Provisioning(), Authority: authority, Box: seal.NewBox(must(seal.CreateKEK(filepath.Join(dir, "kek.pem"), nil))),
		Now: now, Log: slog.New(slog.DiscardHandler),
	})
	out := tenant{Tenant: wire.Tenant{Engine: e, Authority: authority}, keys: map[string][]byte{}}
	for name, rights := range map[string]policies.Rights{
		provisioning.HubOwner: policies.AllHubRights, "registryread": policies.RegistryRead, "registryreadwrite": policies.RegistryWrite,
		"service": policies.ServiceConnect, "device": policies.DeviceConnect,
	} {
		must(e.PutAccess(ctx, operator, provisioning.HubPlane, name, rights, provisioning.Precondition{}))
		out.keys[name] = must(e.AccessKeys(ctx, operator, provisioning.HubPlane, name))[0]
	}
	w.link(e, hubName)
	return out
}

func (w *world) link(e *provisioning.Engine, name string) {
	w.t.Helper()
	must(e.PutHub(w.t.Context(), operator, provisioning.Hub{Name: name, Driver: provisioning.BuiltIn, Weight: 1}, provisioning.Precondition{}))
}

func (w *world) engine() *provisioning.Engine { return w.tenants[0].Engine }

// token is of the first tenant, for the hub.
func (w *world) token(policy string) string { return w.tokenFor(0, policy, hubName) }

func (w *world) tokenFor(tenant int, policy, host string) string {
	return testkit.SAS(w.tenants[tenant].keys[policy], "", "", w.now.Add(time.Hour), testkit.Resource(host), testkit.KeyName(policy))
}

// register provisions a device of a symmetric-key enrollment, and returns its keys.
func (w *world) register(id string) [2][]byte {
	w.t.Helper()
	ctx, e := w.t.Context(), w.engine()
	o := provisioning.Owner{ID: must(verify.ParseRegistrationID(id))}
	must2(e.Put(ctx, operator, provisioning.Draft{
		Owner: o, Spelled: id, Enabled: true, Attestation: provisioning.Attestation{Role: provisioning.RoleKey},
		Allocation: policies.Static, Hubs: []string{hubName}, Reprovision: policies.DefaultReprovisionPolicy(),
	}, provisioning.Precondition{}))
	secrets := must(e.Keys(ctx, operator, o))
	w.registerAgain(id, secrets[0])
	return secrets
}

func (w *world) registerAgain(id string, key []byte) {
	w.t.Helper()
	token := must(verify.ParseSAS(testkit.SAS(key, w.engine().IDScope(), id, w.now.Add(time.Hour))))
	op := must(w.engine().Register(w.t.Context(), provisioning.RegisterRequest{Attempt: provisioning.Attempt{
		ID: must(verify.ParseRegistrationID(id)), Spelled: id, Evidence: provisioning.Evidence{Token: &token}, Door: "test",
	}}))
	if op.State != provisioning.Assigned {
		w.t.Fatalf("%s is %s: %s", id, op.State, op.ErrorMessage)
	}
}

// ask sends a request of the hub's owner; headers are names and values in turn.
func (w *world) ask(method, path, body string, header ...string) (status int, answer string) {
	w.t.Helper()
	return w.askAs(w.token(provisioning.HubOwner), method, path, body, header...)
}

func (w *world) askAs(token, method, path, body string, header ...string) (status int, answer string) {
	w.t.Helper()
	w.now = w.now.Add(time.Second)
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	r := httptest.NewRequest(method, path+separator+version, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json; charset=utf-8")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	recorder := httptest.NewRecorder()
	w.door.ServeHTTP(recorder, r)
	w.header = recorder.Header()
	return recorder.Code, string(must(io.ReadAll(recorder.Body)))
}

// object asks, wants 200 and reads an object.
func (w *world) object(method, path, body string, header ...string) map[string]any {
	w.t.Helper()
	status, answer := w.ask(method, path, body, header...)
	if status != http.StatusOK {
		w.t.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
	var out map[string]any
	check(w.t, json.Unmarshal([]byte(answer), &out))
	return out
}

// at is a value in an object, "authentication.type".
func at(object map[string]any, path string) any {
	var v any = object
	for name := range strings.SplitSeq(path, ".") {
		inner, _ := v.(map[string]any)
		v = inner[name]
	}
	return v
}

func encoded(key []byte) string { return base64.StdEncoding.EncodeToString(key) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func must2[A, B any](_ A, _ B, err error) {
	if err != nil {
		panic(err)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

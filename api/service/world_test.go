package service

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/keys"
	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/sqlite"
	"github.com/passmuster/muster/verify"
)

const (
	host    = "dps.example.net"
	hub     = "hub-1.example.net"
	version = "api-version=2021-10-01"
)

// world is the door before one or more id scopes, on real engines and SQLite.
type world struct {
	t       testing.TB
	scopes  []*scope
	handler http.Handler
	clock   time.Time
}

// scope is one tenant, its engine, and the key of the policy that may do everything.
type scope struct {
	id     string
	file   string
	box    *seal.Box
	stop   func() error // closes the database, once
	store  provisioning.Store
	engine *provisioning.Engine
	keys   [2][]byte
}

func newWorld(t testing.TB, idScopes ...string) *world {
	t.Helper()
	if p, ok := t.(*testing.T); ok {
		p.Parallel()
	}
	w := &world{t: t, clock: testkit.Now()}
	if len(idScopes) == 0 {
		idScopes = []string{"0ne00000001"}
	}
	for _, id := range idScopes {
		dir := t.TempDir()
		kek := must(seal.CreateKEK(filepath.Join(dir, "kek.pem"), nil))
		s := &scope{id: id, file: filepath.Join(dir, "muster.db"), box: seal.NewBox(kek)}
		w.start(s)
		w.furnish(s)
		w.scopes = append(w.scopes, s)
	}
	w.open()
	return w
}

// start opens the database and makes an engine of it, as a process does at its start.
func (w *world) start(s *scope) {
	w.t.Helper()
	ctx := w.t.Context()
	database := must(sqlite.Open(ctx, s.file, sqlite.Options{}))
	s.stop = sync.OnceValue(database.Close)
	w.t.Cleanup(func() { w.check(s.stop()) })
	w.check(database.Migrate(ctx))
	db := store.New(database)
	s.store = db.Provisioning()
	folder := must(keys.OpenFolder(filepath.Join(filepath.Dir(s.file), "keys"), nil))
	authority := must(ca.New(ctx, db.CA(), folder, ca.Config{PKIURL: "http://pki.example"}, w.now))
	s.engine = provisioning.New(provisioning.Config{
		IDScope: s.id, Store: s.store, Authority: authority, Box: s.box, Now: w.now, Log: slog.New(slog.DiscardHandler),
	})
}

func (w *world) furnish(s *scope) {
	w.t.Helper()
	ctx := w.t.Context()
	must(s.engine.PutHub(ctx, "operator:test", provisioning.Hub{Name: hub, Driver: provisioning.BuiltIn, Weight: 1}, provisioning.Precondition{}))
	s.keys = w.policy(s, provisioning.ServiceOwner, policies.AllServiceRights)
}

// policy makes a shared access policy and reveals its keys.
func (w *world) policy(s *scope, name string, rights policies.Rights) [2][]byte {
	w.t.Helper()
	must(s.engine.PutAccess(w.t.Context(), "operator:test", provisioning.ServicePlane, name, rights, provisioning.Precondition{}))
	return must(s.engine.AccessKeys(w.t.Context(), "operator:test", provisioning.ServicePlane, name))
}

func (w *world) open() {
	var list []wire.Tenant
	for _, s := range w.scopes {
		list = append(list, wire.Tenant{Engine: s.engine})
	}
	w.handler = New(must(wire.NewTenants(list...)), wire.Settings{Log: slog.New(slog.DiscardHandler), Now: w.now, Hosts: []string{host}})
}

func (w *world) now() time.Time { return w.clock }

// part is a part of a test that goes on in the world of the one before.
func (w *world) part(name string, f func()) {
	outer := w.t.(*testing.T)
	outer.Run(name, func(t *testing.T) {
		w.t = t
		defer func() { w.t = outer }()
		f()
	})
}

// run is a part of a test that shares its world, and leaves it without entries and records.
func (w *world) run(name string, f func(*world)) {
	w.part(name, func() {
		f(w)
		e, ctx, anything := w.scopes[0].engine, w.t.Context(), provisioning.Precondition{Any: true}
		for _, kind := range []provisioning.Kind{provisioning.Individual, provisioning.Group} {
			for _, en := range must(e.Enrollments(ctx, provisioning.EnrollmentFilter{Kind: kind})) {
				w.check(e.Delete(ctx, "operator:test", en.Owner, anything))
			}
		}
		for _, r := range must(e.Registrations(ctx, provisioning.RegistrationFilter{})) {
			w.check(e.DeleteRegistration(ctx, "operator:test", r.ID, anything))
		}
	})
}

// sas is a token of the first scope's owner, as npm's client makes it.
func (w *world) sas(opts ...testkit.SASOption) string { return w.sasOf(w.scopes[0].keys[0], opts...) }

func (w *world) sasOf(key []byte, opts ...testkit.SASOption) string {
	opts = append([]testkit.SASOption{testkit.Resource(host), testkit.KeyName(provisioning.ServiceOwner)}, opts...)
	return testkit.SAS(key, "", "", w.clock.Add(time.Hour), opts...)
}

// request is one call; a path without a query gets the api-version.
type request struct {
	method, path, body string
	header             map[string]string // Authorization is the owner's unless given
}

func (w *world) do(r request) *answer {
	w.t.Helper()
	path := r.path
	if !strings.Contains(path, "?") {
		path += "?" + version
	}
	req := httptest.NewRequestWithContext(w.t.Context(), r.method, path, strings.NewReader(r.body))
	req.Header.Set("Authorization", w.sas())
	if r.body != "" {
		req.Header.Set("Content-Type", "application/json; charset=utf-8")
	}
	for name, value := range r.header {
		if req.Header.Set(name, value); value == "" {
			req.Header.Del(name)
		}
	}
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, req)
	a := &answer{w: w, request: r, status: rec.Code, header: rec.Header(), text: rec.Body.String()}
	if a.text != "" {
		if err := json.Unmarshal([]byte(a.text), &a.json); err != nil || !strings.Contains(a.header.Get("Content-Type"), "application/json") {
			w.t.Fatalf("%s %s: no JSON (%v): %s", r.method, r.path, err, a.text)
		}
	}
	return a
}

func (w *world) get(path string) *answer {
	w.t.Helper()
	return w.do(request{method: "GET", path: path})
}

func (w *world) put(path, body string, ifMatch ...string) *answer {
	w.t.Helper()
	r := request{method: "PUT", path: path, body: body, header: map[string]string{}}
	if len(ifMatch) > 0 {
		r.header["If-Match"] = ifMatch[0]
	}
	return w.do(r)
}

func (w *world) post(path, body string) *answer {
	w.t.Helper()
	return w.do(request{method: "POST", path: path, body: body})
}

func (w *world) delete(path string, ifMatch ...string) *answer {
	w.t.Helper()
	r := request{method: "DELETE", path: path, header: map[string]string{}}
	if len(ifMatch) > 0 {
		r.header["If-Match"] = ifMatch[0]
	}
	return w.do(r)
}

// keyed makes an enrollment with symmetric keys.
func (w *world) keyed(id string) *answer {
	w.t.Helper()
	return w.put("/enrollments/"+id, keyedBody(id)).want(200)
}

func keyedBody(id string, more ...string) string {
	return `{"registrationId":"` + id + `","attestation":{"type":"symmetricKey"}` + strings.Join(append([]string{""}, more...), ",") + `}`
}

// registered makes a device with a key of its own register.
func (w *world) registered(kind provisioning.Kind, entry, device string) {
	w.t.Helper()
	e := w.scopes[0].engine
	revealed := must(e.Keys(w.t.Context(), "operator:test", provisioning.Owner{Kind: kind, ID: must(verify.ParseRegistrationID(entry))}))
	key := verify.NewSecret(revealed[0])
	if kind == provisioning.Group {
		key = verify.DeriveKey(key, device)
	}
	must(e.Register(w.t.Context(), provisioning.RegisterRequest{Attempt: provisioning.Attempt{
		ID: must(verify.ParseRegistrationID(device)), Spelled: device, Evidence: provisioning.Evidence{Key: &key}, Door: "test",
	}}))
}

// answer is what came back; json is its body.
type answer struct {
	w       *world
	request request
	status  int
	header  http.Header
	text    string
	json    any
}

// want asserts the status, and of an error its code.
func (a *answer) want(status int, code ...int) *answer {
	a.w.t.Helper()
	if a.status != status {
		a.w.t.Fatalf("%s %s: status %d, want %d: %s", a.request.method, a.request.path, a.status, status, a.text)
	}
	if len(code) > 0 {
		a.has("errorCode", code[0])
		if got := a.header.Get("x-ms-error-code"); got != fmt.Sprint(code[0]) {
			a.w.t.Fatalf("%s %s: x-ms-error-code %q, want %d", a.request.method, a.request.path, got, code[0])
		}
	}
	return a
}

// at is the value at a path of names and indices, nil where there is none.
func (a *answer) at(path string) any {
	v := a.json
	for part := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[part]
		case []any:
			i := -1
			if _, err := fmt.Sscan(part, &i); err != nil || i < 0 || i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

// has asserts the value at a path.
func (a *answer) has(path string, want any) *answer {
	a.w.t.Helper()
	if n, ok := want.(int); ok {
		want = float64(n)
	}
	if got := a.at(path); got != want {
		a.w.t.Fatalf("%s %s: %s is %v, want %v: %s", a.request.method, a.request.path, path, got, want, a.text)
	}
	return a
}

func (a *answer) etag() string { return fmt.Sprint(a.at("etag")) }

// ids are the ids of a page's items.
func (a *answer) ids() string {
	a.w.t.Helper()
	var out []string
	for _, item := range a.want(200).json.([]any) {
		fields := item.(map[string]any)
		for _, name := range []string{"registrationId", "enrollmentGroupId"} {
			if id, ok := fields[name]; ok {
				out = append(out, fmt.Sprint(id))
			}
		}
	}
	return strings.Join(out, " ")
}

func inJSON(text []byte) string { return string(must(json.Marshal(string(text)))) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

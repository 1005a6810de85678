package admin

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/api/internal/apitest"
	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

const idScope = "0ne004A1B2C"

// world is the admin door on the real engine and SQLite, and an operator per role.
// Every answer is held against the OpenAPI document.
type world struct {
	t         testing.TB
	engine    *provisioning.Engine
	authority *ca.Authority
	jobs      provisioning.Store
	door      *door
	router    *gin.Engine
	handler   http.Handler
	tokens    map[policies.Role]string
	clock     atomic.Int64
	revoked   atomic.Int32 // calls of AfterRevoke
	panics    atomic.Int32
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, tokens: map[policies.Role]string{}}
	w.clock.Store(testkit.Now().UnixNano())
	ctx := t.Context()
	s := apitest.Open(t, idScope, w.now)
	w.engine, w.authority, w.jobs = s.Engine, s.Authority, s.Jobs
	for _, r := range []policies.Role{policies.RoleViewer, policies.RoleOperator, policies.RoleSecurity, policies.RoleAdmin} {
		text, _, err := w.engine.CreateToken(ctx, "operator:test", string(r), r.Scopes(), time.Hour)
		check(t, err)
		w.tokens[r] = text
	}
	w.open()
	return w
}

// bareWorld is the door alone, with nothing behind it.
func bareWorld(t testing.TB) *world {
	w := &world{t: t}
	w.open()
	return w
}

func (w *world) open() {
	w.door, w.router = open(Deps{
		Engine: w.engine, Authority: w.authority, Log: slog.New(slog.DiscardHandler), Version: "v1", Now: w.now,
		AfterRevoke: func() { w.revoked.Add(1) }, OnPanic: func() { w.panics.Add(1) },
	}.complete())
	w.handler = guarded(w.door, w.router)
}

func (w *world) now() time.Time { return time.Unix(0, w.clock.Load()).UTC() }

func (w *world) advance(d time.Duration) { w.clock.Add(int64(d)) }

// linked is a world with the default profile and the hub hub-1.
func linked(t testing.TB) *world {
	w := newWorld(t)
	w.put("/profiles/default", `{}`).want(http.StatusCreated)
	w.put("/hubs/hub-1", `{}`).want(http.StatusCreated)
	return w
}

// run is a part of a test that shares its world; parts run one after another.
func (w *world) run(name string, part func(*world)) {
	outer := w.t.(*testing.T)
	outer.Run(name, func(t *testing.T) {
		w.t = t
		defer func() { w.t = outer }()
		part(w)
	})
}

// request is one call; role "" sends no token.
type request struct {
	role         policies.Role
	method, path string
	body         string
	header       http.Header
}

func (w *world) do(r request) *answer {
	w.t.Helper()
	req := httptest.NewRequestWithContext(w.t.Context(), r.method, prefix+r.path, strings.NewReader(r.body))
	if r.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if token := w.tokens[r.role]; token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, req)
	a := &answer{t: w.t, request: r, status: rec.Code, header: rec.Header(), text: rec.Body.String()}
	if a.text != "" && a.header.Get("Content-Type") != calendarType {
		if err := json.Unmarshal([]byte(a.text), &a.json); err != nil {
			w.t.Fatalf("%s %s: the answer is not a JSON object: %v: %s", r.method, r.path, err, a.text)
		}
	}
	w.hold(a, req)
	return a
}

func (w *world) get(path string) *answer { return w.call(http.MethodGet, path, "") }
func (w *world) put(path, body string, ifMatch ...string) *answer {
	return w.call(http.MethodPut, path, body, ifMatch...)
}
func (w *world) patch(path, body string, ifMatch ...string) *answer {
	return w.call(http.MethodPatch, path, body, ifMatch...)
}
func (w *world) post(path, body string, ifMatch ...string) *answer {
	return w.call(http.MethodPost, path, body, ifMatch...)
}
func (w *world) delete(path string, ifMatch ...string) *answer {
	return w.call(http.MethodDelete, path, "", ifMatch...)
}

// call is a request of the administrator.
func (w *world) call(method, path, body string, ifMatch ...string) *answer {
	w.t.Helper()
	r := request{role: policies.RoleAdmin, method: method, path: path, body: body, header: http.Header{}}
	if len(ifMatch) > 0 {
		r.header.Set("If-Match", ifMatch[0])
	}
	return w.do(r)
}

// hold holds an answer against the document: its status, its type and its schema.
func (w *world) hold(a *answer, r *http.Request) {
	w.t.Helper()
	op := w.operation(r)
	if op == nil {
		if a.status != http.StatusNotFound && a.status != http.StatusMethodNotAllowed {
			w.t.Errorf("%s %s: status %d of a route that is not in the document", r.Method, r.URL.Path, a.status)
		}
		return
	}
	response, ok := op.Responses[strconv.Itoa(a.status)]
	if !ok {
		response = op.Responses["default"]
		if a.status < 400 {
			w.t.Errorf("%s: status %d is not in the document", op.OperationID, a.status)
		}
	}
	if len(response.Content) == 0 {
		if a.text != "" {
			w.t.Errorf("%s: a body where the document has none: %s", op.OperationID, a.text)
		}
		return
	}
	media, ok := response.Content[a.header.Get("Content-Type")]
	if !ok {
		w.t.Errorf("%s: %d of type %q, which is not in the document", op.OperationID, a.status, a.header.Get("Content-Type"))
		return
	}
	if a.header.Get("Content-Type") == calendarType {
		return // not JSON
	}
	path, result := huma.NewPathBuffer(nil, 0), &huma.ValidateResult{}
	huma.Validate(w.door.api.OpenAPI().Components.Schemas, media.Schema, path, huma.ModeReadFromServer, any(a.json), result)
	for _, err := range result.Errors {
		w.t.Errorf("%s: the answer does not fit the document: %v\n%s", op.OperationID, err, a.text)
	}
}

// operation finds the documented operation of a request by its segments.
func (w *world) operation(r *http.Request) *huma.Operation {
	path := strings.TrimPrefix(r.URL.EscapedPath(), prefix)
	if item := w.door.api.OpenAPI().Paths[path]; item != nil {
		return operations(item)[r.Method] // before one with a parameter in its place
	}
	segments := strings.Split(path, "/")
	for template, item := range w.door.api.OpenAPI().Paths {
		parts := strings.Split(template, "/")
		fits := len(parts) == len(segments)
		for i := 0; fits && i < len(parts); i++ {
			fits = parts[i] == segments[i] || strings.HasPrefix(parts[i], "{") && segments[i] != ""
		}
		if op := operations(item)[r.Method]; fits && op != nil {
			return op
		}
	}
	return nil
}

func operations(p *huma.PathItem) map[string]*huma.Operation {
	all := map[string]*huma.Operation{
		http.MethodGet: p.Get, http.MethodPut: p.Put, http.MethodPost: p.Post, http.MethodPatch: p.Patch, http.MethodDelete: p.Delete,
	}
	for method, op := range all {
		if op == nil {
			delete(all, method)
		}
	}
	return all
}

// answer is what came back; json is its body.
type answer struct {
	t       testing.TB
	request request
	status  int
	header  http.Header
	text    string
	json    map[string]any
}

// want asserts the status, and of a problem the rule that refused.
func (a *answer) want(status int, rule ...string) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s %s: status %d, want %d: %s", a.request.method, a.request.path, a.status, status, a.text)
	}
	if len(rule) > 0 && a.at("refusedBy.rule") != rule[0] {
		a.t.Fatalf("%s %s: refused by %v, want %s: %s", a.request.method, a.request.path, a.at("refusedBy.rule"), rule[0], a.text)
	}
	return a
}

// at is the value at a path of names and indices, nil where there is none.
func (a *answer) at(path string) any {
	var v any = a.json
	for part := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i >= len(x) {
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
	a.t.Helper()
	if n, ok := want.(int); ok {
		want = float64(n)
	}
	if got := a.at(path); got != want {
		a.t.Fatalf("%s %s: %s is %v, want %v: %s", a.request.method, a.request.path, path, got, want, a.text)
	}
	return a
}

func (a *answer) etag() string { return a.header.Get("ETag") }

// register makes a device of a symmetric-key group register, with a CSR, as a door would.
func (w *world) register(group, id string) provisioning.Operation {
	w.t.Helper()
	keys := w.post("/groups/"+group+"/deriveKey", `{"registrationId":"`+id+`"}`).want(http.StatusOK)
	key := verify.NewSecret(must(base64.StdEncoding.DecodeString(keys.at("primaryKey").(string))))
	return must(w.engine.Register(w.t.Context(), provisioning.RegisterRequest{
		Attempt: provisioning.Attempt{
			ID: must(verify.ParseRegistrationID(id)), Spelled: id, Evidence: provisioning.Evidence{Key: &key}, Door: "test",
		},
		CSR: testkit.CSR(w.t, testkit.NewKey(w.t, "p256"), id),
	}))
}

func quoted(s []byte) string { return string(must(json.Marshal(string(s)))) }

func compact(v any) string {
	var b bytes.Buffer
	if err := encode(&b, v); err != nil {
		panic(err)
	}
	return strings.TrimSpace(b.String())
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

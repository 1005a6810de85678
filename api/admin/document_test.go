package admin

import (
	"bytes"
	"context"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

var update = flag.Bool("update", false, "write openapi.yaml anew")

const documentFile = "openapi.yaml"

func TestTheOpenAPIDocumentIsTheOneCheckedIn(t *testing.T) {
	d, _ := open(Deps{Version: "v1"}.complete())
	want := must(d.api.OpenAPI().YAML())
	if *update {
		check(t, os.WriteFile(documentFile, want, 0o644))
	}
	if got, err := os.ReadFile(documentFile); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s is stale (%v): make generate", documentFile, err)
	}
}

func TestTheDocumentIsPublicAndIsServed(t *testing.T) {
	w := bareWorld(t)
	a := w.do(request{method: http.MethodGet, path: "/openapi.json"}).want(http.StatusOK)
	a.has("openapi", "3.1.0").has("info.version", "v1").has("paths./hubs.get.x-scope", "read")
	if strings.Contains(a.text, "ErrorModel") {
		t.Error("the document has huma's own error shape")
	}
}

// Deny by default (INV-L5): every route of the router is in the document with a scope
// or public by name, and the other way round.
func TestEveryRouteHasAScopeOrIsPublic(t *testing.T) {
	w := bareWorld(t)
	routed := map[string]bool{}
	for _, r := range w.router.Routes() {
		routed[r.Method+" "+strings.TrimPrefix(r.Path, prefix)] = true
	}
	scopes := []policies.Scope{policies.ScopeRead, policies.ScopeEnroll, policies.ScopeRotate, policies.ScopeSecurity, policies.ScopeAdmin}
	open := []string{}
	for template, item := range w.door.api.OpenAPI().Paths {
		for method, op := range operations(item) {
			key := method + " " + strings.NewReplacer("{", ":", "}", "").Replace(template)
			if !routed[key] {
				t.Errorf("%s is documented and leads nowhere", key)
			}
			delete(routed, key)
			scope := op.Metadata[scopeKey].(policies.Scope)
			switch {
			case scope == public:
				open = append(open, key)
			case !slices.Contains(scopes, scope):
				t.Errorf("%s asks for the scope %q", key, scope)
			case method != http.MethodGet && scope == policies.ScopeRead && op.OperationID != "explain-chain":
				t.Errorf("%s writes with the scope read", key)
			}
		}
	}
	if len(routed) > 0 {
		t.Errorf("routes that are not documented: %v", routed)
	}
	if !slices.Equal(open, []string{"GET /openapi.json"}) {
		t.Errorf("public: %v", open)
	}
}

func TestSigningIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run("a refusal is on record", refusalIsOnRecord)
	w.run("a route without a scope lets nobody in", routeWithoutScope)
	w.run("every route for every role", everyRouteForEveryRole)
	w.run("tokens that sign nobody in", badTokens)
}

func routeWithoutScope(w *world) {
	for _, scope := range []policies.Scope{"", "everything"} {
		d, router := open(w.door.Deps)
		add(d, route{id: "new", method: http.MethodGet, path: "/new", scope: scope}, func(context.Context, *struct{}) (*done, error) {
			w.t.Error("the route was entered")
			return &done{}, nil
		})
		for role, token := range w.tokens {
			r := httptest.NewRequestWithContext(w.t.Context(), http.MethodGet, prefix+"/new", nil)
			r.Header.Set("Authorization", "Bearer "+token)
			rec := httptest.NewRecorder()
			if router.ServeHTTP(rec, r); rec.Code != http.StatusForbidden {
				w.t.Errorf("%s got %d from a route with the scope %q", role, rec.Code, scope)
			}
		}
	}
}

// Every route, every role: 401 without a token, 403 naming the scope without the right,
// and with it something else.
func everyRouteForEveryRole(w *world) {
	for template, item := range w.door.api.OpenAPI().Paths {
		for method, op := range operations(item) {
			scope := op.Metadata[scopeKey].(policies.Scope)
			path := strings.NewReplacer("{id}", "nobody", "{name}", "nobody", "{serial}", "0a").Replace(template)
			r := request{method: method, path: path}
			if op.RequestBody != nil {
				r.body = "{}"
			}
			if scope == public {
				w.do(r).want(http.StatusOK)
				continue
			}
			a := w.do(r).want(http.StatusUnauthorized, "token")
			if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer") {
				w.t.Errorf("%s %s: 401 without WWW-Authenticate: Bearer", method, path)
			}
			for _, role := range []policies.Role{policies.RoleViewer, policies.RoleOperator, policies.RoleSecurity, policies.RoleAdmin} {
				r.role = role
				a := w.do(r)
				allowed := role.Scopes().Allows(scope)
				if refused := a.status == http.StatusForbidden; refused == allowed {
					w.t.Errorf("%s %s as %s: status %d, and the scope is %s", method, path, role, a.status, scope)
				} else if refused && !strings.Contains(a.at("detail").(string), string(scope)) {
					w.t.Errorf("%s %s as %s: the refusal does not name the scope: %s", method, path, role, a.text)
				}
			}
		}
	}
}

func refusalIsOnRecord(w *world) {
	w.do(request{role: policies.RoleViewer, method: http.MethodDelete, path: "/anchors/root%0A1"}).want(http.StatusForbidden)
	w.get("/audit?action=act.refused").want(http.StatusOK).
		has("items.0.actor", "operator:viewer").has("items.0.subject", "act:DELETE /api/v1/anchors/root%0A1").has("items.1", nil)
}

func badTokens(w *world) {
	good := w.tokens[policies.RoleAdmin]
	w.post("/tokens", `{"name":"gone","scopes":["read"]}`).want(http.StatusCreated)
	gone := w.post("/tokens", `{"name":"gone-2","scopes":["read"]}`).want(http.StatusCreated).at("token").(string)
	w.delete("/tokens/gone-2").want(http.StatusNoContent)
	for name, header := range map[string]string{
		"no scheme":            good,
		"another scheme":       "Basic " + good,
		"a changed token":      "Bearer " + good[:len(good)-1] + "_",
		"another id scope":     "Bearer mst_0ne00000000_" + strings.Repeat("A", 43),
		"a revoked token":      "Bearer " + gone,
		"an endless token":     "Bearer mst_" + idScope + "_" + strings.Repeat("A", 4096),
		"a token with a space": "Bearer " + good + " " + good,
	} {
		w.run(name, func(w *world) {
			r := request{method: http.MethodGet, path: "/hubs", header: http.Header{"Authorization": {header}}}
			w.do(r).want(http.StatusUnauthorized, "token")
		})
	}
	lower := request{method: http.MethodGet, path: "/hubs", header: http.Header{"Authorization": {"bearer " + good}}}
	w.do(lower).want(http.StatusOK)
	w.advance(2 * 60 * 60 * 1e9)
	w.get("/hubs").want(http.StatusUnauthorized, "token") // expired
}

func TestEveryKindOfFaultHasAStatus(t *testing.T) {
	for k := fault.Internal; k <= fault.Unavailable; k++ {
		p := problemOf(t.Context(), fault.New(k, "a-rule", "a sentence"))
		if p.Status < 400 || p.Title == "" {
			t.Errorf("kind %s is answered %d %q", k, p.Status, p.Title)
		}
		if secret := k == fault.Internal; secret == strings.Contains(p.Detail, "sentence") {
			t.Errorf("kind %s is answered %q", k, p.Detail)
		}
	}
}

func TestAPanicIsAnInternalProblemAndCounted(t *testing.T) {
	w := bareWorld(t) // no engine to ask
	a := w.get("/hubs").want(http.StatusInternalServerError)
	if w.panics.Load() != 1 || a.header.Get("Cache-Control") != "no-store" || a.at("traceId") == nil {
		t.Errorf("panics %d, %v %s", w.panics.Load(), a.header, a.text)
	}
}

package certificates_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/passmuster/muster/api/certificates"
	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/sqlite"
)

const (
	idScope = "0ne004A1B2C"
	folder  = "/subscriptions/s1/resourceGroups/g1/providers/Microsoft.Devices/provisioningServices/m1/certificates"
	version = "?api-version=2022-02-05"
)

// world is the door over TLS, on a real engine and SQLite.
type world struct {
	t       testing.TB
	engine  *provisioning.Engine
	server  *httptest.Server
	now     time.Time
	factory *testkit.Family

	reader, security string // tokens
}

func newWorld(t testing.TB, o certificates.Options) *world {
	t.Helper()
	w := &world{t: t, now: testkit.Now(), factory: testkit.Chain(t, "root > line-1 > dev-1; other-root")}
	w.engine = w.open(idScope)
	w.serve(o, wire.Tenant{Engine: w.engine})
	w.reader = w.token(w.engine, "rita", "read")
	w.security = w.token(w.engine, "ann", "read security")
	return w
}

func (w *world) serve(o certificates.Options, tenants ...wire.Tenant) {
	settings := wire.Settings{Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return w.now }}
	w.server = httptest.NewTLSServer(certificates.New(must(wire.NewTenants(tenants...)), settings, o))
	w.t.Cleanup(w.server.Close)
}

func (w *world) open(scope string) *provisioning.Engine {
	dir := w.t.TempDir()
	database := must(sqlite.Open(w.t.Context(), filepath.Join(dir, "muster.db"), sqlite.Options{}))
	w.t.Cleanup(func() {
		if err := database.Close(); err != nil {
			w.t.Error(err)
		}
	})
	if err := database.Migrate(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	kek := must(seal.CreateKEK(filepath.Join(dir, "kek.pem"), nil))
	return provisioning.New(provisioning.Config{
		IDScope: scope, Store: store.New(database).Provisioning(), Box: seal.NewBox(kek),
		Now: func() time.Time { return w.now }, Log: slog.New(slog.DiscardHandler),
	})
}

func (w *world) token(e *provisioning.Engine, name, scopes string) string {
	w.t.Helper()
	text, _, err := e.CreateToken(w.t.Context(), "operator:test", name, must(policies.ParseScopes(scopes)), time.Hour)
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

// certificate is an answer, as its clients read it.
type certificate struct {
	ID, Name, Type, ETag string
	Properties           struct {
		Subject, Expiry, Thumbprint, Created, Updated, VerificationCode string
		IsVerified                                                      bool
		Certificate                                                     []byte
	}
}

type answer struct {
	status int
	header http.Header
	body   string
}

// as decodes an answer that has to have a status.
func as[T any](t testing.TB, a answer, status int) (v T) {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return v
}

// code is the code of an error answer.
func (a answer) code() string {
	var body struct {
		Error struct{ Code, Message string }
	}
	if json.Unmarshal([]byte(a.body), &body) != nil || body.Error.Message == "" {
		return "not an error body"
	}
	return body.Error.Code
}

// ask is one call; header is names and values in turn.
func (w *world) ask(method, path, token, body string, header ...string) answer {
	w.t.Helper()
	req := must(http.NewRequestWithContext(w.t.Context(), method, w.server.URL+path, bytes.NewReader([]byte(body))))
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json; charset=utf-8")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := w.server.Client().Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	return answer{res.StatusCode, res.Header, string(must(io.ReadAll(res.Body)))}
}

// upload is the body of an upload.
func upload(text string, verified bool) string {
	body := map[string]any{"certificate": text}
	if verified {
		body["isVerified"] = true
	}
	return string(must(json.Marshal(map[string]any{"properties": body})))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

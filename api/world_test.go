package api_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/passmuster/muster/api"
	"github.com/passmuster/muster/api/internal/apitest"
	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

const (
	idScope  = "0ne004A1B2C"
	operator = "operator:ann"
	preview  = "?api-version=2025-07-01-preview"
	stable   = "?api-version=2021-06-01"
	hubName  = "hub-1.example.net"
)

// world is a server as devices meet it: real TLS on loopback, the real engine, SQLite.
type world struct {
	t         testing.TB
	engine    *provisioning.Engine
	authority *ca.Authority
	down      func() error // closes the database, once
	devices   string       // base URL of the TLS listener
	pki       string       // base URL of the plain one
	factory   *testkit.Family
	groupKey  []byte
	issuing   ca.Issuer
	upstreams map[string]ca.Upstream
	clock     atomic.Int64
	log       *apitest.Lines

	mu       sync.Mutex
	observed []api.Observation
	ocsp     map[string]int // answers by status
}

// newWorld has an X.509 group "line-3" below the verified anchor "root", a group of
// symmetric keys "sas-line", both with certificates, and one built-in hub. It is the
// test's own, so tests run beside each other.
func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldBehind(t, nil)
}

// newWorldBehind is newWorld with authorities elsewhere that may be adopted.
func newWorldBehind(t *testing.T, upstreams map[string]ca.Upstream) *world {
	t.Helper()
	t.Parallel()
	w := &world{t: t, upstreams: upstreams, groupKey: bytes.Repeat([]byte{7}, 32), log: &apitest.Lines{}}
	w.clock.Store(testkit.Now().UnixNano())
	w.factory = testkit.Chain(t, "root > line-3 > dev-1; line-3 > dev-2; line-3 > dev-9 [expired]; stranger > dev-3")
	w.open()
	w.serve()
	ctx := t.Context()
	must(w.engine.UploadAnchor(ctx, operator, "root", w.factory.Get("root").PEM(), true, provisioning.Precondition{}))
	must(w.engine.PutHub(ctx, operator, provisioning.Hub{Name: hubName, Driver: provisioning.BuiltIn, Weight: 1}, provisioning.Precondition{}))
	if _, err := w.engine.Profile(ctx, "default"); fault.Is(err, fault.NotFound) {
		must(w.engine.PutProfile(ctx, operator, policies.DefaultProfile(), provisioning.Precondition{}))
	}
	w.put(provisioning.Group, "line-3", provisioning.RoleSigning, provisioning.SlotDraft{Certificate: w.factory.Get("line-3").PEM()})
	w.put(provisioning.Group, "sas-line", provisioning.RoleKey, provisioning.SlotDraft{Key: w.groupKey})
	w.advance(time.Second)
	return w
}

func (w *world) open() {
	w.t.Helper()
	s := apitest.OpenBehind(w.t, w.upstreams, idScope, w.now)
	w.engine, w.authority, w.issuing, w.down = s.Engine, s.Authority, s.Issuing, s.Close
}

func (w *world) serve() {
	w.t.Helper()
	log := slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	settings := api.Settings{Log: log, Now: w.now, Observe: func(o api.Observation) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.observed = append(w.observed, o)
	}}
	tenant := api.Tenant{Engine: w.engine, Authority: w.authority}
	own := testkit.SelfSigned(w.t, "muster.example.net").TLS()
	device := api.NewServer(must(api.NewDoors(settings, api.Options{}, tenant)).Shared(), log)
	device.TLSConfig = api.DeviceTLS(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &own, nil })
	w.devices = "https://" + start(w.t, device, func(s *http.Server, l net.Listener) error { return s.ServeTLS(l, "", "") })
	w.pki = "http://" + start(w.t, api.NewServer(must(api.PKI(settings, func(status string) { w.answered(status) }, tenant)), log), (*http.Server).Serve)
}

func start(t testing.TB, s *http.Server, serve func(*http.Server, net.Listener) error) (address string) {
	t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = serve(s, l)
	}()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return l.Addr().String()
}

func (w *world) now() time.Time { return time.Unix(0, w.clock.Load()).UTC() }

func (w *world) advance(d time.Duration) { w.clock.Add(int64(d)) }

// put writes an entry that issues certificates, its primary slot filled.
func (w *world) put(kind provisioning.Kind, id string, role provisioning.Role, primary provisioning.SlotDraft) {
	w.t.Helper()
	draft := provisioning.Draft{
		Owner: provisioning.Owner{Kind: kind, ID: must(verify.ParseRegistrationID(id))}, Spelled: id, Enabled: true,
		Attestation: provisioning.Attestation{Role: role}, Allocation: policies.Hashed,
		Reprovision: policies.DefaultReprovisionPolicy(), Profile: "default",
	}
	draft.Attestation.Slots[rotation.Primary] = primary
	_, _, err := w.engine.Put(w.t.Context(), operator, draft, provisioning.Precondition{Any: w.has(draft.Owner)})
	check(w.t, err)
}

func (w *world) has(o provisioning.Owner) bool {
	_, err := w.engine.Enrollment(w.t.Context(), o)
	return err == nil
}

func (w *world) enable(kind provisioning.Kind, id string, enabled bool) {
	w.t.Helper()
	o := provisioning.Owner{Kind: kind, ID: must(verify.ParseRegistrationID(id))}
	_, err := w.engine.SetEnabled(w.t.Context(), operator, o, enabled, provisioning.Precondition{})
	check(w.t, err)
	w.advance(time.Second)
}

// sas is the token of a device of the group "sas-line".
func (w *world) sas(id string) string {
	return testkit.SAS(w.deviceKey(id), idScope, id, w.now().Add(time.Hour))
}

func (w *world) deviceKey(id string) []byte {
	return verify.DeriveKey(verify.NewSecret(w.groupKey), id).Reveal()
}

// lastObserved is the last request that was answered.
func (w *world) lastObserved() api.Observation {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.observed) == 0 {
		return api.Observation{}
	}
	return w.observed[len(w.observed)-1]
}

// client is a device, with a certificate or without; it keeps its connection.
func (w *world) client(own *tls.Certificate) *http.Client {
	config := &tls.Config{InsecureSkipVerify: true}
	if own != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil }
	}
	transport := &http.Transport{TLSClientConfig: config, DisableCompression: true}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (w *world) deviceCertificate(name string) *tls.Certificate {
	c := w.factory.Get(name).TLS()
	return &c
}

// request is one call of a device. Its path is put behind the listener's address
// unread, so that a test may write anything.
type request struct {
	method, path string
	header       map[string]string
	body         string
}

func (r request) with(name, value string) request {
	header := map[string]string{name: value}
	for n, v := range r.header {
		if _, ok := header[n]; !ok {
			header[n] = v
		}
	}
	r.header = header
	return r
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (w *world) do(client *http.Client, base string, r request) answer {
	w.t.Helper()
	req := must(http.NewRequestWithContext(context.WithoutCancel(w.t.Context()), r.method, base+r.path, strings.NewReader(r.body)))
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	res, err := client.Do(req)
	check(w.t, err)
	defer res.Body.Close()
	text := must(io.ReadAll(res.Body))
	return answer{res.StatusCode, res.Header, string(text)}
}

// dps is a call of the device API on one registration.
func dps(method, id, rest, body string) request {
	r := request{method: method, path: "/" + idScope + "/registrations/" + id + rest, body: body}
	if body != "" {
		r = r.with("Content-Type", "application/json; charset=utf-8")
	}
	return r
}

// enroll is a call of EST with a request in base64.
func enroll(operation string, csr []byte) request {
	return request{method: http.MethodPost, path: "/.well-known/est/" + operation, body: base64.StdEncoding.EncodeToString(csr)}.
		with("Content-Type", "application/pkcs10")
}

func basicAuth(id string, key []byte) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+base64.StdEncoding.EncodeToString(key)))
}

func newKey() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

func csrBase64(t testing.TB, key crypto.Signer, cn string) string {
	return base64.StdEncoding.EncodeToString(testkit.CSR(t, key, cn))
}

// credential is what a device holds after a certificate was issued to it.
func credential(t testing.TB, key crypto.Signer, chain ...[]byte) *tls.Certificate {
	t.Helper()
	leaf := must(x509.ParseCertificate(chain[0]))
	return &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}
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

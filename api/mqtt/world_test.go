package mqtt

import (
	"bytes"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/passmuster/muster/api/internal/apitest"
	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

const (
	idScope  = "0ne004A1B2C"
	operator = "operator:ann"
	stable   = "/api-version=2019-03-31&ClientVersion=azure-iot-provisioning-device%2F1.9.1"
	preview  = "/api-version=2025-07-01-preview"
	hubName  = "hub-1.example.net"
)

// world is the door over the real engine on SQLite.
type world struct {
	t        testing.TB
	engine   *provisioning.Engine
	tenants  wire.Tenants
	settings wire.Settings
	server   *Server
	factory  *testkit.Family
	groupKey []byte
	clock    atomic.Int64
	log      apitest.Lines

	tls, webSocket string // addresses

	mu       sync.Mutex
	observed []wire.Observation
	panics   int
}

// newWorld has an X.509 group "line-3" below the verified anchor "root", and a group of
// symmetric keys "sas-line". It does not listen.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, groupKey: bytes.Repeat([]byte{7}, 32)}
	w.clock.Store(testkit.Now().UnixNano())
	w.factory = testkit.Chain(t, "root > line-3 > dev-1; stranger > dev-3")
	w.open()
	ctx := t.Context()
	must(w.engine.UploadAnchor(ctx, operator, "root", w.factory.Get("root").PEM(), true, provisioning.Precondition{}))
	must(w.engine.PutHub(ctx, operator, provisioning.Hub{Name: hubName, Driver: provisioning.BuiltIn, Weight: 1}, provisioning.Precondition{}))
	must(w.engine.PutProfile(ctx, operator, policies.DefaultProfile(), provisioning.Precondition{}))
	w.put("line-3", provisioning.RoleSigning, provisioning.SlotDraft{Certificate: w.factory.Get("line-3").PEM()})
	w.put("sas-line", provisioning.RoleKey, provisioning.SlotDraft{Key: w.groupKey})
	w.advance(time.Second)
	w.settings = wire.Settings{
		Log: slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Now: w.now,
		Observe: func(o wire.Observation) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.observed = append(w.observed, o)
		},
		Panicked: func(string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.panics++
		},
	}
	w.serve(Options{})
	return w
}

func (w *world) open() {
	w.t.Helper()
	s := apitest.Open(w.t, idScope, w.now)
	w.engine = s.Engine
	w.tenants = must(wire.NewTenants(wire.Tenant{Engine: s.Engine, Authority: s.Authority}))
}

// serve makes a server that takes the place of the one before.
func (w *world) serve(o Options) {
	w.server = New(w.tenants, w.settings, o)
	w.t.Cleanup(w.server.Close)
}

// listen opens both transports on loopback.
func (w *world) listen() *world {
	w.t.Helper()
	own := testkit.SelfSigned(w.t, "muster.example.net").TLS()
	config := wire.DeviceTLS(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &own, nil })
	server := w.server
	w.tls = w.start(config, server.Serve, func() error { server.Close(); return nil })
	upgraded := wire.NewServer(server.WebSocket(), slog.New(slog.DiscardHandler))
	w.webSocket = w.start(config, upgraded.Serve, upgraded.Close)
	return w
}

func (w *world) start(config *tls.Config, serve func(net.Listener) error, stop func() error) (address string) {
	w.t.Helper()
	l := tls.NewListener(must(net.Listen("tcp", "127.0.0.1:0")), config)
	served := make(chan error, 1)
	go func() { served <- serve(l) }()
	w.t.Cleanup(func() {
		check(w.t, stop())
		if err := <-served; err != nil && !errors.Is(err, http.ErrServerClosed) {
			w.t.Error(err)
		}
	})
	return l.Addr().String()
}

func (w *world) now() time.Time { return time.Unix(0, w.clock.Load()).UTC() }

func (w *world) advance(d time.Duration) { w.clock.Add(int64(d)) }

// put writes a group that issues certificates, its primary slot filled.
func (w *world) put(id string, role provisioning.Role, primary provisioning.SlotDraft) {
	w.t.Helper()
	draft := provisioning.Draft{
		Owner: provisioning.Owner{Kind: provisioning.Group, ID: must(verify.ParseRegistrationID(id))}, Spelled: id, Enabled: true,
		Attestation: provisioning.Attestation{Role: role}, Allocation: policies.Hashed,
		Reprovision: policies.DefaultReprovisionPolicy(), Profile: "default",
	}
	draft.Attestation.Slots[rotation.Primary] = primary
	_, _, err := w.engine.Put(w.t.Context(), operator, draft, provisioning.Precondition{})
	check(w.t, err)
}

func (w *world) disable(group string) {
	w.t.Helper()
	o := provisioning.Owner{Kind: provisioning.Group, ID: must(verify.ParseRegistrationID(group))}
	_, err := w.engine.SetEnabled(w.t.Context(), operator, o, false, provisioning.Precondition{})
	check(w.t, err)
	w.advance(time.Second)
}

// sas is the token of a device of the group "sas-line".
func (w *world) sas(id string, opts ...testkit.SASOption) string {
	return testkit.SAS(verify.DeriveKey(verify.NewSecret(w.groupKey), id).Reveal(), idScope, id, w.now().Add(time.Hour), opts...)
}

// answered counts what was observed of a method with a status.
func (w *world) answered(method string, code int) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.observed {
		if o.Door == "mqtt" && o.Method == method && o.Code == code {
			n++
		}
	}
	return n
}

// connections waits until so many are open.
func (w *world) connections(want int) {
	w.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		w.server.mu.Lock()
		open := len(w.server.open)
		w.server.mu.Unlock()
		if open == want {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%d connections are open, want %d", open, want)
		}
		time.Sleep(time.Millisecond)
	}
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

package api_test

import (
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/passmuster/muster/api"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

func TestTheListenerForDevices(t *testing.T) {
	w := newWorld(t)
	t.Run("bounds headers", func(t *testing.T) { headersAreBounded(t, w) })
	t.Run("refuses old TLS and resumes nothing", func(t *testing.T) { onlyNewTLS(t, w) })
	t.Run("answers what is not HTTP and cuts it", func(t *testing.T) { onlyHTTP(t, w) })
}

func headersAreBounded(t *testing.T, w *world) {
	fits := dps("PUT", "dev-1", "/register"+stable, `{"registrationId":"dev-1"}`).with("X-Much", strings.Repeat("x", 60<<10))
	want(t, w.do(w.client(w.deviceCertificate("dev-1")), w.devices, fits), http.StatusAccepted)
	want(t, w.do(w.client(nil), w.devices, fits.with("X-More", strings.Repeat("x", 10<<10))), http.StatusRequestHeaderFieldsTooLarge)
}

func onlyNewTLS(t *testing.T, w *world) {
	address := strings.TrimPrefix(w.devices, "https://")
	dial := func(c *tls.Config) (tls.ConnectionState, error) {
		c.InsecureSkipVerify = true
		conn, err := tls.Dial("tcp", address, c)
		if err != nil {
			return tls.ConnectionState{}, err
		}
		defer conn.Close()
		return conn.ConnectionState(), nil
	}
	refused := map[string]*tls.Config{
		"TLS 1.1":         {MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
		"a suite of CBC":  {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}},
		"HTTP/2 and only": {NextProtos: []string{"h2"}},
	}
	for name, c := range refused {
		if _, err := dial(c); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cache := tls.NewLRUClientSessionCache(1)
		for range 2 {
			state, err := dial(&tls.Config{MaxVersion: version, ClientSessionCache: cache})
			check(t, err)
			if state.Version != version || state.DidResume {
				t.Errorf("version %x, resumed %t", state.Version, state.DidResume)
			}
		}
	}
}

func onlyHTTP(t *testing.T, w *world) {
	conn := must(tls.Dial("tcp", strings.TrimPrefix(w.devices, "https://"), &tls.Config{InsecureSkipVerify: true}))
	defer func(c net.Conn) { _ = c.Close() }(conn)
	must(conn.Write([]byte("\x00\x01\x02\r\n\r\n")))
	response := make([]byte, 512)
	n := must(conn.Read(response))
	if !strings.HasPrefix(string(response[:n]), "HTTP/1.1 400") {
		t.Errorf("answer %q", response[:n])
	}
}

func TestAnIDScopeIsNoFixedWord(t *testing.T) {
	tenant := func(scope string) api.Tenant {
		return api.Tenant{Engine: provisioning.New(provisioning.Config{IDScope: scope})}
	}
	tests := map[string]struct {
		tenants []api.Tenant
		good    bool
	}{
		"as Azure writes it":         {[]api.Tenant{tenant("0ne004A1B2C")}, true},
		"two":                        {[]api.Tenant{tenant("0ne1"), tenant("0ne2")}, true},
		"the same twice, case apart": {[]api.Tenant{tenant("0neA"), tenant("0NEa")}, false},
		"a word of the service API":  {[]api.Tenant{tenant("enrollmentGroups")}, false},
		"an operation of EST":        {[]api.Tenant{tenant("cacerts")}, false},
		"the folder of EST":          {[]api.Tenant{tenant(".well-known")}, false},
		"nothing":                    {[]api.Tenant{tenant("")}, false},
		"a slash":                    {[]api.Tenant{tenant("a/b")}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := api.NewDoors(api.Settings{}, api.Options{}, tt.tenants...)
			if good := err == nil; good != tt.good || !good && fault.RuleOf(err) != "id-scope" {
				t.Errorf("error %v", err)
			}
			if _, err := api.PKI(api.Settings{}, nil, tt.tenants...); (err == nil) != tt.good {
				t.Errorf("PKI: error %v", err)
			}
		})
	}
}

package est

import (
	"crypto/tls"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
)

// handshake is both ends' view of one connection of a TLS version.
func handshake(t *testing.T, version uint16) (client, server tls.ConnectionState) {
	t.Helper()
	seen := make(chan tls.ConnectionState, 1)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- *r.TLS }))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{testkit.SelfSigned(t, "localhost").TLS()}}
	s.StartTLS()
	defer s.Close()
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version}}}
	answer, err := c.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	c.CloseIdleConnections()
	return *answer.TLS, <-seen
}

func TestAChallengePasswordIsTheChannelBindingOfItsConnection(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString
	exporter := func(c tls.ConnectionState) string {
		out, err := c.ExportKeyingMaterial(exporterLabel, []byte{}, exporterLength)
		if err != nil {
			t.Fatal(err)
		}
		return b64(out)
	}
	client12, server12 := handshake(t, tls.VersionTLS12)
	client13, server13 := handshake(t, tls.VersionTLS13)
	tests := map[string]struct {
		password   string
		connection *tls.ConnectionState
		good       bool
	}{
		"tls-unique of TLS 1.2":                        {b64(client12.TLSUnique), &server12, true},
		"tls-exporter of TLS 1.2":                      {exporter(client12), &server12, true},
		"tls-exporter of TLS 1.3":                      {exporter(client13), &server13, true},
		"that of another connection":                   {exporter(client12), &server13, false},
		"what a person typed":                          {"secret", &server13, false},
		"nothing":                                      {"", &server13, false},
		"nothing, where there is no tls-unique":        {b64(nil), &server13, false},
		"a line break behind it":                       {b64(client12.TLSUnique) + "\n", &server12, false},
		"anything, on a connection that is none":       {b64(client12.TLSUnique), nil, false},
		"tls-unique not in base64":                     {string(client12.TLSUnique), &server12, false},
		"the beginning of what it should be":           {exporter(client13)[:20], &server13, false},
		"tls-unique of TLS 1.2, in TLS 1.3":            {b64(client12.TLSUnique), &server13, false},
		"another label's keying material, in TLS 1.3":  {b64(server13.TLSUnique), &server13, false},
		"the right one with the wrong padding removed": {exporter(client13)[:43], &server13, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := checkLinkage(tt.password, tt.connection)
			if (err == nil) != tt.good || err != nil && fault.RuleOf(err) != "challenge-password" {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestWhatIsUnderWayIsAccepted(t *testing.T) {
	busy := fault.New(fault.Unavailable, "x", "The certificate is being made.").Later(7 * time.Second)
	for name, tt := range map[string]struct {
		err    error
		status int
	}{
		"unavailable":                      {busy, http.StatusServiceUnavailable},
		"unavailable, and under way":       {busy.Accepted(), http.StatusAccepted},
		"refused, whatever else it may be": {fault.New(fault.Unauthenticated, "x", "X.").Accepted(), http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			fail(w, httptest.NewRequest(http.MethodPost, "/", nil), tt.err)
			if again := w.Header().Get("Retry-After"); w.Code != tt.status || (again == "") == (tt.status != http.StatusUnauthorized) {
				t.Errorf("%d, Retry-After %q", w.Code, again)
			}
		})
	}
}

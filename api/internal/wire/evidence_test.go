package wire

import (
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"testing"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
)

func TestCertificatesOfAConnection(t *testing.T) {
	chain := testkit.Chain(t, "root > mid > dev-1").Get("dev-1").Chain()
	var eleven []*x509.Certificate
	for range 11 {
		eleven = append(eleven, chain[0])
	}
	tests := map[string]struct {
		connection *tls.ConnectionState
		length     int
		rule       string
	}{
		"plain HTTP":               {nil, 0, ""},
		"no certificate":           {&tls.ConnectionState{}, 0, ""},
		"a leaf and what is above": {&tls.ConnectionState{PeerCertificates: chain}, 2, ""},
		"ten":                      {&tls.ConnectionState{PeerCertificates: eleven[:10]}, 10, ""},
		"eleven":                   {&tls.ConnectionState{PeerCertificates: eleven}, 0, "chain-too-long"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r = r.WithContext(WithConnection(r.Context(), nil))
			r.TLS = tt.connection
			ev, err := Certificates(r)
			if len(ev.Chain) != tt.length || fault.RuleOf(err) != tt.rule {
				t.Errorf("%d certificates, %v", len(ev.Chain), err)
			}
			if again, _ := Certificates(r); ev.Connection != again.Connection || (ev.Connection == nil) != (tt.length == 0) {
				t.Errorf("%p and %p remember one connection", ev.Connection, again.Connection)
			}
		})
	}
}

package pki

import (
	"crypto/x509"
	"net/http"
	"strings"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
)

// issuer finds an issuer and the authority it belongs to.
func (h handler) issuer(id ca.IssuerID) (*ca.Authority, *x509.Certificate, error) {
	for _, t := range h.tenants.All() {
		cert, err := t.Authority.IssuerCertificate(id)
		if !fault.Is(err, fault.NotFound) {
			return t.Authority, cert, err
		}
	}
	return nil, nil, notHere()
}

// fail answers an error as one sentence of text, or in OCSP's way; all of them but 404, 405
// and 503 are ours.
func (h handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	if rule := fault.RuleOf(err); isOCSP(r) && rule != wire.RuleMethodNotAllowed && rule != wire.RuleNoRoute {
		h.failOCSP(w, err)
		return
	}
	status, text := http.StatusInternalServerError, "Something went wrong here."
	switch {
	case fault.RuleOf(err) == wire.RuleMethodNotAllowed:
		status, text = http.StatusMethodNotAllowed, "This address does not have that method."
	case fault.Is(err, fault.NotFound):
		status, text = http.StatusNotFound, "There is no such file."
	case fault.Is(err, fault.Unavailable):
		status, text = http.StatusServiceUnavailable, "Try again later."
		w.Header().Set("Retry-After", wire.RetryAfter(err))
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Request-Id", wire.TraceID(r))
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n"))
}

func isOCSP(r *http.Request) bool {
	return r.URL.Path == ocspPath || strings.HasPrefix(r.URL.Path, ocspPath+"/")
}

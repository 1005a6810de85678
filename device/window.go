package device

import (
	"crypto/x509"
	"encoding/json"
	"io"
	"time"
)

// window is when a server advises to renew: a finished operation may carry it as its
// payload, {"renewal":{"from":…,"by":…}}.
type window struct{ From, By time.Time }

// advised reads the window for a certificate. Whatever else the payload is, it is a
// webhook's and none of ours; a window outside the certificate's life is no advice.
func advised(payload json.RawMessage, leaf *x509.Certificate) (w window, ok bool) {
	var p struct{ Renewal window }
	if len(payload) == 0 || json.Unmarshal(payload, &p) != nil {
		return window{}, false
	}
	w = p.Renewal
	return w, w.From.After(leaf.NotBefore) && !w.By.Before(w.From) && w.By.Before(leaf.NotAfter)
}

// draw picks a moment of the window, so that devices made in one batch do not come back as
// one.
func (w window) draw(random io.Reader) (time.Time, error) {
	u, err := unit(random)
	return w.From.Add(time.Duration(u * float64(w.By.Sub(w.From)))), err
}

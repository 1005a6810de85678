package provisioning

import (
	"encoding/pem"
	"strings"
	"time"

	"github.com/passmuster/muster/ca"
)

// twinCertificate is where a device on the built-in hub finds its next certificate.
const twinCertificate = "certificate"

// announceInTwin tells a device on the built-in hub that a certificate is there for it: its
// SHA-256 as thumbprint, notAfter, and as pem the certificate and those above it but the
// root, where the desired properties stay within 8 KB with it.
func announceInTwin(tx Tx, reg Registration, c ca.Certificate, above [][]byte, now time.Time) error {
	note := map[string]any{"thumbprint": c.Thumbprint.String(), "notAfter": c.NotAfter.UTC().Format(time.RFC3339), "pem": shownPEM(c.DER, above)}
	words := map[string]any{twinCertificate: note}
	said, err := sayInTwin(tx, reg, words, maxDesired, now)
	if said || err != nil {
		return err
	}
	delete(note, "pem")
	_, err = sayInTwin(tx, reg, words, maxTwinDesired, now)
	return err
}

// withdrawFromTwin takes the announcement back.
func withdrawFromTwin(tx Tx, reg Registration, now time.Time) error {
	_, err := sayInTwin(tx, reg, map[string]any{twinCertificate: nil}, maxTwinDesired, now)
	return err
}

// shownPEM is what a client shows: the certificate and those above it but the root.
func shownPEM(leaf []byte, above [][]byte) string {
	var b strings.Builder
	chain := append([][]byte{leaf}, above[:max(0, len(above)-1)]...)
	for _, der := range chain {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // a Builder does not fail
	}
	return b.String()
}

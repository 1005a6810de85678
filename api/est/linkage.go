package est

import (
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"

	"github.com/passmuster/muster/internal/fault"
)

// exporterLabel and exporterLength are those of the channel binding tls-exporter
// (RFC 9266 §2); its context is there and empty.
const (
	exporterLabel  = "EXPORTER-Channel-Binding"
	exporterLength = 32
)

// checkLinkage holds a challenge password to the TLS connection that it came on (RFC 7030
// §3.5): base64 of tls-unique or, as TLS 1.3 has none, of tls-exporter. Anything else is
// refused, such as a password a person has typed: it would prove nothing.
func checkLinkage(password string, connection *tls.ConnectionState) error {
	if connection != nil {
		bindings := [][]byte{connection.TLSUnique}
		// An error means that this connection has no such binding: TLS 1.2 without
		// extended master secret.
		if exported, err := connection.ExportKeyingMaterial(exporterLabel, []byte{}, exporterLength); err == nil {
			bindings = append(bindings, exported)
		}
		for _, b := range bindings {
			text := base64.StdEncoding.EncodeToString(b)
			if len(b) > 0 && subtle.ConstantTimeCompare([]byte(text), []byte(password)) == 1 {
				return nil
			}
		}
	}
	return fault.New(fault.Malformed, "challenge-password", "The challenge password of the request is not the channel binding of this TLS connection (RFC 7030 section 3.5); leave it out, or make the request on this connection.")
}

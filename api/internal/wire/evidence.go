package wire

import (
	"context"
	"net"
	"net/http"

	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

type connectionKey struct{}

// WithConnection gives a connection what it remembers between requests: the ConnContext
// of an http.Server.
func WithConnection(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, new(provisioning.Connection))
}

// Certificates is the evidence of the TLS connection: the client's certificates as
// sent, none of them checked yet, and the connection they came on. A client that sent none
// has no evidence, which is no error; too many are Unauthenticated (INV-C4).
func Certificates(r *http.Request) (provisioning.Evidence, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return provisioning.Evidence{}, nil
	}
	chain, err := verify.ReadChain(r.TLS.PeerCertificates)
	if err != nil {
		return provisioning.Evidence{}, err
	}
	connection, _ := r.Context().Value(connectionKey{}).(*provisioning.Connection)
	return provisioning.Evidence{Chain: chain, Connection: connection}, nil
}

package wire

import (
	"context"
	"net"
	"net/http"

	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

type memoKey struct{}

// WithMemo gives a connection the memo that spares its later requests the signatures
// of the first: the ConnContext of an http.Server.
func WithMemo(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, memoKey{}, new(verify.Memo))
}

// Certificates is the evidence of the TLS connection: the client's certificates as
// sent, none of them checked yet, and the connection's memo. A client that sent none
// has no evidence, which is no error; too many are Unauthenticated (INV-C4).
func Certificates(r *http.Request) (provisioning.Evidence, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return provisioning.Evidence{}, nil
	}
	chain, err := verify.ReadChain(r.TLS.PeerCertificates)
	if err != nil {
		return provisioning.Evidence{}, err
	}
	memo, _ := r.Context().Value(memoKey{}).(*verify.Memo)
	return provisioning.Evidence{Chain: chain, Memo: memo}, nil
}

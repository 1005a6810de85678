package ca

import (
	"context"
	"crypto"

	"github.com/passmuster/muster/policies"
)

// Keys makes and opens the private keys of issuers. A URI names a key for its keeper
// and is what a row holds; it never contains the key or an absolute path (INV-K1).
type Keys interface {
	// Create makes a key that is durable when it returns. The name is an IssuerID. An
	// empty URI says that the key is not kept for Open.
	Create(ctx context.Context, name string, kt policies.KeyType) (uri string, signer crypto.Signer, err error)
	// Open returns a signer that is safe for concurrent use and answers in bounded time. An
	// absent key is fault.NotFound; one whose keeper is away is fault.Unavailable.
	Open(ctx context.Context, uri string) (crypto.Signer, error)
}

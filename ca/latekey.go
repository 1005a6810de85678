package ca

import (
	"context"
	"crypto"
	"io"
	"sync/atomic"

	"github.com/passmuster/muster/internal/fault"
)

// lateKey stands for a key that did not open when its issuer was loaded: mostly its keeper was
// away. Everything that needs no signature goes on; the first signature that can opens it.
type lateKey struct {
	keys   Keys
	uri    string
	public crypto.PublicKey // of the issuer's certificate
	opened atomic.Pointer[crypto.Signer]
}

// Public implements crypto.Signer.
func (k *lateKey) Public() crypto.PublicKey { return k.public }

// Sign implements crypto.Signer.
func (k *lateKey) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	// A signature has no context: how long this takes is bounded by Keys.
	signer, err := k.open(context.Background())
	if err != nil {
		return nil, err
	}
	return signer.Sign(random, digest, opts)
}

func (k *lateKey) open(ctx context.Context) (crypto.Signer, error) {
	if signer := k.opened.Load(); signer != nil {
		return *signer, nil
	}
	signer, err := k.keys.Open(ctx, k.uri)
	if err != nil {
		return nil, err
	}
	if !belongs(signer, k.public) {
		return nil, otherKey()
	}
	k.opened.Store(&signer)
	return signer, nil
}

func otherKey() *fault.Error {
	return fault.New(fault.Conflict, "issuer-key-mismatch", "The key does not belong to the issuer's certificate.")
}

func belongs(signer crypto.Signer, public crypto.PublicKey) bool {
	own, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && own.Equal(public)
}

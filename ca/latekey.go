package ca

import (
	"context"
	"crypto"
	"errors"
	"io"
	"sync/atomic"
)

// lateKey stands for a key whose keeper was away when its issuer was loaded. Everything
// that needs no signature goes on; the first signature after the keeper is back opens it.
type lateKey struct {
	keys   Keys
	uri    string
	public crypto.PublicKey // of the issuer's certificate
	opened atomic.Pointer[crypto.Signer]
}

var errOtherKey = errors.New("the key does not belong to the issuer's certificate")

// Public implements crypto.Signer.
func (k *lateKey) Public() crypto.PublicKey { return k.public }

// Sign implements crypto.Signer.
func (k *lateKey) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if signer := k.opened.Load(); signer != nil {
		return (*signer).Sign(random, digest, opts)
	}
	// A signature has no context: how long this takes is bounded by Keys.
	signer, err := k.keys.Open(context.Background(), k.uri)
	if err != nil {
		return nil, err
	}
	if !belongs(signer, k.public) {
		return nil, errOtherKey
	}
	k.opened.Store(&signer)
	return signer.Sign(random, digest, opts)
}

func belongs(signer crypto.Signer, public crypto.PublicKey) bool {
	own, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && own.Equal(public)
}

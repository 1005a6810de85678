package verify

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"

	"github.com/passmuster/muster/internal/fault"
)

// Bounds on what a stranger may make us look at (INV-C4). An RSA check costs as its
// exponent, and the paths to try grow with the power of the certificates that share
// a name; a CA that rolls its key needs three (old, new, and one signed by the other).
const (
	maxChainLength = 10
	maxRSABits     = 8192
	maxRSAExponent = 65537
	maxSameName    = 3
)

// Link is a certificate hashed once.
type Link struct {
	Cert       *x509.Certificate
	Thumbprint Thumbprint
	KeyHash    KeyHash
}

// NewLink hashes a parsed certificate.
func NewLink(c *x509.Certificate) Link {
	return Link{Cert: c, Thumbprint: ThumbprintOf(c.Raw), KeyHash: KeyHashOf(c.RawSubjectPublicKeyInfo)}
}

// Chain is what a client sent, leaf first and the rest in whatever order. Its
// certificates are hints on the way to an anchor, never anchors (INV-C2).
type Chain []Link

// ReadChain takes the certificates a client sent: 1 to 10 of them, RSA keys of at
// most 8192 bits and exponents of at most 65537, at most 3 of one subject (INV-C4).
// Refusals are Unauthenticated with rule "chain-empty", "chain-too-long",
// "chain-key-too-large" or "chain-too-complex".
func ReadChain(certs []*x509.Certificate) (Chain, error) {
	if len(certs) > maxChainLength {
		return nil, refuse("chain-too-long", "The client sent more than 10 certificates.")
	}
	chain := make(Chain, len(certs))
	for i, c := range certs {
		chain[i] = NewLink(c)
	}
	if err := chain.check(); err != nil {
		return nil, err
	}
	return chain, nil
}

func (c Chain) check() error {
	switch {
	case len(c) == 0:
		return refuse("chain-empty", "No client certificate was sent.")
	case len(c) > maxChainLength:
		return refuse("chain-too-long", "The client sent more than 10 certificates.")
	}
	for i, l := range c {
		if key, ok := l.Cert.PublicKey.(*rsa.PublicKey); ok && (key.N.BitLen() > maxRSABits || key.E > maxRSAExponent) {
			return refuse("chain-key-too-large", "A certificate sent has an RSA key of more than 8192 bits or an exponent above 65537.")
		}
		same := 0
		for _, other := range c[i:] {
			if bytes.Equal(l.Cert.RawSubject, other.Cert.RawSubject) && l.Thumbprint != other.Thumbprint {
				same++
			}
		}
		if same >= maxSameName {
			return refuse("chain-too-complex", "More than 3 certificates of one subject were sent.")
		}
	}
	return nil
}

// Leaf is the client's own certificate; the zero Link of an empty chain.
func (c Chain) Leaf() Link {
	if len(c) == 0 {
		return Link{}
	}
	return c[0]
}

// NameHash is the SHA-256 of a raw subject or issuer name (DER), by which held CAs
// are looked up.
func NameHash(rawDN []byte) [sha256.Size]byte { return sha256.Sum256(rawDN) }

// SignedBy reports whether parent is a CA whose key really verifies child's
// signature. Names and dates do not count.
func SignedBy(child, parent Link) bool {
	return isCA(parent.Cert) && child.Cert.CheckSignatureFrom(parent.Cert) == nil
}

func refuse(rule, format string, args ...any) error {
	return fault.New(fault.Unauthenticated, rule, format, args...)
}

package testkit

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"strconv"
	"strings"
	"testing"
)

// NewKey makes a key: "p224", "p256", "p384", "p521", "ed25519", "rsa" (2048 bits) or
// "rsa=BITS". RSA is slow to make; take it where the kind is the point.
func NewKey(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	key, err := newKey(kind)
	if err != nil {
		t.Fatalf("testkit: making a key of kind %q: %v", kind, err)
	}
	return key
}

func newKey(kind string) (crypto.Signer, error) {
	switch kind {
	case "p224":
		return ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	case "p256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "p384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "p521":
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "ed25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case "rsa":
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	bits, err := strconv.Atoi(strings.TrimPrefix(kind, "rsa="))
	if err != nil {
		return nil, err
	}
	return rsa.GenerateKey(rand.Reader, bits)
}

// CSR makes a certification request, DER, with CN = cn; edits change its template
// before it is signed.
func CSR(t testing.TB, key crypto.Signer, cn string, edits ...func(*x509.CertificateRequest)) []byte {
	t.Helper()
	template := x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}
	for _, edit := range edits {
		edit(&template)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		t.Fatalf("testkit: making a request for %q: %v", cn, err)
	}
	return der
}

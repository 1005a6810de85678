package testkit

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
	"time"
)

// Entity is a key with its certificate.
type Entity struct {
	Name   string
	Key    crypto.Signer
	Cert   *x509.Certificate
	Issuer *Entity // nil where self-signed
}

// Option changes a certificate about to be made.
type Option func(*order)

type order struct {
	template x509.Certificate
	key      crypto.Signer
}

// Root makes a self-signed CA.
func Root(t testing.TB, name string, opts ...Option) *Entity {
	t.Helper()
	return issue(t, nil, name, append([]Option{AsCA()}, opts...))
}

// SelfSigned makes a device's leaf signed by its own key.
func SelfSigned(t testing.TB, name string, opts ...Option) *Entity {
	t.Helper()
	return issue(t, nil, name, opts)
}

// Issue makes a device's leaf, or with [AsCA] a CA, signed by e.
func (e *Entity) Issue(t testing.TB, name string, opts ...Option) *Entity {
	t.Helper()
	return issue(t, e, name, opts)
}

// Prove makes the verification certificate for a code: CN = code, signed by e.
func (e *Entity) Prove(t testing.TB, code string, opts ...Option) *x509.Certificate {
	t.Helper()
	return e.Issue(t, code, opts...).Cert
}

func issue(t testing.TB, issuer *Entity, name string, opts []Option) *Entity {
	t.Helper()
	notBefore, notAfter := always()
	o := order{template: x509.Certificate{
		Subject:   pkix.Name{CommonName: name},
		NotBefore: notBefore, NotAfter: notAfter,
	}}
	AsLeaf()(&o)
	for _, opt := range opts {
		opt(&o)
	}
	if o.key == nil {
		o.key = NewKey(t, "p256")
	}
	e := &Entity{Name: name, Key: o.key, Issuer: issuer}
	parent, signer := &o.template, o.key
	if issuer != nil {
		parent, signer = issuer.Cert, issuer.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, &o.template, parent, o.key.Public(), signer)
	if err != nil {
		t.Fatalf("testkit: making %q: %v", name, err)
	}
	if e.Cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatalf("testkit: reading %q back: %v", name, err)
	}
	return e
}

// AsCA makes a CA: basicConstraints, keyCertSign and cRLSign, no purposes.
func AsCA() Option {
	return func(o *order) {
		o.template.BasicConstraintsValid, o.template.IsCA = true, true
		o.template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		o.template.ExtKeyUsage = nil
	}
}

// AsLeaf makes a device's leaf: CA:FALSE, digitalSignature, clientAuth.
func AsLeaf() Option {
	return func(o *order) {
		o.template.BasicConstraintsValid, o.template.IsCA = true, false
		o.template.KeyUsage = x509.KeyUsageDigitalSignature
		o.template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
}

// WithCommonName gives another CN than the name; "" gives an empty subject.
func WithCommonName(cn string) Option {
	return func(o *order) { o.template.Subject.CommonName = cn }
}

// WithKey uses a key that is already there.
func WithKey(key crypto.Signer) Option { return func(o *order) { o.key = key } }

// WithDates sets the validity.
func WithDates(notBefore, notAfter time.Time) Option {
	return func(o *order) { o.template.NotBefore, o.template.NotAfter = notBefore, notAfter }
}

// WithPathLen limits the CAs below; 0 allows none.
func WithPathLen(n int) Option {
	return func(o *order) { o.template.MaxPathLen, o.template.MaxPathLenZero = n, n == 0 }
}

// WithSerial sets the serial number, which is random otherwise.
func WithSerial(n int64) Option {
	return func(o *order) { o.template.SerialNumber = big.NewInt(n) }
}

// WithPurposes sets the extended key usage; none leaves the extension out.
func WithPurposes(purposes ...x509.ExtKeyUsage) Option {
	return func(o *order) { o.template.ExtKeyUsage = purposes }
}

// WithExtension adds an extension, or puts it in the place of the one made from the
// template.
func WithExtension(e pkix.Extension) Option {
	return func(o *order) { o.template.ExtraExtensions = append(o.template.ExtraExtensions, e) }
}

// WithTemplate changes whatever has no option of its own.
func WithTemplate(edit func(*x509.Certificate)) Option {
	return func(o *order) { edit(&o.template) }
}

// Chain is what a client sends: its certificate and those above, without the root.
func (e *Entity) Chain() []*x509.Certificate {
	full := e.FullChain()
	if len(full) == 1 {
		return full
	}
	return slices.Clip(full[:len(full)-1])
}

// FullChain is the certificate and all above it, the root last.
func (e *Entity) FullChain() (certs []*x509.Certificate) {
	for ; e != nil; e = e.Issuer {
		certs = append(certs, e.Cert)
	}
	return certs
}

// TLS is the credential for a TLS client or server that sends [Entity.Chain].
func (e *Entity) TLS() tls.Certificate {
	c := tls.Certificate{PrivateKey: e.Key, Leaf: e.Cert}
	for _, cert := range e.Chain() {
		c.Certificate = append(c.Certificate, cert.Raw)
	}
	return c
}

// PEM is the certificate alone as PEM.
func (e *Entity) PEM() []byte { return PEM(e.Cert) }

// Base64 is the certificate's DER as base64.
func (e *Entity) Base64() string { return base64.StdEncoding.EncodeToString(e.Cert.Raw) }

// PEM writes certificates one after another.
func PEM(certs ...*x509.Certificate) (text []byte) {
	for _, c := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}

// KeyPEM writes a private key as PKCS#8.
func KeyPEM(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

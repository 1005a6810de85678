package policies

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1"
	"crypto/x509"
	"math/big"
	"sync"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/passmuster/muster/internal/fault"
)

// part writes one element of a request.
type part func(*cryptobyte.Builder)

// forgery is a certificate request put together field by field, because crypto/x509
// refuses to make most bad ones. Its zero values are those of a good request.
type forgery struct {
	version    int64
	subject    []part // RDNs; nil = CN press-0042
	attributes []part // nil = none
	noAttrs    bool   // leaves the attributes out altogether
	extra      part   // after the attributes, inside what is signed
	key        crypto.Signer
	spki       []byte // nil = the key's
	algorithm  string // OID content; "" = the key's with SHA-256
	hash       crypto.Hash
	spoil      bool // damages the signature
	after      []byte
}

const (
	oidECDSAWithSHA256 = "\x2a\x86\x48\xce\x3d\x04\x03\x02"
	oidECDSAWithSHA1   = "\x2a\x86\x48\xce\x3d\x04\x01"
	oidECDSAWithSHA224 = "\x2a\x86\x48\xce\x3d\x04\x03\x01"
	oidRSAWithSHA256   = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b"
	oidRSAWithSHA1     = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05"
	oidRSAWithMD5      = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04"
	oidEd25519         = "\x2b\x65\x70"
	oidOrganization    = "\x55\x04\x0a"
	oidChallenge       = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x07"
	oidNameConstraints = "\x55\x1d\x1e"
	oidTLSFeature      = "\x2b\x06\x01\x05\x05\x07\x01\x18"
)

func (f forgery) der(t testing.TB) []byte {
	t.Helper()
	if f.key == nil {
		f.key = testKeys().p256
	}
	if f.subject == nil {
		f.subject = []part{commonName("press-0042")}
	}
	if f.spki == nil {
		var err error
		if f.spki, err = x509.MarshalPKIXPublicKey(f.key.Public()); err != nil {
			t.Fatal(err)
		}
	}
	if f.algorithm == "" {
		switch f.key.(type) {
		case *rsa.PrivateKey:
			f.algorithm = oidRSAWithSHA256
		case ed25519.PrivateKey:
			f.algorithm = oidEd25519
		default:
			f.algorithm = oidECDSAWithSHA256
		}
	}
	if f.hash == 0 && f.algorithm != oidEd25519 {
		f.hash = crypto.SHA256
	}
	info := build(t, sequence(func(b *cryptobyte.Builder) {
		b.AddASN1Int64(f.version)
		sequence(f.subject...)(b)
		b.AddBytes(f.spki)
		if !f.noAttrs {
			b.AddASN1(asn1.Tag(0).ContextSpecific().Constructed(), all(f.attributes...))
		}
		if f.extra != nil {
			f.extra(b)
		}
	}))
	signed := info
	if f.hash != 0 {
		h := f.hash.New()
		h.Write(info)
		signed = h.Sum(nil)
	}
	signature, err := f.key.Sign(rand.Reader, signed, f.hash)
	if err != nil {
		t.Fatal(err)
	}
	if f.spoil {
		signature[len(signature)-1] ^= 1
	}
	der := build(t, sequence(func(b *cryptobyte.Builder) {
		b.AddBytes(info)
		sequence(func(b *cryptobyte.Builder) {
			object(f.algorithm)(b)
			if _, ok := f.key.(*rsa.PrivateKey); ok {
				b.AddASN1NULL()
			}
		})(b)
		b.AddASN1BitString(signature)
	}))
	return append(der, f.after...)
}

// verdict parses and checks the request for press-0042, and gives the rule word of
// the refusal, "" for none.
func (f forgery) verdict(t testing.TB, p Profile) string {
	t.Helper()
	csr, err := ParseCSR(f.der(t))
	if err == nil {
		err = CheckCSR(p, csr, "press-0042")
	}
	return ruleOf(t, err)
}

func ruleOf(t testing.TB, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	f := fault.As(err)
	if f == nil || f.Kind != fault.Malformed || f.Rule == "" || f.Detail == "" {
		t.Fatalf("not a complete Malformed fault: %#v", err)
	}
	return f.Rule
}

func build(t testing.TB, p part) []byte {
	t.Helper()
	var b cryptobyte.Builder
	p(&b)
	der, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func all(parts ...part) cryptobyte.BuilderContinuation {
	return func(b *cryptobyte.Builder) {
		for _, p := range parts {
			p(b)
		}
	}
}

func element(tag asn1.Tag, parts ...part) part {
	return func(b *cryptobyte.Builder) { b.AddASN1(tag, all(parts...)) }
}

func sequence(parts ...part) part { return element(asn1.SEQUENCE, parts...) }
func set(parts ...part) part      { return element(asn1.SET, parts...) }
func raw(content string) part {
	return func(b *cryptobyte.Builder) { b.AddBytes([]byte(content)) }
}
func object(content string) part             { return element(asn1.OBJECT_IDENTIFIER, raw(content)) }
func text(tag asn1.Tag, content string) part { return element(tag, raw(content)) }
func boolean(v bool) part                    { return func(b *cryptobyte.Builder) { b.AddASN1Boolean(v) } }

func nameAttribute(oid string, value part) part { return sequence(object(oid), value) }
func commonName(cn string) part {
	return set(nameAttribute(oidCommonName, text(asn1.UTF8String, cn)))
}

// requesting is an extensionRequest attribute with one value.
func requesting(extensions ...part) part {
	return sequence(object(oidExtensionRequest), set(sequence(extensions...)))
}

func ext(oid string, value part) part {
	return sequence(object(oid), element(asn1.OCTET_STRING, value))
}

func critical(oid string, value part) part {
	return sequence(object(oid), boolean(true), element(asn1.OCTET_STRING, value))
}

func altNames(names ...part) part { return ext(oidSubjectAltName, sequence(names...)) }
func generalName(tag uint8, content string) part {
	return element(asn1.Tag(tag).ContextSpecific(), raw(content))
}

func usage(bits byte) part {
	return ext(oidKeyUsage, text(asn1.BIT_STRING, string([]byte{0, bits})))
}
func purposesOf(oids ...string) part {
	var list []part
	for _, o := range oids {
		list = append(list, object(o))
	}
	return ext(oidExtKeyUsage, sequence(list...))
}

// keyring holds one key of every sort the tests need: RSA keys are slow to make.
type keyring struct {
	p224, p256, p384, p521    *ecdsa.PrivateKey
	rsa1024, rsa2048, rsa3072 *rsa.PrivateKey
	ed25519                   ed25519.PrivateKey
}

var testKeys = sync.OnceValue(func() keyring {
	ec := func(c elliptic.Curve) *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(c, rand.Reader)) }
	rsaKey := func(bits int) *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, bits)) }
	return keyring{
		p224: ec(elliptic.P224()), p256: ec(elliptic.P256()), p384: ec(elliptic.P384()), p521: ec(elliptic.P521()),
		rsa1024: rsaKey(1024), rsa2048: rsaKey(2048), rsa3072: rsaKey(3072),
		ed25519: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)),
	}
})

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// rocaModulus builds a modulus as the broken generator did: both primes of the form
// k·M + (65537^a mod M), M the product of the first primes.
func rocaModulus() *big.Int {
	m := productOfPrimes(168)
	prime := func() *big.Int {
		for {
			k := must(rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 40)))
			k.Add(k, new(big.Int).Div(new(big.Int).Lsh(big.NewInt(3), 1022), m)) // two top bits set
			a := must(rand.Int(rand.Reader, m))
			p := new(big.Int).Exp(big.NewInt(65537), a, m)
			if p.Add(p, k.Mul(k, m)); p.ProbablyPrime(1) {
				return p
			}
		}
	}
	return new(big.Int).Mul(prime(), prime())
}

// closeModulus is the product of a prime of 1024 bits and the next one.
func closeModulus() *big.Int {
	p := must(rand.Prime(rand.Reader, 1024))
	q := new(big.Int).Set(p)
	for {
		if q.Add(q, big.NewInt(2)); q.ProbablyPrime(1) {
			return p.Mul(p, q)
		}
	}
}

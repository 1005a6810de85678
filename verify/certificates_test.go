package verify_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"slices"
	"testing"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/verify"
)

func b64(data []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(data)) }

func TestParseCertificatesReadsEverySpelling(t *testing.T) {
	f := testkit.Chain(t, "root > dev-1")
	one, two := f.Leaf().Cert, f.Get("root").Cert
	both := slices.Concat(one.Raw, two.Raw)
	wrapped := b64(one.Raw)
	wrapped = slices.Concat(wrapped[:64], []byte("\r\n"), wrapped[64:], []byte("\r\n"))
	for _, tc := range []struct {
		name string
		in   []byte
		want []*x509.Certificate
	}{
		{"PEM", testkit.PEM(one), []*x509.Certificate{one}},
		{"DER", one.Raw, []*x509.Certificate{one}},
		{"base64 of PEM", b64(testkit.PEM(one)), []*x509.Certificate{one}},
		{"base64 of DER", b64(one.Raw), []*x509.Certificate{one}},
		{"base64 of DER in lines", wrapped, []*x509.Certificate{one}},
		{"two PEM blocks", testkit.PEM(one, two), []*x509.Certificate{one, two}},
		{"two certificates of DER", both, []*x509.Certificate{one, two}},
		{"PEM with text before it, as openssl prints", append([]byte("subject=CN = dev-1\n"), testkit.PEM(one)...), []*x509.Certificate{one}},
		{"PEM with Windows line ends", bytes.ReplaceAll(testkit.PEM(one), []byte("\n"), []byte("\r\n")), []*x509.Certificate{one}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := verify.ParseCertificates(tc.in)
			if err != nil || !slices.EqualFunc(got, tc.want, (*x509.Certificate).Equal) {
				t.Errorf("got %d certificates, %v", len(got), err)
			}
		})
	}
}

func TestParseCertificatesRefuses(t *testing.T) {
	e := testkit.Root(t, "root")
	cert, key := e.PEM(), testkit.KeyPEM(t, e.Key)
	keyDER, _ := pem.Decode(key)
	broken := bytes.Replace(cert, []byte("\nMII"), []byte("\n!II"), 1)
	if bytes.Equal(broken, cert) {
		broken = bytes.Replace(cert, []byte("\nM"), []byte("\n!"), 1)
	}
	for _, tc := range []struct {
		name string
		in   []byte
		rule string
	}{
		{"nothing", nil, "certificate-file"},
		{"white space", []byte(" \n"), "certificate-file"},
		{"garbage", []byte("not a certificate"), "certificate-file"},
		{"garbage that is base64", b64([]byte("not a certificate")), "certificate-file"},
		{"a certificate with its key behind it", append(slices.Clone(cert), key...), "private-key-in-file"},
		{"a certificate with its key before it", append(slices.Clone(key), cert...), "private-key-in-file"},
		{"base64 of a certificate with its key", b64(append(slices.Clone(cert), key...)), "private-key-in-file"},
		{"a key as DER", keyDER.Bytes, "private-key-in-file"},
		{"a key as base64 of DER", b64(keyDER.Bytes), "private-key-in-file"},
		{"junk after PEM", append(slices.Clone(cert), "junk"...), "certificate-file"},
		{"junk after DER", append(slices.Clone(e.Cert.Raw), 0), "certificate-file"},
		{"a broken block before a good one", append(broken, cert...), "certificate-file"},
		{"a block cut short", cert[:len(cert)-40], "certificate-file"},
		{"a request", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: testkit.CSR(t, e.Key, "x")}), "certificate-file"},
		{"PEM headers", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"A": "b"}, Bytes: e.Cert.Raw}), "certificate-file"},
		{"a PEM block that holds no certificate", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), "certificate-file"},
		{"more than 64 KiB", bytes.Repeat(cert, 200), "certificate-file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			certs, err := verify.ParseCertificates(tc.in)
			if len(certs) > 0 || !fault.Is(err, fault.Malformed) || fault.RuleOf(err) != tc.rule {
				t.Errorf("got %d certificates, %v", len(certs), err)
			}
		})
	}
}

func TestParseCertificateWantsExactlyOne(t *testing.T) {
	f := testkit.Chain(t, "root > dev-1")
	if c, err := verify.ParseCertificate(f.Leaf().PEM()); err != nil || !c.Equal(f.Leaf().Cert) {
		t.Errorf("got %v", err)
	}
	if _, err := verify.ParseCertificate(testkit.PEM(f.Leaf().FullChain()...)); fault.RuleOf(err) != "one-certificate" {
		t.Errorf("two PEM blocks: %v", err)
	}
}

func FuzzParseCertificates(f *testing.F) {
	e := testkit.Root(f, "root")
	for _, seed := range [][]byte{e.PEM(), e.Cert.Raw, b64(e.PEM()), b64(e.Cert.Raw), testkit.KeyPEM(f, e.Key), []byte("-----BEGIN ")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		certs, err := verify.ParseCertificates(data)
		if (err == nil) != (len(certs) > 0) || err != nil && !fault.Is(err, fault.Malformed) {
			t.Errorf("%d certificates, %v", len(certs), err)
		}
	})
}

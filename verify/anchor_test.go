package verify_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/verify"
)

// Scenario A3.
// made is the version of an anchor made at testkit.Now.
var made = testkit.Now().UnixMilli()

func TestNewTrustAnchor(t *testing.T) {
	f := testkit.Chain(t, `
		root > mid > dev-1
		p384 [p384]; ed25519 [ed25519]; rsa [rsa]
		rsa-1024 [rsa=1024]; p224 [p224]
		expired [expired]; future [future]; nameless [cn=]; leaf [leaf]
		no-cert-sign; strange`,
		testkit.Edit("no-cert-sign", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }),
		testkit.Edit("strange", func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}))
	for _, tc := range []struct {
		name, anchor string
		cert         *x509.Certificate
		rule         string
	}{
		{"a root", "Root_1.x-y", f.Get("root").Cert, ""},
		{"an intermediate", "mid", f.Get("mid").Cert, ""},
		{"a root on P-384", "a", f.Get("p384").Cert, ""},
		{"a root on Ed25519", "a", f.Get("ed25519").Cert, ""},
		{"a root on RSA-2048", "a", f.Get("rsa").Cert, ""},
		{"a root of tomorrow", "a", f.Get("future").Cert, ""},
		{"a device's leaf", "a", f.Get("dev-1").Cert, "anchor-not-a-ca"},
		{"a self-signed leaf", "a", f.Get("leaf").Cert, "anchor-not-a-ca"},
		{"a CA that may sign CRLs only", "a", f.Get("no-cert-sign").Cert, "anchor-not-a-ca"},
		{"a CA without a name", "a", f.Get("nameless").Cert, "anchor-not-a-ca"},
		{"RSA-1024", "a", f.Get("rsa-1024").Cert, "anchor-weak-key"},
		{"P-224", "a", f.Get("p224").Cert, "anchor-weak-key"},
		{"a critical extension nobody knows", "a", f.Get("strange").Cert, "anchor-critical-extension"},
		{"expired", "a", f.Get("expired").Cert, "anchor-expired"},
		{"an empty name", "", f.Get("root").Cert, "anchor-name"},
		{"a name with a slash", "a/b", f.Get("root").Cert, "anchor-name"},
		{"a name of 65", strings.Repeat("a", 65), f.Get("root").Cert, "anchor-name"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, err := verify.NewTrustAnchor(tc.anchor, tc.cert, testkit.Now())
			if fault.RuleOf(err) != tc.rule || tc.rule != "" && !fault.Is(err, fault.Malformed) {
				t.Fatalf("want rule %q, got %v", tc.rule, err)
			}
			if err == nil && (a.IsVerified() || a.Version() != made || a.Name() != tc.anchor || !a.Link().Cert.Equal(tc.cert)) {
				t.Errorf("got %+v", a.Record())
			}
		})
	}
}

func TestAnAnchorSignedWithSHA1IsRefused(t *testing.T) {
	dir := t.TempDir()
	openssl(t, dir, "", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "k.pem", "-out", "c.pem", "-subj", "/CN=old", "-sha1")
	cert, err := verify.ParseCertificate(read(t, dir, "c.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verify.NewTrustAnchor("old", cert, cert.NotBefore); fault.RuleOf(err) != "anchor-weak-signature" {
		t.Errorf("got %v", err)
	}
}

// Scenario B1.
func TestProofOfPossession(t *testing.T) {
	now := testkit.Now()
	root := testkit.Root(t, "root")
	a := mustAnchor(t, root)
	a, code, err := a.NewVerificationCode(rand.Reader, now)
	if err != nil || !regexp.MustCompile(`^[0-9A-F]{48}$`).MatchString(string(code)) || a.Version() != made+1 || a.IsVerified() {
		t.Fatalf("code %q, %+v, %v", code, a.Record(), err)
	}
	later := now.Add(time.Hour)
	proven, err := a.ProvePossession(root.Prove(t, string(code)), later)
	if err != nil {
		t.Fatal(err)
	}
	r := proven.Record()
	if !proven.IsVerified() || r.VerifiedBy != "proof" || !r.VerifiedAt.Equal(later) || r.Code != "" || r.Version != made+2 || !r.Updated.Equal(later) || !r.Created.Equal(now) {
		t.Errorf("got %+v", r)
	}
	if a.IsVerified() {
		t.Error("the value it was made from changed too")
	}
}

// Scenarios B2 and B9.
func TestWhatIsNoProof(t *testing.T) {
	now := testkit.Now()
	f := testkit.Chain(t, "root > mid [ca]; twin [cn=root]; root > dev-1")
	root, mid := f.Get("root"), f.Get("mid")
	a, code, err := mustAnchor(t, root).NewVerificationCode(rand.Reader, now)
	if err != nil {
		t.Fatal(err)
	}
	cn := string(code)
	twoCNs := testkit.WithTemplate(func(c *x509.Certificate) {
		c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{
			{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "other"}, {Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: cn},
		}
	})
	inSAN := testkit.WithTemplate(func(c *x509.Certificate) { c.DNSNames = []string{cn} })
	for _, tc := range []struct {
		name string
		cert *x509.Certificate
		rule string
	}{
		{"a device leaf of the CA", f.Get("dev-1").Cert, "proof-not-named"},
		{"the CA itself", root.Cert, "proof-is-ca"},
		{"an intermediate below it", mid.Cert, "proof-is-ca"},
		{"an intermediate below it, named after the code", root.Prove(t, cn, testkit.AsCA()), "proof-is-ca"},
		{"signed by an intermediate of the CA", mid.Prove(t, cn), "proof-not-signed"},
		{"signed by a CA of the same name with another key", f.Get("twin").Prove(t, cn), "proof-not-signed"},
		{"self-signed", testkit.SelfSigned(t, cn).Cert, "proof-not-signed"},
		{"expired", root.Prove(t, cn, testkit.WithDates(now.AddDate(0, 0, -2), now.AddDate(0, 0, -1))), "proof-not-in-date"},
		{"of tomorrow", root.Prove(t, cn, testkit.WithDates(now.AddDate(0, 0, 1), now.AddDate(0, 0, 2))), "proof-not-in-date"},
		{"the code as an alternative name", root.Prove(t, "x", inSAN), "proof-not-named"},
		{"two CNs", root.Prove(t, "", twoCNs), "proof-not-named"},
		{"a space behind the code", root.Prove(t, cn+" "), "proof-not-named"},
		{"the code in lower case", root.Prove(t, strings.ToLower(cn)), "proof-not-named"},
		{"a part of the code", root.Prove(t, cn[:47]), "proof-not-named"},
		{"no name at all", root.Prove(t, ""), "proof-not-named"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			after, err := a.ProvePossession(tc.cert, now)
			if fault.RuleOf(err) != tc.rule || !fault.Is(err, fault.Malformed) {
				t.Errorf("want rule %q, got %v", tc.rule, err)
			}
			if diff := cmp.Diff(a.Record(), after.Record()); diff != "" {
				t.Errorf("the anchor changed: %s", diff)
			}
		})
	}
	if proven, err := a.ProvePossession(root.Prove(t, cn), now); err != nil || !proven.IsVerified() {
		t.Errorf("after all these the code is still good: %v", err)
	}
	_, err = a.ProvePossession(mid.Prove(t, cn), now)
	if want := "signed by the CA's own key: no; CN exactly the code: yes; in date: yes"; !strings.Contains(err.Error(), want) {
		t.Errorf("%q does not say %q", err, want)
	}
}

// Scenario B4.
func TestACodeIsGoodOnceForOneEntry(t *testing.T) {
	now := testkit.Now()
	root, other := testkit.Root(t, "root"), testkit.Root(t, "other")
	a, code, err := mustAnchor(t, root).NewVerificationCode(rand.Reader, now)
	if err != nil {
		t.Fatal(err)
	}
	proof := root.Prove(t, string(code))
	proven, err := a.ProvePossession(proof, now)
	if err != nil {
		t.Fatal(err)
	}
	renewed, _, err := a.NewVerificationCode(rand.Reader, now)
	if err != nil {
		t.Fatal(err)
	}
	replaced, err := a.Replace(other.Cert, now)
	if err != nil {
		t.Fatal(err)
	}
	sameCA, _, err := mustAnchor(t, root).NewVerificationCode(rand.Reader, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		anchor verify.TrustAnchor
		at     time.Time
		rule   string
	}{
		{"a moment before 24 hours are over", a, now.Add(24*time.Hour - time.Second), ""},
		{"after 24 hours", a, now.Add(24 * time.Hour), "proof-code-expired"},
		{"used again", proven, now, "proof-no-code"},
		{"for an entry without a code", mustAnchor(t, root), now, "proof-no-code"},
		{"for another entry of the same CA", sameCA, now, "proof-not-named"},
		{"after a new code was made", renewed, now, "proof-not-named"},
		{"after the CA was replaced", replaced, now, "proof-no-code"},
		{"after an operator vouched", a.VouchedBy("ann", now), now, "proof-no-code"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := tc.anchor.ProvePossession(proof, tc.at); fault.RuleOf(err) != tc.rule {
				t.Errorf("want rule %q, got %v", tc.rule, err)
			}
		})
	}
}

func TestANewCodeLeavesAVerifiedAnchorVerified(t *testing.T) {
	a := mustAnchor(t, testkit.Root(t, "root")).VouchedBy("ann", testkit.Now())
	next, code, err := a.NewVerificationCode(rand.Reader, testkit.Now())
	if err != nil || !next.IsVerified() || next.Record().VerifiedBy != "operator:ann" || next.Version() != a.Version()+1 || code == "" {
		t.Errorf("got %+v, %v", next.Record(), err)
	}
	after, _, err := a.NewVerificationCode(iotest.ErrReader(errors.New("no entropy")), testkit.Now())
	if err == nil || after.Version() != a.Version() {
		t.Errorf("without randomness: %v", err)
	}
}

// Scenario B7.
func TestReplacingAnAnchor(t *testing.T) {
	now, later := testkit.Now(), testkit.Now().Add(time.Hour)
	f := testkit.Chain(t, "root; expired [expired]")
	root := f.Get("root")
	again := testkit.Root(t, "root", testkit.WithKey(root.Key))
	a := mustAnchor(t, root).VouchedBy("ann", now)

	same, err := a.Replace(root.Cert, later)
	if diff := cmp.Diff(a.Record(), same.Record()); err != nil || diff != "" {
		t.Errorf("the same bytes changed it: %v %s", err, diff)
	}
	other, err := a.Replace(again.Cert, later)
	if err != nil || other.IsVerified() || other.Version() != a.Version()+1 || other.Record().VerifiedBy != "" || !other.Record().Updated.Equal(later) || !other.Record().Created.Equal(now) {
		t.Errorf("other bytes under the same name and key: %+v, %v", other.Record(), err)
	}
	bad, err := a.Replace(f.Get("expired").Cert, later)
	if diff := cmp.Diff(a.Record(), bad.Record()); fault.RuleOf(err) != "anchor-expired" || diff != "" {
		t.Errorf("a bad certificate: %v %s", err, diff)
	}
}

// Scenario B8.
func TestAnOperatorsWordIsRecordedAsSuch(t *testing.T) {
	a := mustAnchor(t, testkit.Root(t, "root"))
	r := a.VouchedBy("ann", testkit.Now()).Record()
	if r.VerifiedBy != "operator:ann" || !r.VerifiedAt.Equal(testkit.Now()) || r.Version != made+1 {
		t.Errorf("got %+v", r)
	}
	if a.IsVerified() {
		t.Error("the value it was made from changed too")
	}
}

func TestAnAnchorComesBackFromItsRecord(t *testing.T) {
	a, _, err := mustAnchor(t, testkit.Root(t, "root")).VouchedBy("ann", testkit.Now()).NewVerificationCode(rand.Reader, testkit.Now())
	if err != nil {
		t.Fatal(err)
	}
	back, err := verify.RestoreTrustAnchor(a.Record())
	if diff := cmp.Diff(a.Record(), back.Record()); err != nil || diff != "" || back.Link().Thumbprint != a.Link().Thumbprint {
		t.Errorf("%v %s", err, diff)
	}
	for name, spoil := range map[string]func(*verify.AnchorRecord){
		"no certificate":            func(r *verify.AnchorRecord) { r.Certificate = nil },
		"verified by nobody":        func(r *verify.AnchorRecord) { r.VerifiedBy = "" },
		"verified at no time":       func(r *verify.AnchorRecord) { r.VerifiedAt = time.Time{} },
		"a name that was never one": func(r *verify.AnchorRecord) { r.Name = "a b" },
		"version zero":              func(r *verify.AnchorRecord) { r.Version = 0 },
	} {
		r := a.Record()
		spoil(&r)
		if _, err := verify.RestoreTrustAnchor(r); !fault.Is(err, fault.Internal) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Scenario B3: certGen's proof, RSA-4096 with clientAuth, and a PowerShell-like one in
// DER; the key does not need to be of the CA's kind.
func TestProofsMadeWithOpenSSL(t *testing.T) {
	dir := t.TempDir()
	openssl(t, dir, "", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
		"-subj", "/CN=Azure IoT Hub CA Cert Test Only", "-days", "30", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
	cert, err := verify.ParseCertificate(read(t, dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	now := cert.NotBefore.Add(time.Hour)
	a, err := verify.NewTrustAnchor("home-made", cert, now)
	if err != nil {
		t.Fatal(err)
	}
	a, code, err := a.NewVerificationCode(rand.Reader, now)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "ext", "extendedKeyUsage=clientAuth\nkeyUsage=critical,nonRepudiation,digitalSignature,keyEncipherment\nbasicConstraints=CA:FALSE\n")
	openssl(t, dir, "", "req", "-newkey", "rsa:4096", "-nodes", "-keyout", "v.key", "-out", "v.csr", "-subj", "/CN="+string(code))
	openssl(t, dir, "", "x509", "-req", "-in", "v.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", "4", "-days", "30", "-extfile", "ext", "-out", "v.pem")
	openssl(t, dir, "", "x509", "-in", "v.pem", "-outform", "DER", "-out", "v.cer")
	pemText, der := read(t, dir, "v.pem"), read(t, dir, "v.cer")
	for name, file := range map[string][]byte{"PEM": pemText, "DER": der, "base64 of PEM": b64(pemText), "base64 of DER": b64(der), "PEM with a line before it": append([]byte("subject=x\n"), bytes.TrimSpace(pemText)...)} {
		proof, err := verify.ParseCertificate(file)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if proven, err := a.ProvePossession(proof, now); err != nil || !proven.IsVerified() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func mustAnchor(t *testing.T, e *testkit.Entity) verify.TrustAnchor {
	t.Helper()
	a, err := verify.NewTrustAnchor("a", e.Cert, testkit.Now())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

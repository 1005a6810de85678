package verify_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/verify"
)

// TestTheCertificateOfAnEndorsementKeyIsAsTheTCGHasIt is what is taken, and every way of not being that.
func TestTheCertificateOfAnEndorsementKeyIsAsTheTCGHasIt(t *testing.T) {
	is := testkit.TPMModel{Manufacturer: "id:4E544300", Model: "NPCT75x", Version: "id:00070002"}
	root := testkit.Root(t, "maker root")
	maker := root.Issue(t, "maker", testkit.AsCA())
	keys := map[string]*testkit.Entity{}
	for _, kind := range []string{"rsa", "p256", "p384"} {
		keys[kind] = maker.Certify(t, testkit.NewKey(t, kind).Public(), is)
	}
	ekOnly := asn1.ObjectIdentifier{2, 23, 133, 8, 1}
	restricted := root.Issue(t, "for endorsement keys", testkit.AsCA(), testkit.WithTemplate(func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{ekOnly} }))
	servers := root.Issue(t, "for servers", testkit.AsCA(), testkit.WithPurposes(x509.ExtKeyUsageServerAuth))
	key := testkit.NewKey(t, "p256").Public()
	otherwise := func(edit func(*x509.Certificate)) *testkit.Entity {
		return maker.Certify(t, key, is, testkit.WithTemplate(edit))
	}
	notBefore, notAfter := testkit.Now().AddDate(-2, 0, 0), testkit.Now().AddDate(-1, 0, 0)
	for name, c := range map[string]struct {
		of     *testkit.Entity
		anchor *testkit.Entity
		key    *testkit.Entity // nil: its own
		rule   string
	}{
		"RSA":                                {keys["rsa"], root, nil, ""},
		"P-256":                              {keys["p256"], root, nil, ""},
		"P-384":                              {keys["p384"], root, nil, ""},
		"an anchor that is no root":          {keys["rsa"], maker, nil, ""},
		"a CA for nothing else":              {restricted.Certify(t, key, is), root, nil, ""},
		"of another key":                     {keys["rsa"], root, keys["p256"], "endorsement-other-key"},
		"of another manufacturer":            {keys["rsa"], testkit.Root(t, "another"), nil, "chain-not-trusted"},
		"of one who has the name alone":      {keys["rsa"], testkit.Root(t, "maker root"), nil, "chain-not-trusted"},
		"by a CA for servers":                {servers.Certify(t, key, is), root, nil, "chain-eku"},
		"expired":                            {maker.Certify(t, key, is, testkit.WithDates(notBefore, notAfter)), root, nil, "leaf-expired"},
		"for client authentication":          {maker.Issue(t, "press-1"), root, nil, "endorsement-eku"},
		"for no purpose":                     {otherwise(func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil }), root, nil, "endorsement-eku"},
		"a CA":                               {maker.Certify(t, key, is, testkit.AsCA()), root, nil, "endorsement-is-ca"},
		"a critical extension of its own":    {maker.Certify(t, key, is, testkit.WithExtension(pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})), root, nil, "chain-critical-extension"},
		"neither a name nor a critical one":  {otherwise(func(c *x509.Certificate) { c.ExtraExtensions[0].Critical = false }), root, nil, "chain-name"},
		"a name of another sort beside it":   {otherwise(func(c *x509.Certificate) { c.ExtraExtensions[0].Value = withOther(t, c.ExtraExtensions[0].Value) }), root, nil, "chain-critical-extension"},
		"an alternative name that is broken": {otherwise(func(c *x509.Certificate) { c.ExtraExtensions[0].Value = []byte{0x30, 3, 0xa4, 1, 0x30} }), root, nil, "endorsement-name"},
	} {
		t.Run(name, func(t *testing.T) {
			chain, err := verify.ReadChain(c.of.FullChain())
			if err != nil {
				t.Fatal(err)
			}
			spki := c.of.Cert.RawSubjectPublicKeyInfo
			if c.key != nil {
				spki = c.key.Cert.RawSubjectPublicKeyInfo
			}
			got, err := verify.CheckEndorsement(chain, spki, []verify.Link{verify.NewLink(c.anchor.Cert)}, testkit.Now())
			switch {
			case fault.RuleOf(err) != c.rule || c.rule != "" && !fault.Is(err, fault.Unauthenticated):
				t.Errorf("%v, want %q", err, c.rule)
			case c.rule == "" && (err != nil || got.TPM() != verify.TPMModel(is) || got.Path()[0].Cert != chain[0].Cert || got.Path()[len(got.Path())-1].Thumbprint != verify.ThumbprintOf(c.anchor.Cert.Raw)):
				t.Errorf("%v: %+v by %d certificates", err, got.TPM(), len(got.Path()))
			}
		})
	}
}

// withOther adds an otherName behind the names there are.
func withOther(t *testing.T, value []byte) []byte {
	t.Helper()
	var names []asn1.RawValue
	if _, err := asn1.Unmarshal(value, &names); err != nil {
		t.Fatal(err)
	}
	names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: []byte{6, 1, 42, 0xa0, 2, 5, 0}})
	for i := range names {
		names[i].FullBytes = nil
	}
	out, err := asn1.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

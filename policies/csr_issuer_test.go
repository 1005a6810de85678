package policies

import (
	"crypto"
	"testing"

	"golang.org/x/crypto/cryptobyte/asn1"
)

// issuerVerdict is verdict for an issuing CA's request.
func (f forgery) issuerVerdict(t testing.TB) string {
	t.Helper()
	csr, err := ParseCSR(f.der(t))
	if err == nil {
		err = CheckIssuerCSR(csr)
	}
	return ruleOf(t, err)
}

func caWith(length string) part {
	return critical(oidBasicConstraints, sequence(boolean(true), text(asn1.INTEGER, length)))
}

func TestRequestsThatAnIssuingCAMayMake(t *testing.T) {
	keys := testKeys()
	for name, f := range map[string]forgery{
		"a name and a key":               {},
		"a path length of 0":             {attributes: []part{requesting(caWith("\x00"))}},
		"a CA of no path length":         {attributes: []part{requesting(critical(oidBasicConstraints, sequence(boolean(true))))}},
		"the usages of a CA":             {attributes: []part{requesting(usage(0x86))}},
		"an attribute that is not ours":  {attributes: []part{sequence(object(oidChallenge), set())}},
		"a key of another type, RSA":     {key: keys.rsa3072},
		"a key of another type, Ed25519": {key: keys.ed25519},
	} {
		t.Run(name, func(t *testing.T) {
			if rule := f.issuerVerdict(t); rule != "" {
				t.Errorf("refused: %s", rule)
			}
		})
	}
}

func TestRequestsThatNoIssuingCAMayMake(t *testing.T) {
	keys := testKeys()
	asks := func(e ...part) []part { return []part{requesting(e...)} }
	for name, c := range map[string]struct {
		forgery
		rule string
	}{
		"a path length of 1":           {forgery{attributes: asks(caWith("\x01"))}, "csr-not-for-ca"},
		"a negative path length":       {forgery{attributes: asks(caWith("\xff"))}, "csr-not-for-ca"},
		"CA:FALSE":                     {forgery{attributes: asks(ext(oidBasicConstraints, sequence()))}, "csr-not-for-ca"},
		"constraints with a tail":      {forgery{attributes: asks(ext(oidBasicConstraints, sequence(boolean(true), sequence())))}, "csr-malformed"},
		"key encipherment":             {forgery{attributes: asks(usage(0x26))}, "csr-usage-not-allowed"},
		"an extended key usage":        {forgery{attributes: asks(purposesOf(clientAuth))}, "csr-extension-not-allowed"},
		"an alternative name":          {forgery{attributes: asks(altNames(generalName(2, "ca.example")))}, "csr-extension-not-allowed"},
		"name constraints":             {forgery{attributes: asks(ext(oidNameConstraints, sequence()))}, "csr-extension-not-allowed"},
		"no subject":                   {forgery{subject: []part{}}, "csr-no-common-name"},
		"an organization beside it":    {forgery{subject: []part{set(nameAttribute(oidOrganization, text(asn1.UTF8String, "Evil"))), commonName("ca")}}, "csr-subject-not-allowed"},
		"two names":                    {forgery{subject: []part{commonName("a"), commonName("b")}}, "csr-subject-not-allowed"},
		"a signature with SHA-1":       {forgery{algorithm: oidECDSAWithSHA1, hash: crypto.SHA1}, "csr-signature-weak"},
		"a damaged signature":          {forgery{spoil: true}, "csr-signature-wrong"},
		"RSA of 1024 bits":             {forgery{key: keys.rsa1024}, "key-too-small"},
		"P-224":                        {forgery{key: keys.p224}, "key-too-small"},
		"an extension asked for twice": {forgery{attributes: asks(caWith("\x00"), caWith("\x00"))}, "csr-extension-repeated"},
	} {
		t.Run(name, func(t *testing.T) {
			if rule := c.issuerVerdict(t); rule != c.rule {
				t.Errorf("rule %q, want %q", rule, c.rule)
			}
		})
	}
}

func FuzzCheckIssuerCSR(f *testing.F) {
	for _, seed := range []forgery{{}, {attributes: []part{requesting(caWith("\x00"), usage(0x86))}}, {key: testKeys().rsa2048, spoil: true}} {
		f.Add(seed.der(f))
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		csr, err := ParseCSR(der)
		if err != nil || CheckIssuerCSR(csr) != nil {
			return
		}
		if csr.CheckSignature() != nil || csr.Subject.CommonName == "" || len(csr.DNSNames)+len(csr.IPAddresses)+len(csr.URIs)+len(csr.EmailAddresses) > 0 {
			t.Errorf("accepted: %v", csr.Subject)
		}
	})
}

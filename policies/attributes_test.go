package policies_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
)

var (
	challenge = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}
	decryptID = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 37}
	asymmID   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 54}
)

// attribute is a SEQUENCE of an identifier and a SET with the values, each in DER.
func attribute(t testing.TB, oid asn1.ObjectIdentifier, values ...any) asn1.RawValue {
	t.Helper()
	var set []byte
	for _, v := range values {
		der, err := asn1.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		set = append(set, der...)
	}
	der, err := asn1.Marshal(struct {
		Type   asn1.ObjectIdentifier
		Values asn1.RawValue
	}{oid, asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: set}})
	if err != nil {
		t.Fatal(err)
	}
	return asn1.RawValue{FullBytes: der}
}

// requestWith is a request for dev-1 with these attributes; its signature counts for nothing.
func requestWith(t testing.TB, attributes ...asn1.RawValue) []byte {
	t.Helper()
	plain, err := x509.ParseCertificateRequest(testkit.CSR(t, testkit.NewKey(t, "p256"), "dev-1"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := asn1.Marshal(struct {
		Version    int
		Subject    asn1.RawValue
		Key        asn1.RawValue
		Attributes []asn1.RawValue `asn1:"tag:0,set"`
	}{0, asn1.RawValue{FullBytes: plain.RawSubject}, asn1.RawValue{FullBytes: plain.RawSubjectPublicKeyInfo}, attributes})
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		Info      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: info}, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}, asn1.BitString{Bytes: []byte{0}, BitLength: 8}})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func text(tag int, s string) asn1.RawValue { return asn1.RawValue{Tag: tag, Bytes: []byte(s)} }

func TestAttributesOfARequest(t *testing.T) {
	tests := map[string]struct {
		der  []byte
		want policies.Attributes
		rule string
	}{
		"none":                             {requestWith(t), policies.Attributes{}, ""},
		"a challenge password":             {requestWith(t, attribute(t, challenge, text(asn1.TagPrintableString, "YQ=="))), policies.Attributes{ChallengePassword: "YQ==", HasChallenge: true}, ""},
		"one in UTF-8":                     {requestWith(t, attribute(t, challenge, text(asn1.TagUTF8String, "ä"))), policies.Attributes{ChallengePassword: "ä", HasChallenge: true}, ""},
		"an empty one":                     {requestWith(t, attribute(t, challenge, text(asn1.TagUTF8String, ""))), policies.Attributes{HasChallenge: true}, ""},
		"two challenge passwords":          {requestWith(t, attribute(t, challenge, text(asn1.TagUTF8String, "a")), attribute(t, challenge, text(asn1.TagUTF8String, "a"))), policies.Attributes{}, "csr-challenge-repeated"},
		"one of two values":                {requestWith(t, attribute(t, challenge, text(asn1.TagUTF8String, "a"), text(asn1.TagUTF8String, "b"))), policies.Attributes{}, "csr-malformed"},
		"one of no value":                  {requestWith(t, attribute(t, challenge)), policies.Attributes{}, "csr-malformed"},
		"one that is a number":             {requestWith(t, attribute(t, challenge, 7)), policies.Attributes{}, "csr-malformed"},
		"a key to encrypt with":            {requestWith(t, attribute(t, decryptID, []byte("k"))), policies.Attributes{EncryptKey: true}, ""},
		"a certificate to encrypt for":     {requestWith(t, attribute(t, asymmID, []byte("k"))), policies.Attributes{EncryptKey: true}, ""},
		"an attribute nobody knows":        {requestWith(t, attribute(t, asn1.ObjectIdentifier{1, 2, 3}, 7)), policies.Attributes{}, ""},
		"an attribute that is no sequence": {requestWith(t, text(asn1.TagUTF8String, "a")), policies.Attributes{}, "csr-malformed"},
		"nothing":                          {nil, policies.Attributes{}, "csr-malformed"},
		"a request too large to be read":   {make([]byte, policies.MaxCSRSize+1), policies.Attributes{}, "csr-malformed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := policies.ReadAttributes(tt.der)
			if got != tt.want || fault.RuleOf(err) != tt.rule {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func FuzzReadAttributes(f *testing.F) {
	f.Add(requestWith(f))
	f.Add(requestWith(f, attribute(f, challenge, text(asn1.TagUTF8String, "a"))))
	f.Add(requestWith(f, attribute(f, decryptID, []byte("k")), attribute(f, challenge)))
	f.Add(testkit.CSR(f, testkit.NewKey(f, "p256"), "dev-1"))
	f.Fuzz(func(t *testing.T, der []byte) {
		got, err := policies.ReadAttributes(der)
		switch {
		case err != nil && (!fault.Is(err, fault.Malformed) || got != policies.Attributes{}):
			t.Errorf("%+v, %v", got, err)
		case !got.HasChallenge && got.ChallengePassword != "":
			t.Errorf("a password of nobody's: %+v", got)
		}
		if _, parsed := policies.ParseCSR(der); parsed == nil && err != nil && fault.RuleOf(err) == "csr-malformed" {
			// Whatever is a request to the engine can be taken apart here, but for a challenge
			// password of a shape that no client sends.
			if _, isChallenge := firstAttribute(der); !isChallenge {
				t.Errorf("the engine reads what this does not: %v", err)
			}
		}
	})
}

// firstAttribute says whether a request holds the identifier of a challenge password at all.
func firstAttribute(der []byte) (int, bool) {
	oid, err := asn1.Marshal(challenge)
	if err != nil {
		return 0, false
	}
	for i := range der {
		if i+len(oid) <= len(der) && string(der[i:i+len(oid)]) == string(oid) {
			return i, true
		}
	}
	return 0, false
}

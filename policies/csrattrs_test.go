package policies_test

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/passmuster/muster/policies"
)

func TestWhatAProfileAsksOfARequest(t *testing.T) {
	tests := map[string]struct {
		keys   []policies.KeyType
		usages []x509.ExtKeyUsage
		want   string // DER in hex
	}{
		"P-256 for clients": {[]policies.KeyType{policies.KeyECP256}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			"3047" + "301506072a8648ce3d0201310a06082a8648ce3d030107" + "06082a8648ce3d040302" +
				"302406092a864886f70d01090e311730153013" + "0603551d25040c300a06082b06010505070302"},
		"RSA, the sizes in DER's order": {[]policies.KeyType{policies.KeyRSA4096, policies.KeyRSA2048}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
			"3048" + "301506092a864886f70d01010131080202080002021000" + "06092a864886f70d01010b" +
				"302406092a864886f70d01090e311730153013" + "0603551d25040c300a06082b06010505070301"},
		"Ed25519": {[]policies.KeyType{policies.KeyEd25519}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			"302b" + "06032b6570" + "302406092a864886f70d01090e311730153013" + "0603551d25040c300a06082b06010505070302"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := policies.DefaultProfile()
			p.Keys, p.ExtKeyUsage = tt.keys, tt.usages
			got, err := p.CSRAttributes()
			if err != nil || hex.EncodeToString(got) != tt.want {
				t.Errorf("%x, %v\nwant %s", got, err, tt.want)
			}
		})
	}
}

// Every profile's answer is one well-formed CsrAttrs that never asks for a challenge
// password.
func TestTheAnswerOfEveryProfileIsWellFormed(t *testing.T) {
	all := []policies.KeyType{policies.KeyECP256, policies.KeyECP384, policies.KeyECP521, policies.KeyEd25519, policies.KeyRSA2048, policies.KeyRSA3072, policies.KeyRSA4096}
	for subset := 1; subset < 1<<len(all); subset++ {
		p := policies.DefaultProfile()
		p.Keys = nil
		for i, k := range all {
			if subset&(1<<i) != 0 {
				p.Keys = append(p.Keys, k)
			}
		}
		der, err := p.CSRAttributes()
		if err != nil {
			t.Fatal(err)
		}
		var list []asn1.RawValue
		if rest, err := asn1.Unmarshal(der, &list); err != nil || len(rest) > 0 {
			t.Fatalf("%v: %x, %v", p.Keys, der, err)
		}
		for _, v := range list {
			if v.Tag != asn1.TagOID && v.Tag != asn1.TagSequence {
				t.Errorf("%v: an element of tag %d", p.Keys, v.Tag)
			}
		}
		if oid, _ := asn1.Marshal(challenge); strings.Contains(string(der), string(oid)) {
			t.Errorf("%v: a challenge password is asked for", p.Keys)
		}
	}
}

package testkit_test

import (
	"crypto/x509"
	"strings"
	"testing"

	"github.com/passmuster/muster/internal/testkit"
)

func TestChainReadsAsItIsWritten(t *testing.T) {
	f := testkit.Chain(t, `root > mid [pathlen=0] > dev-1
		mid > dev-2 [expired, serial=7, eku=server+client]; lone [leaf]; copy [key=root, cn=root]`,
		testkit.Edit("dev-2", func(c *x509.Certificate) { c.DNSNames = []string{"dev-2"} }))
	root, mid, dev1, dev2 := f.Get("root"), f.Get("mid"), f.Get("dev-1"), f.Get("dev-2")
	for _, pair := range [][2]*testkit.Entity{{root, root}, {mid, root}, {dev1, mid}, {dev2, mid}} {
		if err := pair[0].Cert.CheckSignatureFrom(pair[1].Cert); err != nil {
			t.Errorf("%s below %s: %v", pair[0].Name, pair[1].Name, err)
		}
	}
	if !mid.Cert.IsCA || mid.Cert.MaxPathLen != 0 || dev1.Cert.IsCA || f.Get("lone").Cert.IsCA || f.Get("lone").Issuer != nil {
		t.Error("the wrong ones are CAs")
	}
	if dev2.Cert.SerialNumber.Int64() != 7 || !dev2.Cert.NotAfter.Before(testkit.Now()) || len(dev2.Cert.ExtKeyUsage) != 2 || len(dev2.Cert.DNSNames) != 1 {
		t.Error("attributes were lost")
	}
	if len(dev1.Chain()) != 2 || len(dev1.FullChain()) != 3 || len(root.Chain()) != 1 || len(dev1.TLS().Certificate) != 2 {
		t.Error("chains have the wrong length")
	}
	if f.Get("copy").Key != root.Key {
		t.Error("the key was not the same")
	}
	if f.Leaf().Name != "copy" {
		t.Errorf("the last one is %s", f.Leaf().Name)
	}
}

func TestSASSignsTheResourceAsItStands(t *testing.T) {
	raw := testkit.SAS([]byte("k"), "0ne", "dev-1", testkit.Now())
	encoded := testkit.SAS([]byte("k"), "0ne", "dev-1", testkit.Now(), testkit.Encoded(), testkit.KeyName(""))
	if !strings.Contains(raw, "sr=0ne/registrations/dev-1&") || !strings.HasSuffix(raw, "&skn=registration") {
		t.Error(raw)
	}
	if !strings.Contains(encoded, "sr=0ne%2Fregistrations%2Fdev-1&") || strings.Contains(encoded, "skn") {
		t.Error(encoded)
	}
}

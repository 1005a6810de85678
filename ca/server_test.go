package ca_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/passmuster/muster/policies"
)

func TestAServerCertificateIsRecordedAndGoodForItsNames(t *testing.T) {
	t.Parallel()
	w, root, issuing := newHierarchy(t, policies.KeyECP256)
	key := deviceKey(t, policies.KeyECP256)
	chain, err := w.Authority.IssueServer(t.Context(), "job:test", key.Public(), []string{"muster.example.net", "127.0.0.1"}, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if len(chain) != 2 {
		t.Fatalf("the chain has %d certificates, want leaf and issuing CA", len(chain))
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	rootCertificate, err := w.Authority.IssuerCertificate(root.ID)
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(rootCertificate)
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	above, err := x509.ParseCertificate(chain[1])
	if err != nil {
		t.Fatal(err)
	}
	between.AddCert(above)
	for _, name := range []string{"muster.example.net", "127.0.0.1"} {
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: between, CurrentTime: leaf.NotBefore.Add(time.Hour)}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	lintClean(t, chain[0])
	if leaf.Issuer.CommonName != above.Subject.CommonName || issuing.Name != above.Subject.CommonName {
		t.Errorf("issued by %s", leaf.Issuer)
	}
}

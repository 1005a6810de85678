package ca_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// BenchmarkIssue stands beside the least that signing the same certificate can cost.
func BenchmarkIssue(b *testing.B) {
	w, _, issuing := newHierarchy(b, "")
	key := deviceKey(b, policies.KeyECP256)
	who, csr := identity(b, "dev"), request(b, "dev", key)

	b.Run("Issue", func(b *testing.B) {
		for b.Loop() {
			if _, err := w.Issue(b.Context(), who, csr, policies.DefaultProfile(), verify.Thumbprint{}, noon); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("x509.CreateCertificate", func(b *testing.B) {
		parent, _ := x509.ParseCertificate(issuing.Certificate)
		signer, err := w.keys.Open(b.Context(), issuing.KeyURI)
		if err != nil {
			b.Fatal(err)
		}
		url := "http://pki.example/pki/" + string(issuing.ID)
		template := &x509.Certificate{
			SerialNumber: new(big.Int).Lsh(big.NewInt(1), 158), Subject: pkix.Name{CommonName: "dev"}, DNSNames: []string{"dev"},
			NotBefore: noon, NotAfter: noon.Add(24 * time.Hour), SubjectKeyId: make([]byte, 20), BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			IssuingCertificateURL: []string{url + ".crt"}, CRLDistributionPoints: []string{url + ".crl"},
		}
		for b.Loop() {
			if _, err := x509.CreateCertificate(rand.Reader, template, parent, csr.PublicKey, signer); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Record", func(b *testing.B) {
		u := w.issue(b, "dev", key, policies.DefaultProfile())
		event := audit.Event{Actor: "device:dev", Body: audit.Body(map[string]any{"hub": "h1.example", "operation": "0123456789abcdef"})}
		for b.Loop() {
			if _, err := ca.Record(&rows{}, u, event); err != nil {
				b.Fatal(err)
			}
		}
	})
}

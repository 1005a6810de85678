package ca_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"testing"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

func TestEachShapeIsLintedOnceAndEachTemplateReadOnce(t *testing.T) {
	w, _, _ := newHierarchy(t, "")
	key := deviceKey(t, policies.KeyECP256)
	names := permitting(policies.NameRules{DNS: []string{"*.plant.example"}, IP: []string{"10.0.0.0/8"}})
	p := templated(`, "dnsNames": ["{{ .Subject.CommonName }}.plant.example"], "ipAddresses": {{ toJson .Insecure.CR.IPAddresses }},
		"subject": {"organization": {{ toJson .Insecure.CR.Subject.Organization }}}`, names)
	shapes := 0
	issue := func(what string, p policies.Profile, csr x509.CertificateRequest, more int) {
		t.Helper()
		for i := range 3 {
			csr.Subject.CommonName = fmt.Sprintf("press-%d", i)
			if _, err := w.Issue(t.Context(), identity(t, csr.Subject.CommonName), requestFor(t, &csr, key), p, verify.Thumbprint{}, w.now); err != nil {
				t.Fatal(err)
			}
		}
		if shapes += more; w.LintedShapes() != shapes {
			t.Errorf("%s: %d shapes linted, want %d", what, w.LintedShapes(), shapes)
		}
	}
	issue("three devices of one shape", p, x509.CertificateRequest{}, 1)
	issue("again", p, x509.CertificateRequest{}, 0)
	issue("with another kind of name", p, x509.CertificateRequest{IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}}, 1)
	issue("with another name of that kind", p, x509.CertificateRequest{IPAddresses: []net.IP{net.IPv4(10, 0, 0, 2)}}, 0)
	issue("with another attribute", p, x509.CertificateRequest{Subject: pkix.Name{Organization: []string{"A"}}}, 1)
	issue("with another value of it", p, x509.CertificateRequest{Subject: pkix.Name{Organization: []string{"B"}}}, 0)
	issue("with a value that is written in another string type", p, x509.CertificateRequest{Subject: pkix.Name{Organization: []string{"Bäcker"}}}, 1)
	if got := w.ReadRecipes(); got != 1 {
		t.Errorf("%d texts read, want 1", got)
	}
	q := p
	q.Template += " "
	issue("in another version of the template", q, x509.CertificateRequest{}, 1)
	issue("without a template", policies.DefaultProfile(), x509.CertificateRequest{}, 1)
	if got := w.ReadRecipes(); got != 2 {
		t.Errorf("%d texts read, want 2", got)
	}
}

// What a device writes must not ride on the verdict about what another one wrote.
func TestATextThatALinterRefusesIsRefusedAfterAGoodOneToo(t *testing.T) {
	w, _, _ := newHierarchy(t, "")
	p := templated(`, "subject": {"serialNumber": {{ toJson .Insecure.CR.Subject.SerialNumber }}}`)
	for _, c := range []struct{ serial, rule string }{{"A-1", ""}, {"A_1", "certificate-lint"}, {"A-2", ""}} {
		csr := requestFor(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "press_1", SerialNumber: c.serial}}, deviceKey(t, policies.KeyECP256))
		_, err := w.Issue(t.Context(), identity(t, "press_1"), csr, p, verify.Thumbprint{}, w.now)
		if fault.RuleOf(err) != c.rule {
			t.Errorf("%s: %v, want rule %q", c.serial, err, c.rule)
		}
	}
}

// What a profile costs over the plain one: the lint is in none of these but the first
// certificate of each.
func BenchmarkIssueByProfile(b *testing.B) {
	w, _, _ := newHierarchy(b, "")
	key := deviceKey(b, policies.KeyECP256)
	who, plain := identity(b, "dev"), request(b, "dev", key)
	names := permitting(policies.NameRules{DNS: []string{"*.plant.example"}})
	further := requestFor(b, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "dev"}, DNSNames: []string{"dev.plant.example"}}, key)
	withNames := policies.DefaultProfile()
	names(&withNames)
	for _, c := range []struct {
		name string
		p    policies.Profile
		csr  *x509.CertificateRequest
	}{
		{"plain", policies.DefaultProfile(), plain},
		{"names", withNames, further},
		{"template", templated(`, "subject": {"organization": "Plant"}, "sans": {{ toJson .SANs }}`), plain},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.Issue(b.Context(), who, c.csr, c.p, verify.Thumbprint{}, noon); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(w.LintedShapes()), "shapes")
		})
	}
}

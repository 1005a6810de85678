package verify_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net/url"
	"testing"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/verify"
)

// RFC 5280, section 4.2.1.10: a host without a leading dot is that host alone.
func TestMailAndURIConstraintsMeanTheHostAlone(t *testing.T) {
	mail := func(address string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.EmailAddresses = []string{address} }
	}
	subjectMail := func(address string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{
				{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "dev"},
				{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, Value: address},
			}
		}
	}
	uri := func(text string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			u, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = []*url.URL{u}
		}
	}
	f := testkit.Chain(t, "root > ca [ca]; root > boxes [ca]", testkit.Edit("ca", func(c *x509.Certificate) {
		c.PermittedEmailAddresses, c.PermittedURIDomains = []string{"example.com", ".example.net"}, []string{"example.com"}
		c.PermittedDNSDomainsCritical = true
	}), testkit.Edit("boxes", func(c *x509.Certificate) {
		c.PermittedEmailAddresses, c.ExcludedEmailAddresses = []string{"ann@example.com"}, []string{"bob@example.com"}
		c.PermittedDNSDomainsCritical = true
	}))
	for _, tc := range []struct {
		name, issuer string
		edit         func(*x509.Certificate)
		rule         string
	}{
		{"no such names", "ca", func(*x509.Certificate) {}, ""},
		{"the host", "ca", mail("a@Example.com"), ""},
		{"a host below it", "ca", mail("a@mail.example.com"), "chain-name-constraints"},
		{"a host below a dotted one", "ca", mail("a@mail.example.net"), ""},
		{"the dotted one itself", "ca", mail("a@example.net"), "chain-name-constraints"},
		{"the host, in the subject", "ca", subjectMail("a@example.com"), ""},
		{"another host, in the subject", "ca", subjectMail("a@example.org"), "chain-name-constraints"},
		{"no address at all, in the subject", "ca", subjectMail("example.com"), "chain-name-constraints"},
		{"a URI of the host", "ca", uri("https://example.com:8443/x"), ""},
		{"a URI of a host below it", "ca", uri("https://a.example.com/"), "chain-name-constraints"},
		{"the mailbox", "boxes", mail("ann@example.com"), ""},
		{"another mailbox", "boxes", mail("eve@example.com"), "chain-name-constraints"},
		{"an excluded mailbox, in the subject", "boxes", subjectMail("bob@example.com"), "chain-name-constraints"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			leaf := f.Get(tc.issuer).Issue(t, "dev", testkit.WithTemplate(tc.edit))
			_, err := verify.CheckChain(mustChain(t, leaf.Chain()...), anchors(f, "root"), testkit.Now(), nil)
			if fault.RuleOf(err) != tc.rule {
				t.Errorf("want rule %q, got %v", tc.rule, err)
			}
		})
	}
}

func TestASerialNumberHasAtMost20Octets(t *testing.T) {
	root := testkit.Root(t, "root")
	one := big.NewInt(1)
	longest := new(big.Int).Sub(new(big.Int).Lsh(one, 159), one)
	for name, tc := range map[string]struct {
		serial *big.Int
		rule   string
	}{
		"the longest": {longest, ""}, "one more, for which DER needs 21": {new(big.Int).Add(longest, one), "chain-serial"},
	} {
		leaf := root.Issue(t, "dev", testkit.WithTemplate(func(c *x509.Certificate) { c.SerialNumber = tc.serial }))
		_, err := verify.CheckChain(mustChain(t, leaf.Cert), []verify.Link{verify.NewLink(root.Cert)}, testkit.Now(), nil)
		if fault.RuleOf(err) != tc.rule {
			t.Errorf("%s: want rule %q, got %v", name, tc.rule, err)
		}
	}
}

func TestAnEmptySubjectNeedsACriticalAlternativeName(t *testing.T) {
	root := testkit.Root(t, "root")
	named := testkit.WithTemplate(func(c *x509.Certificate) { c.DNSNames = []string{"dev.example.com"} })
	for name, tc := range map[string]struct {
		opts []testkit.Option
		rule string
	}{
		"with one": {[]testkit.Option{named}, ""}, "without": {nil, "chain-name"},
	} {
		leaf := root.Issue(t, "", tc.opts...)
		_, err := verify.CheckChain(mustChain(t, leaf.Cert), []verify.Link{verify.NewLink(root.Cert)}, testkit.Now(), nil)
		if fault.RuleOf(err) != tc.rule {
			t.Errorf("%s: want rule %q, got %v", name, tc.rule, err)
		}
	}
}

package storetest

import (
	"crypto/x509"
	"strings"
	"testing"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// lints puts certificates into a store and wants those that break a rule to be found,
// however they came there.
func lints(t *testing.T, open Open) {
	f := testkit.Chain(t, "root > issuing > dev-1; issuing > dev-2",
		testkit.Edit("dev-2", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }))
	for _, c := range []struct {
		name     string
		issuer   []byte
		role     ca.Role
		der      []byte
		findings string
	}{
		{"a clean one of a real issuer", f.Get("issuing").Cert.Raw, ca.RoleIssuing, f.Get("dev-1").Cert.Raw, ""},
		{"one that breaks a rule", f.Get("issuing").Cert.Raw, ca.RoleIssuing, f.Get("dev-2").Cert.Raw, "of dev-5: e_key_usage_and_extended_key_usage_inconsistent"},
		{"one that does not parse", f.Get("issuing").Cert.Raw, ca.RoleIssuing, []byte("made up"), "of dev-5: it does not parse"},
		{"an issuer that breaks a rule", f.Get("dev-2").Cert.Raw, ca.RoleRoot, f.Get("dev-1").Cert.Raw, "issuer Issuing CA: e_"},
		{"one below an issuer that is made up", []byte{0x30, 1}, ca.RoleIssuing, f.Get("dev-2").Cert.Raw, ""},
		{"one below a CA of others", f.Get("dev-2").Cert.Raw, ca.RoleExternal, f.Get("dev-2").Cert.Raw, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, open)
			i := w.issuer(1)
			i.Certificate, i.Role = c.issuer, c.role
			if c.role == ca.RoleExternal {
				i.KeyURI = ""
			}
			leaf := w.certificate(i, "dev-5")
			leaf.DER, leaf.Thumbprint = c.der, verify.ThumbprintOf(c.der)
			w.update(func(tx provisioning.Tx) error {
				if err := w.create(tx, i); err != nil {
					return err
				}
				return w.record(tx, leaf)
			})
			broken, err := lint(bg, w.db)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(broken, "\n"); (got == "") != (c.findings == "") || !strings.Contains(got, c.findings) {
				t.Errorf("found %q, want %q", got, c.findings)
			}
		})
	}
}

package testkit_test

import (
	"crypto/x509"
	"strings"
	"testing"

	"github.com/passmuster/muster/internal/testkit"
)

func TestLintFindsWhatBreaksARuleAndNothingElse(t *testing.T) {
	f := testkit.Chain(t, "root > mid > leaf; mid > bad",
		testkit.Edit("bad", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }))
	for _, good := range []string{"root", "mid", "leaf"} {
		for range 2 { // the second time from memory
			if broken := testkit.Lint(f.Get(good).Cert.Raw); len(broken) > 0 {
				t.Errorf("%s: %v", good, broken)
			}
		}
	}
	const rule = "e_key_usage_and_extended_key_usage_inconsistent"
	for range 2 {
		if broken := testkit.Lint(f.Get("bad").Cert.Raw); !strings.Contains(strings.Join(broken, "\n"), rule) {
			t.Errorf("%v does not name %s", broken, rule)
		}
	}
	if broken := testkit.Lint([]byte{0x30, 0}); len(broken) != 1 {
		t.Errorf("no certificate: %v", broken)
	}
}

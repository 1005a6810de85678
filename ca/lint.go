package ca

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

// maxShapes bounds what is remembered: a few profiles times a few key types.
const maxShapes = 256

// shape is all of a certificate but name, key, serial and dates. Certificates of one
// shape pass the linter or fail it together (INV-P6).
type shape struct {
	issuer             IssuerID
	profile            string
	lifetime, backdate time.Duration
	usages             string // the profile's extended key usages, in order
	key                policies.KeyType
	named              bool   // has a subject alternative name
	form               string // of what the profile adds to the plain certificate; see formOf
}

// shapes remembers which shapes have passed. A shape that fails is linted again each
// time: that is an operator's mistake, and the answer names it.
type shapes struct {
	linter lint.Registry

	mu     sync.RWMutex
	passed map[shape]bool
}

func newShapes() *shapes {
	// The CA/Browser Forum's rules are for web servers and are left out.
	linter, err := lint.GlobalRegistry().Filter(lint.FilterOptions{
		IncludeSources: lint.SourceList{lint.RFC5280, lint.RFC5480, lint.RFC3279, lint.RFC8813, lint.Community},
	})
	if err != nil {
		panic("internal error: selecting lints: " + err.Error())
	}
	return &shapes{linter: linter, passed: make(map[shape]bool)}
}

// check lints a device certificate unless its shape has passed before.
func (s *shapes) check(sh shape, template *x509.Certificate, by *issuer) error {
	s.mu.RLock()
	passed := s.passed[sh]
	s.mu.RUnlock()
	if passed {
		return nil
	}
	if forbidden(template) {
		return fault.New(fault.Unavailable, "certificate-lint", "The profile makes certificates with powers no device may have.").About("profile " + sh.profile)
	}
	standIn, err := by.standIn()
	if err != nil {
		return err
	}
	if err := s.lint(template, standIn); err != nil {
		return err.About("profile " + sh.profile)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.passed) >= maxShapes {
		clear(s.passed)
	}
	s.passed[sh] = true
	return nil
}

// forbidden is what no device certificate may be (INV-P4), whatever a profile says.
func forbidden(t *x509.Certificate) bool {
	return t.IsCA || t.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 ||
		slices.Contains(t.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) || slices.Contains(t.ExtKeyUsage, x509.ExtKeyUsageAny)
}

// lint signs the template with a throw-away key and lints the result. A finding of
// Error or Fatal is fault.Unavailable, rule "certificate-lint", and names the lints.
func (s *shapes) lint(template *x509.Certificate, by *standIn) *fault.Error {
	der, err := x509.CreateCertificate(rand.Reader, template, by.certificate, template.PublicKey, by.signer)
	if err != nil {
		return fault.New(fault.Unavailable, "certificate-lint", "The certificate cannot be encoded.").Because(err)
	}
	certificate, err := zx509.ParseCertificate(der)
	if err != nil {
		return fault.New(fault.Unavailable, "certificate-lint", "The certificate cannot be read.").Because(err)
	}
	if found := s.findings(certificate); len(found) > 0 {
		return fault.New(fault.Unavailable, "certificate-lint", "The certificate would break a rule: %s.", strings.Join(found, ", "))
	}
	return nil
}

// findings are the lints that a certificate breaks, in order.
func (s *shapes) findings(certificate *zx509.Certificate) (found []string) {
	for name, result := range zlint.LintCertificateEx(certificate, s.linter).Results {
		if result.Status == lint.Error || result.Status == lint.Fatal {
			found = append(found, strings.TrimSpace(fmt.Sprint(name, " ", result.Details)))
		}
	}
	slices.Sort(found)
	return found
}

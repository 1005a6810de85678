package testkit

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"
)

// linted remembers certificates that were clean: worlds are checked after every step.
var linted sync.Map // SHA-256 of the DER

// rfcs are the sources that the authority itself lints by: not the rules for browsers.
var rfcs = sync.OnceValues(func() (lint.Registry, error) {
	return lint.GlobalRegistry().Filter(lint.FilterOptions{
		IncludeSources: lint.SourceList{lint.RFC5280, lint.RFC5480, lint.RFC3279, lint.RFC8813, lint.Community},
	})
})

// Lint names every rule that an issued certificate breaks, as "lint: what"; none: it
// is clean. Unlike the authority, which lints a shape before it signs, it reads what
// was signed.
func Lint(der []byte) (broken []string) {
	sum := sha256.Sum256(der)
	if _, clean := linted.Load(sum); clean {
		return nil
	}
	certificate, err := zx509.ParseCertificate(der)
	if err != nil {
		return []string{"it does not parse: " + err.Error()}
	}
	registry, err := rfcs()
	if err != nil {
		return []string{"selecting lints: " + err.Error()}
	}
	for name, result := range zlint.LintCertificateEx(certificate, registry).Results {
		if result.Status == lint.Error || result.Status == lint.Fatal {
			broken = append(broken, strings.TrimSpace(fmt.Sprint(name, ": ", result.Details)))
		}
	}
	slices.Sort(broken)
	if len(broken) == 0 {
		linted.Store(sum, true)
	}
	return broken
}

package verify

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

const maxAnchorName = 64

// TrustAnchor is a CA certificate that an owner uploaded under a name. Until
// somebody has proven to hold its key, or an operator has vouched for it, it vouches
// for nothing (INV-V5). It is a value: each method returns a new one and leaves its
// receiver as it was, and every change of state moves the version on by one.
type TrustAnchor struct {
	name             string
	link             Link
	verifiedAt       time.Time // zero: unverified
	verifiedBy       string
	code             VerificationCode
	codeExpires      time.Time
	created, updated time.Time
	version          int64
}

// AnchorRecord is a trust anchor as it is stored. VerifiedBy is "" while unverified,
// "proof" after a proof of possession, "operator:NAME" after an operator's word;
// Code is "" when none is outstanding.
type AnchorRecord struct {
	Name             string
	Certificate      []byte // DER
	VerifiedAt       time.Time
	VerifiedBy       string
	Code             string
	CodeExpires      time.Time
	Created, Updated time.Time
	Version          int64
}

const byProof = "proof"

// NewTrustAnchor takes an uploaded CA certificate, unverified. Its versions start at
// the time of its making, so that an etag of a deleted namesake never matches. The
// name has letters, digits and "-._", at most 64. Bad input is Malformed with rule
// "anchor-name", "anchor-not-a-ca", "anchor-weak-key", "anchor-weak-signature",
// "anchor-critical-extension" or "anchor-expired".
func NewTrustAnchor(name string, cert *x509.Certificate, now time.Time) (TrustAnchor, error) {
	if !isAnchorName(name) {
		return TrustAnchor{}, fault.New(fault.Malformed, "anchor-name", "The name of a CA has 1 to 64 letters, digits and the characters - . _")
	}
	if err := checkAnchor(cert, now); err != nil {
		return TrustAnchor{}, err
	}
	return TrustAnchor{name: name, link: NewLink(cert), created: now, updated: now, version: now.UnixMilli()}, nil
}

func isAnchorName(name string) bool {
	for i := range len(name) {
		if !isLetterOrDigit(name[i]) && !strings.ContainsRune("-._", rune(name[i])) {
			return false
		}
	}
	return name != "" && len(name) <= maxAnchorName
}

func checkAnchor(c *x509.Certificate, now time.Time) error {
	bad := func(rule, sentence string) error { return fault.New(fault.Malformed, rule, "%s", sentence) }
	switch {
	case !isCA(c) || emptyName(c.RawSubject):
		return bad("anchor-not-a-ca", "The certificate is not that of a CA that may sign certificates.")
	case weakKey(c):
		return bad("anchor-weak-key", "The CA's key is weak: RSA of 2048 to 8192 bits, P-256, P-384, P-521 or Ed25519 is wanted.")
	case weakSignature(c.SignatureAlgorithm):
		return bad("anchor-weak-signature", "The certificate is signed with SHA-1, MD5 or an unknown algorithm.")
	case len(relaxed(c).UnhandledCriticalExtensions) > 0:
		return bad("anchor-critical-extension", "The certificate has a critical extension that is not understood.")
	case wholeSecond(now).After(c.NotAfter):
		return bad("anchor-expired", "The certificate has expired.")
	}
	return nil
}

func weakSignature(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512, x509.PureEd25519:
		return false
	}
	return true
}

// RestoreTrustAnchor makes an anchor of its record; only the store calls it. A
// record that no anchor could have written is an internal error.
func RestoreTrustAnchor(r AnchorRecord) (TrustAnchor, error) {
	cert, err := x509.ParseCertificate(r.Certificate)
	if err != nil {
		return TrustAnchor{}, fmt.Errorf("restoring trust anchor %q: %w", r.Name, err)
	}
	if r.VerifiedAt.IsZero() != (r.VerifiedBy == "") || !isAnchorName(r.Name) || r.Version < 1 {
		return TrustAnchor{}, fmt.Errorf("restoring trust anchor %q: %w", r.Name, errors.New("the record contradicts itself"))
	}
	return TrustAnchor{
		name: r.Name, link: NewLink(cert), verifiedAt: r.VerifiedAt, verifiedBy: r.VerifiedBy,
		code: VerificationCode(r.Code), codeExpires: r.CodeExpires,
		created: r.Created, updated: r.Updated, version: r.Version,
	}, nil
}

// Record is the anchor as the store keeps it.
func (a TrustAnchor) Record() AnchorRecord {
	r := AnchorRecord{
		Name: a.name, VerifiedAt: a.verifiedAt, VerifiedBy: a.verifiedBy,
		Code: string(a.code), CodeExpires: a.codeExpires,
		Created: a.created, Updated: a.updated, Version: a.version,
	}
	if a.link.Cert != nil {
		r.Certificate = bytes.Clone(a.link.Cert.Raw)
	}
	return r
}

// Name is what the owner calls it.
func (a TrustAnchor) Name() string { return a.name }

// Link is its certificate.
func (a TrustAnchor) Link() Link { return a.link }

// IsVerified reports whether it vouches for anything.
func (a TrustAnchor) IsVerified() bool { return !a.verifiedAt.IsZero() }

// Version moves on by one with every change; etags are made of it.
func (a TrustAnchor) Version() int64 { return a.version }

// Replace puts another certificate under the name: unverified, and any code dead
// (INV-V2). The very same bytes change nothing, so that an upload can be repeated
// (scenario B7). Bad input is that of [NewTrustAnchor].
func (a TrustAnchor) Replace(cert *x509.Certificate, now time.Time) (TrustAnchor, error) {
	if a.link.Thumbprint == ThumbprintOf(cert.Raw) {
		return a, nil
	}
	if err := checkAnchor(cert, now); err != nil {
		return a, err
	}
	next := a.changed(now)
	next.link = NewLink(cert)
	next.verifiedAt, next.verifiedBy = time.Time{}, ""
	return next, nil
}

// VouchedBy is an operator's word in place of a proof, recorded as such: VerifiedBy
// becomes "operator:NAME" (scenario B8).
func (a TrustAnchor) VouchedBy(operator string, now time.Time) TrustAnchor {
	next := a.changed(now)
	next.verifiedAt, next.verifiedBy = now, "operator:"+operator
	return next
}

// changed begins a change of state. Every one of them kills the code that was
// outstanding (INV-V2).
func (a TrustAnchor) changed(now time.Time) TrustAnchor {
	a.code, a.codeExpires = "", time.Time{}
	a.updated = now
	a.version++
	return a
}

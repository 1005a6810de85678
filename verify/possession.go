package verify

import (
	"bytes"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

const (
	codeBytes    = 24 // 192 random bits; INV-V1 asks for 128
	codeLifetime = 24 * time.Hour
)

// VerificationCode is what the owner of a CA puts into the CN of a certificate that
// only the CA's key can sign: 48 upper case hex digits.
type VerificationCode string

// NewVerificationCode makes a fresh code for this anchor, good for 24 hours and one
// use, and voids the one before (INV-V1, V2). A verified anchor stays verified. The
// error is that of the random source.
func (a TrustAnchor) NewVerificationCode(rand io.Reader, now time.Time) (TrustAnchor, VerificationCode, error) {
	var random [codeBytes]byte
	if _, err := io.ReadFull(rand, random[:]); err != nil {
		return a, "", fmt.Errorf("making a verification code: %w", err)
	}
	next := a.changed(now)
	next.code = VerificationCode(strings.ToUpper(hex.EncodeToString(random[:])))
	next.codeExpires = now.Add(codeLifetime)
	return next, next.code, nil
}

// ProvePossession turns the anchor verified if cert is a verification certificate:
// signed by this CA's own key, named after the outstanding code, within its dates,
// and no CA certificate (INV-V3). The code is used up. On failure the anchor that
// comes back is unchanged, its code still good, and the error is Malformed with rule
// "proof-no-code", "proof-code-expired", "proof-is-ca", "proof-not-signed",
// "proof-not-named" or "proof-not-in-date"; its detail says of each of the last
// three whether it held.
func (a TrustAnchor) ProvePossession(cert *x509.Certificate, now time.Time) (TrustAnchor, error) {
	bad := func(rule, sentence string) error { return fault.New(fault.Malformed, rule, "%s", sentence) }
	switch {
	case a.code == "":
		return a, bad("proof-no-code", "No verification code is outstanding for this CA: generate one first.")
	case !now.Before(a.codeExpires):
		return a, bad("proof-code-expired", "The verification code has expired: generate a new one.")
	case cert.IsCA || bytes.Equal(cert.Raw, a.link.Cert.Raw):
		return a, bad("proof-is-ca", "This is a CA certificate: make a leaf, with the verification code as its CN, signed by the CA.")
	}
	signed := a.hasSigned(cert)
	named := a.isNamedAfterCode(cert)
	inDate := checkLeafDates(cert, wholeSecond(now)) == nil
	if signed && named && inDate {
		next := a.changed(now)
		next.verifiedAt, next.verifiedBy = now, byProof
		return next, nil
	}
	rule := "proof-not-in-date"
	switch {
	case !signed:
		rule = "proof-not-signed"
	case !named:
		rule = "proof-not-named"
	}
	return a, bad(rule, fmt.Sprintf("The verification certificate fails: signed by the CA's own key: %s; CN exactly the code: %s; in date: %s.",
		yesNo(signed), yesNo(named), yesNo(inDate)))
}

// hasSigned asks the key first (INV-V3: another CA of the same name has another one)
// and the name as well (protocols/dps.md, section 5).
func (a TrustAnchor) hasSigned(cert *x509.Certificate) bool {
	return SignedBy(Link{Cert: cert}, a.link) && bytes.Equal(cert.RawIssuer, a.link.Cert.RawSubject)
}

func (a TrustAnchor) isNamedAfterCode(cert *x509.Certificate) bool {
	cn, ok := onlyCommonName(cert)
	return ok && subtle.ConstantTimeCompare([]byte(cn), []byte(a.code)) == 1
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

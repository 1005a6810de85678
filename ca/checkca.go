package ca

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

// checkCA says whether a certificate is a CA's that Muster can sign devices and CRLs below.
func checkCA(c *x509.Certificate, now time.Time) error {
	bad := func(rule, sentence string, args ...any) error {
		return fault.New(fault.Malformed, rule, sentence, args...).About("certificate of " + c.Subject.String())
	}
	const usage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		return bad("issuer-not-ca", "The certificate is not a CA's.")
	case c.KeyUsage&usage != usage:
		return bad("issuer-key-usage", "The CA's certificate does not allow it to sign certificates and CRLs.")
	case hasNoName(c.RawSubject):
		return bad("issuer-name", "The CA has no name.")
	case len(c.SubjectKeyId) == 0:
		return bad("issuer-key-id", "The CA's certificate has no subject key identifier.")
	case !mayVouch(c):
		return bad("issuer-purpose", "The CA's extended key usage leaves out client authentication, which devices need.")
	case len(c.UnhandledCriticalExtensions) > 0:
		return bad("issuer-critical-extension", "The certificate has a critical extension that is not understood.")
	case now.After(c.NotAfter):
		return bad("issuer-expired", "The certificate expired at %s.", c.NotAfter.Format(time.RFC3339))
	case now.Before(c.NotBefore):
		return bad("issuer-not-yet-valid", "The certificate is valid from %s.", c.NotBefore.Format(time.RFC3339))
	}
	return checkStrength(c)
}

func checkStrength(c *x509.Certificate) error {
	kt, err := policies.KeyTypeOf(c.PublicKey)
	if err == nil {
		err = policies.CheckKey([]policies.KeyType{kt}, c.PublicKey) // INV-P5
	}
	if err != nil {
		return fault.New(fault.Malformed, "issuer-weak-key", "The CA's key is weak or of a kind that is not used here.").About("certificate of " + c.Subject.String()).Because(err)
	}
	switch c.SignatureAlgorithm {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512, x509.PureEd25519:
		return nil
	}
	return fault.New(fault.Malformed, "issuer-weak-signature", "The certificate is signed with SHA-1, MD5 or an unknown algorithm.").About("certificate of " + c.Subject.String())
}

// hasNoName says that a distinguished name is an empty sequence.
func hasNoName(rdns []byte) bool {
	var name asn1.RawValue
	rest, err := asn1.Unmarshal(rdns, &name)
	return err != nil || len(rest) > 0 || len(name.Bytes) == 0
}

// mayVouch says whether a CA's extended key usage, where there is any, lets clients through.
func mayVouch(c *x509.Certificate) bool {
	return len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
}

// checkPath checks what is true of a CA's whole path only, the CA first: every certificate
// is a CA's in date, leaves room below it, and outlives what is signed now.
func checkPath(path []*x509.Certificate, lifetime time.Duration, now time.Time) error {
	for below, c := range path {
		if below > 0 {
			if err := checkAbove(c, below, now); err != nil {
				return err
			}
		}
		if c.NotAfter.Before(now.Add(lifetime)) {
			return fault.New(fault.Malformed, "issuer-ends-too-soon", "The certificate ends %s, before what it would sign now for %s.",
				c.NotAfter.Format(time.RFC3339), lifetime).About("certificate of " + c.Subject.String())
		}
	}
	return nil
}

// checkAbove checks a CA above the one imported, with so many CAs below it.
func checkAbove(c *x509.Certificate, below int, now time.Time) error {
	about := "certificate of " + c.Subject.String()
	switch {
	case !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return fault.New(fault.Malformed, "issuer-not-ca", "A certificate above it is not a CA's.").About(about)
	case c.MaxPathLen >= 0 && (c.MaxPathLen > 0 || c.MaxPathLenZero) && c.MaxPathLen < below:
		return fault.New(fault.Malformed, "issuer-path-length", "The path length %d of the CA above it leaves no room for it.", c.MaxPathLen).About(about)
	case now.After(c.NotAfter):
		return fault.New(fault.Malformed, "issuer-expired", "A certificate above it has expired.").About(about)
	case now.Before(c.NotBefore):
		return fault.New(fault.Malformed, "issuer-not-yet-valid", "A certificate above it is not valid yet.").About(about)
	case !mayVouch(c):
		return fault.New(fault.Malformed, "issuer-purpose", "The extended key usage of a CA above it leaves out client authentication.").About(about)
	}
	return checkStrength(c)
}

package verify

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strconv"
)

// maxSerialBits: a positive number of 20 octets (RFC 5280, section 4.1.2.2).
const maxSerialBits = 20*8 - 1

const minRSABits = 2048

var (
	oidKeyUsage        = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSubjectAltName  = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidNameConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}
	oidExtKeyUsage     = asn1.ObjectIdentifier{2, 5, 29, 37}
)

// checkShape asks of a path what RFC 5280 demands and the standard library lets pass.
// It does not ask what real factories fail at: Azure's own PowerShell script makes
// CAs whose basicConstraints are not critical and leaves with a path length, and
// plain openssl makes leaves without key identifiers (scenarios A11, A12).
func checkShape(path []Link) error {
	for i, l := range path {
		if err := checkCertificate(l.Cert); err != nil {
			return err
		}
		// Of an anchor only the name and the key count (RFC 5280, section 6.1.1 d).
		if serial := l.Cert.SerialNumber; (i == 0 || i < len(path)-1) && (serial.Sign() <= 0 || serial.BitLen() > maxSerialBits) {
			return refuse("chain-serial", "The serial number of %s is not a positive number of at most 20 octets.", subjectOf(l))
		}
		if i > 0 && !isCA(l.Cert) {
			return refuse("chain-not-a-ca", "%s has issued a certificate but is no CA.", subjectOf(l))
		}
		if i > 0 && emptyName(l.Cert.RawSubject) {
			return refuse("chain-name", "A CA of the chain has no name.")
		}
	}
	if err := checkPathLengths(path); err != nil {
		return err
	}
	return checkNameConstraints(path)
}

// checkCertificate asks what holds for every certificate, CA or not.
func checkCertificate(c *x509.Certificate) error {
	switch {
	case weakKey(c):
		return refuse("chain-weak-key", "%s has a weak or unknown kind of key.", subjectOf(Link{Cert: c}))
	case c.KeyUsage&x509.KeyUsageCertSign != 0 && !c.IsCA:
		return refuse("chain-key-usage", "%s may sign certificates by its key usage but is no CA.", subjectOf(Link{Cert: c}))
	case extension(c, oidNameConstraints) != nil && !c.IsCA:
		return refuse("chain-name-constraints", "%s constrains names but is no CA.", subjectOf(Link{Cert: c}))
	case extension(c, oidExtKeyUsage) != nil && len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0:
		return refuse("chain-eku", "%s has an extended key usage that allows nothing.", subjectOf(Link{Cert: c}))
	case extension(c, oidNameConstraints) != nil && !extension(c, oidNameConstraints).Critical:
		return refuse("chain-critical-extension", "%s has name constraints that are not marked critical.", subjectOf(Link{Cert: c}))
	case emptyName(c.RawIssuer):
		return refuse("chain-name", "A certificate of the chain names no issuer.")
	case emptyName(c.RawSubject) && !criticalAltName(c):
		return refuse("chain-name", "A certificate of the chain has neither a subject nor a critical alternative name.")
	}
	return nil
}

// isCA reports whether a certificate may sign others: it says so, and its key usage,
// if there is one, does not deny it.
func isCA(c *x509.Certificate) bool {
	return c.BasicConstraintsValid && c.IsCA &&
		(extension(c, oidKeyUsage) == nil || c.KeyUsage&x509.KeyUsageCertSign != 0)
}

// weakKey reports a key that vouches for nothing: RSA under 2048 or over 8192 bits,
// curves other than P-256, P-384, P-521 and Ed25519.
func weakKey(c *x509.Certificate) bool {
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return key.N.BitLen() < minRSABits || key.N.BitLen() > maxRSABits
	case *ecdsa.PublicKey:
		return key.Curve != elliptic.P256() && key.Curve != elliptic.P384() && key.Curve != elliptic.P521()
	case ed25519.PublicKey:
		return false
	}
	return true
}

// checkPathLengths counts as RFC 5280, section 6.1.4 (l) and (m), do: self-issued
// intermediates are free.
func checkPathLengths(path []Link) error {
	below := 0
	for i := 1; i < len(path); i++ {
		c := path[i].Cert
		if c.MaxPathLen >= 0 && below > c.MaxPathLen {
			return refuse("chain-path-length", "More CAs stand below %s than its path length allows.", subjectOf(path[i]))
		}
		if !bytes.Equal(c.RawIssuer, c.RawSubject) {
			below++
		}
	}
	return nil
}

func extension(c *x509.Certificate, oid asn1.ObjectIdentifier) *pkix.Extension {
	for i := range c.Extensions {
		if c.Extensions[i].Id.Equal(oid) {
			return &c.Extensions[i]
		}
	}
	return nil
}

func criticalAltName(c *x509.Certificate) bool {
	e := extension(c, oidSubjectAltName)
	return e != nil && e.Critical
}

// emptyName reports a name without parts: an empty DER sequence.
func emptyName(raw []byte) bool { return len(raw) <= 2 }

// quoted keeps whatever a stranger put into a name from breaking a line of a log.
func quoted(s string) string { return strconv.QuoteToASCII(s) }

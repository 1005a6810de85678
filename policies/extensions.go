package policies

import (
	"crypto/x509"
	encasn1 "encoding/asn1"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Bits of the key usage extension (RFC 5280 §4.2.1.3) that only a CA has.
const (
	bitKeyCertSign = 5
	bitCRLSign     = 6
)

// purposes are the extended key usages a profile may have, by the last arc of their
// identifier under id-kp. OCSPSigning (9) and anyExtendedKeyUsage are left out for
// good (INV-P4).
var purposes = [...]x509.ExtKeyUsage{
	1: x509.ExtKeyUsageServerAuth,
	2: x509.ExtKeyUsageClientAuth,
	3: x509.ExtKeyUsageCodeSigning,
	4: x509.ExtKeyUsageEmailProtection,
	5: x509.ExtKeyUsageIPSECEndSystem,
	6: x509.ExtKeyUsageIPSECTunnel,
	7: x509.ExtKeyUsageIPSECUser,
	8: x509.ExtKeyUsageTimeStamping,
}

// checkExtension looks at one requested extension. Those we do not know are ignored,
// as they reach no certificate, unless the device insists on them (INV-P4).
func checkExtension(e extension, p Profile, want string) error {
	switch string(e.oid) {
	case oidSubjectAltName:
		return checkAltNames(e.value, want, p.Names != nil)
	case oidBasicConstraints:
		return checkBasicConstraints(e.value)
	case oidKeyUsage:
		return checkKeyUsage(e.value)
	case oidExtKeyUsage:
		return checkExtKeyUsage(e.value, p.ExtKeyUsage)
	case oidSubjectKeyID: // ours is computed from the key
		return nil
	}
	if e.critical && !p.takes(e.oid) {
		return refuse("csr-extension-not-allowed", "the certificate request insists on an extension that is not allowed")
	}
	return nil
}

func checkBasicConstraints(value cryptobyte.String) error {
	var fields cryptobyte.String
	if !value.ReadASN1(&fields, asn1.SEQUENCE) || !value.Empty() {
		return malformed()
	}
	ca := false
	if fields.PeekASN1Tag(asn1.BOOLEAN) && !fields.ReadASN1Boolean(&ca) {
		return malformed()
	}
	if ca || !fields.Empty() { // what is left can only be a path length
		return refuse("csr-asks-for-ca", "the certificate request asks for a CA certificate")
	}
	return nil
}

func checkKeyUsage(value cryptobyte.String) error {
	var bits encasn1.BitString
	if !value.ReadASN1BitString(&bits) || !value.Empty() {
		return malformed()
	}
	if bits.At(bitKeyCertSign) == 1 || bits.At(bitCRLSign) == 1 {
		return refuse("csr-asks-for-ca", "the certificate request asks for a key usage of a CA")
	}
	return nil
}

func checkExtKeyUsage(value cryptobyte.String, allowed []x509.ExtKeyUsage) error {
	var list cryptobyte.String
	if !value.ReadASN1(&list, asn1.SEQUENCE) || !value.Empty() {
		return malformed()
	}
	for !list.Empty() {
		var oid cryptobyte.String
		if !list.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) {
			return malformed()
		}
		if u := purpose(oid); u == 0 || !slices.Contains(allowed, u) {
			return refuse("csr-usage-not-allowed", "the certificate request asks for an extended key usage that the profile does not have")
		}
	}
	return nil
}

// purpose is the extended key usage with this identifier, 0 for one that no profile has.
func purpose(oid cryptobyte.String) x509.ExtKeyUsage {
	const last = len(oidPurposes)
	if len(oid) != last+1 || string(oid[:last]) != oidPurposes || int(oid[last]) >= len(purposes) {
		return 0
	}
	return purposes[oid[last]]
}

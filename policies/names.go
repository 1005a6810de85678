package policies

import (
	"slices"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// maxCommonName is ub-common-name of RFC 5280 appendix A.1.
const maxCommonName = 64

// String types that crypto/cryptobyte has no name for, and the tag of a dNSName in a
// GeneralName (RFC 5280 §4.2.1.6).
const (
	tagPrintableString = asn1.Tag(19)
	tagIA5String       = asn1.Tag(22)
)

var tagDNSName = asn1.Tag(2).ContextSpecific()

// nameKinds are the kinds of GeneralName that a profile with names of its own lets a
// request ask for: rfc822Name, dNSName, uniformResourceIdentifier, iPAddress.
var nameKinds = [...]asn1.Tag{asn1.Tag(1).ContextSpecific(), tagDNSName, asn1.Tag(6).ContextSpecific(), asn1.Tag(7).ContextSpecific()}

// checkSubject asks for exactly one common name that is the device's id. Other
// attributes of the subject are allowed, and never copied (INV-P2).
func checkSubject(subject cryptobyte.String, want string) error {
	if want == "" || len(want) > maxCommonName {
		return refuse("csr-name-length", "a certificate can be issued for an id of 1 to %d characters", maxCommonName)
	}
	found := false
	for !subject.Empty() {
		var rdn cryptobyte.String
		if !subject.ReadASN1(&rdn, asn1.SET) || rdn.Empty() {
			return malformed()
		}
		for !rdn.Empty() {
			var attribute, oid, value cryptobyte.String
			var tag asn1.Tag
			if !rdn.ReadASN1(&attribute, asn1.SEQUENCE) ||
				!attribute.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) ||
				!attribute.ReadAnyASN1(&value, &tag) ||
				!attribute.Empty() {
				return malformed()
			}
			if string(oid) != oidCommonName {
				continue
			}
			if found {
				return refuse("csr-several-common-names", "the subject has more than one common name")
			}
			found = true
			if tag != asn1.UTF8String && tag != tagPrintableString && tag != tagIA5String {
				return refuse("csr-common-name-type", "the common name is not a UTF8String or PrintableString")
			}
			if !sameName(value, want) {
				return refuse("csr-names-other-device", "the common name is not the id of this device")
			}
		}
	}
	if !found {
		return refuse("csr-no-common-name", "the subject has no common name")
	}
	return nil
}

// checkAltNames allows the device's id as a DNS name, and no name of any other kind:
// each kind has its own readers, and to one of them it might mean another device. Where
// the profile permits further names, which of them is judged with the certificate.
func checkAltNames(names cryptobyte.String, want string, further bool) error {
	outer := names
	if !outer.ReadASN1(&names, asn1.SEQUENCE) || !outer.Empty() {
		return malformed()
	}
	for !names.Empty() {
		var name cryptobyte.String
		var tag asn1.Tag
		if !names.ReadAnyASN1(&name, &tag) {
			return malformed()
		}
		if further && slices.Contains(nameKinds[:], tag) {
			continue
		}
		if tag != tagDNSName {
			return refuse("csr-name-kind-not-allowed", "the certificate request asks for an alternative name that is not a DNS name")
		}
		if !sameName(name, want) {
			return refuse("csr-names-other-device", "the certificate request asks for the name of another device")
		}
	}
	return nil
}

// sameName compares two names without regard to the case of ASCII letters. Nothing
// else is folded: Unicode folding takes the Kelvin sign for the letter k.
func sameName[T ~string | ~[]byte](a T, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(b) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

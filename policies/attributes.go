package policies

import (
	"bytes"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Attributes of a request, as DER holds their types.
const (
	oidChallengePassword = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x07"         // RFC 2985 §5.4.1
	oidDecryptKeyID      = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x02\x25" // RFC 7030 §4.4.1.1
	oidAsymmDecryptKeyID = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x02\x36" // RFC 7030 §4.4.1.2
)

// Attributes are those of a certificate request that EST gives a meaning to.
type Attributes struct {
	// ChallengePassword, if given, links the request to the TLS connection it came on
	// (RFC 7030 §3.5). It may as well be something a person has typed: it is compared,
	// and neither logged nor kept.
	ChallengePassword string
	HasChallenge      bool
	// EncryptKey says that a key made here shall be answered encrypted
	// (RFC 7030 §4.4.1.1, §4.4.1.2).
	EncryptKey bool
}

// ReadAttributes reads them from a request in DER. It is Malformed, "csr-malformed", if
// the request cannot be taken apart, and "csr-challenge-repeated" for a second
// challenge password, since readers differ on which counts.
func ReadAttributes(der []byte) (a Attributes, err error) {
	if len(der) > MaxCSRSize {
		return a, malformed()
	}
	input := cryptobyte.String(der)
	var outer, info cryptobyte.String
	if !input.ReadASN1(&outer, asn1.SEQUENCE) || !outer.ReadASN1Element(&info, asn1.SEQUENCE) {
		return a, malformed()
	}
	r, err := readRequest(info)
	if err != nil {
		return a, err
	}
	for rest := r.attributes; !rest.Empty(); {
		var attribute, oid, values cryptobyte.String
		if !rest.ReadASN1(&attribute, asn1.SEQUENCE) || !attribute.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) ||
			!attribute.ReadASN1(&values, asn1.SET) || !attribute.Empty() {
			return Attributes{}, malformed()
		}
		switch string(oid) {
		case oidChallengePassword:
			if a.HasChallenge {
				return Attributes{}, refuse("csr-challenge-repeated", "the certificate request has more than one challenge password")
			}
			if a.ChallengePassword, a.HasChallenge = directoryString(values); !a.HasChallenge {
				return Attributes{}, malformed()
			}
		case oidDecryptKeyID, oidAsymmDecryptKeyID:
			a.EncryptKey = true
		}
	}
	return a, nil
}

// HasChallenge reports whether a request, as ParseCSR takes it, has a challenge password:
// since a person may have typed it, such a request is not kept.
func HasChallenge(der []byte) bool {
	return bytes.Contains(der, []byte("\x06\x09"+oidChallengePassword))
}

// directoryString is the one value of a set, of a string type with octets for ASCII.
func directoryString(values cryptobyte.String) (text string, ok bool) {
	var value cryptobyte.String
	var tag asn1.Tag
	if !values.ReadAnyASN1(&value, &tag) || !values.Empty() {
		return "", false
	}
	switch tag {
	case asn1.UTF8String, asn1.PrintableString, asn1.IA5String, asn1.T61String:
		return string(value), true
	}
	return "", false
}

package policies

import (
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/passmuster/muster/internal/fault"
)

// maxExtensions bounds what a request may ask for; real ones ask for a handful.
const maxExtensions = 32

// Object identifiers as DER holds them, without tag and length: compared as bytes,
// since a decoder would allocate for each.
const (
	oidCommonName       = "\x55\x04\x03"                         // 2.5.4.3
	oidExtensionRequest = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e" // 1.2.840.113549.1.9.14, RFC 2985 §5.4.2
	oidSubjectKeyID     = "\x55\x1d\x0e"                         // 2.5.29.14
	oidKeyUsage         = "\x55\x1d\x0f"
	oidSubjectAltName   = "\x55\x1d\x11"
	oidBasicConstraints = "\x55\x1d\x13"
	oidExtKeyUsage      = "\x55\x1d\x25"
	oidPurposes         = "\x2b\x06\x01\x05\x05\x07\x03" // id-kp, 1.3.6.1.5.5.7.3
)

// request is the signed part of a PKCS#10 request (RFC 2986 §4.1), still encoded.
type request struct {
	subject    cryptobyte.String // content of the RDNSequence
	key        cryptobyte.String // the SubjectPublicKeyInfo, whole
	attributes cryptobyte.String // content of the SET OF
}

// extension is a requested extension (RFC 5280 §4.1), still encoded.
type extension struct {
	oid      cryptobyte.String
	critical bool
	value    cryptobyte.String
}

// readRequest takes a CertificationRequestInfo apart and leaves nothing over:
// encoding/asn1 would skip what follows the last known field.
func readRequest(info []byte) (r request, err error) {
	der := cryptobyte.String(info)
	var version int64
	if !der.ReadASN1(&der, asn1.SEQUENCE) || !der.ReadASN1Int64WithTag(&version, asn1.INTEGER) {
		return r, malformed()
	}
	if version != 0 {
		return r, refuse("csr-version", "the certificate request is not of version 1")
	}
	if !der.ReadASN1(&r.subject, asn1.SEQUENCE) ||
		!der.ReadASN1Element(&r.key, asn1.SEQUENCE) ||
		!der.ReadASN1(&r.attributes, asn1.Tag(0).ContextSpecific().Constructed()) ||
		!der.Empty() {
		return r, malformed()
	}
	return r, nil
}

// extensions lists what the request asks for. Attributes other than the extension
// request (a challenge password, say) are never looked at. A second extension
// request, or an extension named twice, is refused: readers differ on which counts.
func (r request) extensions() ([]extension, error) {
	var list []extension
	asked := false
	for attributes := r.attributes; !attributes.Empty(); {
		var attribute, oid, values cryptobyte.String
		if !attributes.ReadASN1(&attribute, asn1.SEQUENCE) ||
			!attribute.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) ||
			!attribute.ReadASN1(&values, asn1.SET) ||
			!attribute.Empty() {
			return nil, malformed()
		}
		if string(oid) != oidExtensionRequest {
			continue
		}
		if asked {
			return nil, repeated()
		}
		asked = true
		var sequence cryptobyte.String
		if !values.ReadASN1(&sequence, asn1.SEQUENCE) {
			return nil, malformed()
		}
		if !values.Empty() {
			return nil, repeated()
		}
		var err error
		if list, err = readExtensions(sequence); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func readExtensions(sequence cryptobyte.String) ([]extension, error) {
	list := make([]extension, 0, 4)
	for !sequence.Empty() {
		var e extension
		var fields cryptobyte.String
		if !sequence.ReadASN1(&fields, asn1.SEQUENCE) ||
			!fields.ReadASN1(&e.oid, asn1.OBJECT_IDENTIFIER) ||
			fields.PeekASN1Tag(asn1.BOOLEAN) && !fields.ReadASN1Boolean(&e.critical) ||
			!fields.ReadASN1(&e.value, asn1.OCTET_STRING) ||
			!fields.Empty() {
			return nil, malformed()
		}
		if len(list) == maxExtensions {
			return nil, refuse("csr-too-many-extensions", "the certificate request asks for more than %d extensions", maxExtensions)
		}
		for _, other := range list {
			if string(other.oid) == string(e.oid) {
				return nil, repeated()
			}
		}
		list = append(list, e)
	}
	return list, nil
}

func malformed() *fault.Error {
	return refuse("csr-malformed", "the certificate request is not a well-formed PKCS#10 request in DER")
}

func repeated() *fault.Error {
	return refuse("csr-extension-repeated", "the certificate request asks for an extension more than once")
}

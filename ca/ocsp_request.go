package ca

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"hash"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/passmuster/muster/internal/fault"
)

// MaxOCSPRequest is how long a request may be, in octets: room for a name, a signature with
// certificates and extensions that nobody reads.
const MaxOCSPRequest = 16 << 10

// maxNonce is the longest nonce of RFC 9654 §2.1, in octets.
const maxNonce = 128

// OCSPRequest asks for the status of one certificate (RFC 6960 §4.1).
type OCSPRequest struct {
	certID []byte // as it was sent: it is answered in the same spelling
	issuer string // hash algorithm, name and key of the issuer, as in ocspNames
	serial Serial // "" where no certificate can have such a one
	nonce  []byte // extension value; nil: none
}

// HasNonce reports whether the answer must be signed for this request alone.
func (q OCSPRequest) HasNonce() bool { return q.nonce != nil }

// oidOCSPNonce is id-pkix-ocsp-nonce (RFC 9654 §2.1).
var oidOCSPNonce = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}

var (
	errOCSPRequest  = fault.New(fault.Malformed, "ocsp-request", "The OCSP request is malformed.")
	errOCSPMany     = fault.New(fault.Malformed, "ocsp-several", "An OCSP request asks for one certificate (RFC 5019 §2.1.1).")
	errOCSPNonce    = fault.New(fault.Malformed, "ocsp-nonce", "A nonce has 1 to 128 octets (RFC 9654 §2.1).")
	errOCSPCritical = fault.New(fault.Malformed, "ocsp-extension", "The OCSP request has a critical extension that is not known here.")
)

// ocspHash is a hash algorithm by which requests name an issuer.
type ocspHash struct {
	oid []byte // as encoded, without its tag
	new func() hash.Hash
}

var ocspHashes = [...]ocspHash{
	{[]byte{0x2b, 0x0e, 0x03, 0x02, 0x1a}, sha1.New},
	{[]byte{0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01}, sha256.New},
	{[]byte{0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02}, sha512.New384},
	{[]byte{0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03}, sha512.New},
}

// ocspNames are an issuer's names in requests, by each hash algorithm (RFC 6960 §4.1.1).
func ocspNames(certificate *x509.Certificate) (names [len(ocspHashes)]string) {
	key := keyBits(certificate)
	for n, h := range ocspHashes {
		names[n] = ocspName(h.oid, sum(h.new, certificate.RawSubject), sum(h.new, key))
	}
	return names
}

// ocspName joins the three: the hash says how long the others are.
func ocspName(oid, name, key []byte) string {
	return string(oid) + "\x00" + string(name) + "\x00" + string(key)
}

func sum(h func() hash.Hash, b []byte) []byte {
	x := h()
	x.Write(b)
	return x.Sum(nil)
}

// keyBits is the public key without algorithm, tag and unused bits.
func keyBits(certificate *x509.Certificate) []byte {
	input := cryptobyte.String(certificate.RawSubjectPublicKeyInfo)
	var key cryptobyte.String
	var bits []byte
	if !input.ReadASN1(&key, cbasn1.SEQUENCE) || !key.SkipASN1(cbasn1.SEQUENCE) || !key.ReadASN1BitStringAsBytes(&bits) {
		panic("internal error: a parsed certificate has no key") // crypto/x509 has read it
	}
	return bits
}

// Tags of RFC 6960 §4.1.1: [0] to [2], explicit.
var (
	explicit0 = cbasn1.Tag(0).Constructed().ContextSpecific()
	explicit1 = cbasn1.Tag(1).Constructed().ContextSpecific()
	explicit2 = cbasn1.Tag(2).Constructed().ContextSpecific()
)

// ParseOCSPRequest reads a request in DER. Who asks, and a signature, are passed over, and
// so are extensions that are not critical. Malformed: "ocsp-request", "ocsp-several" (more
// than one certificate, or none), "ocsp-nonce", "ocsp-extension".
func ParseOCSPRequest(der []byte) (OCSPRequest, error) {
	input := cryptobyte.String(der)
	var outer, tbs, list cryptobyte.String
	if len(der) > MaxOCSPRequest || !input.ReadASN1(&outer, cbasn1.SEQUENCE) || !input.Empty() ||
		!outer.ReadASN1(&tbs, cbasn1.SEQUENCE) || !outer.SkipOptionalASN1(explicit0) || !outer.Empty() {
		return OCSPRequest{}, errOCSPRequest
	}
	var extensions cryptobyte.String
	var extended bool
	if !skipVersion(&tbs) || !tbs.SkipOptionalASN1(explicit1) || !tbs.ReadASN1(&list, cbasn1.SEQUENCE) ||
		!tbs.ReadOptionalASN1(&extensions, &extended, explicit2) || !tbs.Empty() {
		return OCSPRequest{}, errOCSPRequest
	}
	if list.Empty() {
		return OCSPRequest{}, errOCSPMany
	}
	q, err := parseOCSPQuestion(&list)
	if err != nil {
		return OCSPRequest{}, err
	}
	if !list.Empty() {
		return OCSPRequest{}, errOCSPMany
	}
	if extended {
		if q.nonce, err = ocspExtensions(extensions); err != nil {
			return OCSPRequest{}, err
		}
	}
	return q, nil
}

// skipVersion passes over the version, which can only be v1.
func skipVersion(tbs *cryptobyte.String) bool {
	var version cryptobyte.String
	var is bool
	if !tbs.ReadOptionalASN1(&version, &is, explicit0) {
		return false
	}
	var v int
	return !is || version.ReadASN1Integer(&v) && v == 0 && version.Empty()
}

func parseOCSPQuestion(list *cryptobyte.String) (q OCSPRequest, err error) {
	var question, certID, extensions cryptobyte.String
	var extended bool
	if !list.ReadASN1(&question, cbasn1.SEQUENCE) || !question.ReadASN1Element(&certID, cbasn1.SEQUENCE) ||
		!question.ReadOptionalASN1(&extensions, &extended, explicit0) || !question.Empty() {
		return q, errOCSPRequest
	}
	q.certID = certID
	var fields, algorithm, name, key cryptobyte.String
	var oid cryptobyte.String
	var serial []byte
	if !certID.ReadASN1(&fields, cbasn1.SEQUENCE) || !fields.ReadASN1(&algorithm, cbasn1.SEQUENCE) ||
		!fields.ReadASN1(&name, cbasn1.OCTET_STRING) || !fields.ReadASN1(&key, cbasn1.OCTET_STRING) ||
		!readInteger(&fields, &serial) || !fields.Empty() || !algorithm.ReadASN1(&oid, cbasn1.OBJECT_IDENTIFIER) || !noParameters(algorithm) {
		return q, errOCSPRequest
	}
	q.issuer = ocspName(oid, name, key)
	if n := bytes.TrimPrefix(serial, []byte{0}); serial[0] < 0x80 && len(n) > 0 && len(n) <= maxSerial {
		q.serial = Serial(hex.EncodeToString(n))
	}
	if extended {
		_, err = ocspExtensions(extensions) // a nonce has no meaning for one question
	}
	return q, err
}

// readInteger reads the octets of an INTEGER, as few as can say it (X.690 §8.3.2).
func readInteger(s *cryptobyte.String, octets *[]byte) bool {
	var n cryptobyte.String
	if !s.ReadASN1(&n, cbasn1.INTEGER) || len(n) == 0 {
		return false
	}
	*octets = n
	padded := len(n) > 1 && (n[0] == 0x00 && n[1] < 0x80 || n[0] == 0xff && n[1] >= 0x80)
	return !padded
}

// noParameters accepts what follows the name of a hash algorithm: NULL, or nothing.
func noParameters(s cryptobyte.String) bool {
	return s.Empty() || bytes.Equal(s, []byte{0x05, 0x00})
}

// ocspExtensions finds the nonce among the extensions.
func ocspExtensions(input cryptobyte.String) (nonce []byte, err error) {
	var list cryptobyte.String
	if !input.ReadASN1(&list, cbasn1.SEQUENCE) || !input.Empty() || list.Empty() {
		return nil, errOCSPRequest
	}
	for !list.Empty() {
		var extension, value cryptobyte.String
		var oid asn1.ObjectIdentifier
		critical := false
		if !list.ReadASN1(&extension, cbasn1.SEQUENCE) || !extension.ReadASN1ObjectIdentifier(&oid) ||
			extension.PeekASN1Tag(cbasn1.BOOLEAN) && !extension.ReadASN1Boolean(&critical) ||
			!extension.ReadASN1(&value, cbasn1.OCTET_STRING) || !extension.Empty() {
			return nil, errOCSPRequest
		}
		switch {
		case oid.Equal(oidOCSPNonce):
			if nonce != nil || !isNonce(value) {
				return nil, errOCSPNonce
			}
			nonce = value
		case critical:
			return nil, errOCSPCritical
		}
	}
	return nonce, nil
}

func isNonce(value cryptobyte.String) bool {
	var octets cryptobyte.String
	return value.ReadASN1(&octets, cbasn1.OCTET_STRING) && value.Empty() && len(octets) >= 1 && len(octets) <= maxNonce
}

package policies

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/hex"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/passmuster/muster/internal/fault"
)

// MaxCSRSize is the largest certificate request that is read, in octets of DER. An
// RSA-4096 request with generous extensions has about 2 KiB; one of 32 KiB still
// fits the smallest body limit of the doors in base64 (INV-R1).
const MaxCSRSize = 32 << 10

// ParseCSR reads a PKCS#10 request (RFC 2986) in DER: of version 1 (encoded 0), with
// nothing after or between its fields, and no extension asked for twice. What it
// returns is well-formed, not yet allowed: see CheckCSR.
//
// Refusals are TooLarge ("csr-too-large") or Malformed: "csr-malformed",
// "csr-version", "csr-extension-repeated", "csr-too-many-extensions",
// "key-malformed".
func ParseCSR(der []byte) (*x509.CertificateRequest, error) {
	if len(der) > MaxCSRSize {
		return nil, fault.New(fault.TooLarge, "csr-too-large", "a certificate request has at most %d octets", MaxCSRSize)
	}
	input := cryptobyte.String(der)
	var outer, info cryptobyte.String
	var signature []byte
	if !input.ReadASN1(&outer, asn1.SEQUENCE) || !input.Empty() ||
		!outer.ReadASN1Element(&info, asn1.SEQUENCE) ||
		!outer.SkipASN1(asn1.SEQUENCE) ||
		!outer.ReadASN1BitStringAsBytes(&signature) || !outer.Empty() {
		return nil, malformed()
	}
	r, err := readRequest(info)
	if err != nil {
		return nil, err
	}
	if _, err := r.extensions(); err != nil {
		return nil, err
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		if _, bad := x509.ParsePKIXPublicKey(r.key); bad != nil {
			return nil, malformedKey().Because(bad)
		}
		return nil, malformed().Because(err)
	}
	return csr, nil
}

// CheckCSR decides whether the holder of the id wantCN may have a certificate of this
// profile for this request, as ParseCSR returned it (INV-P1, P2, P4, P5). Nothing is
// corrected: what asks for more than the device may have is refused. crypto/x509's
// own reading is not enough for that; it takes SHA-1 and two common names.
//
// Refusals are Malformed; about names: "csr-no-common-name",
// "csr-several-common-names", "csr-common-name-type", "csr-names-other-device",
// "csr-name-kind-not-allowed", "csr-name-length" (the id fits no certificate); about
// extensions: "csr-asks-for-ca", "csr-usage-not-allowed", "csr-extension-not-allowed"
// and the structural ones of ParseCSR; about the signature: "csr-signature-weak",
// "csr-signature-not-allowed", "csr-signature-wrong"; about the key: those of
// CheckKey, and "key-malformed".
//
// The one costly step, the signature, comes last (INV-R3), when the size of the key
// bounds it.
func CheckCSR(p Profile, csr *x509.CertificateRequest, wantCN string) error {
	r, err := readRequest(csr.RawTBSCertificateRequest)
	if err != nil {
		return err
	}
	if err := r.checkWishes(p, wantCN); err != nil {
		return err
	}
	if err := checkAlgorithm(csr.SignatureAlgorithm); err != nil {
		return err
	}
	if err := CheckKey(p.Keys, csr.PublicKey); err != nil {
		return err
	}
	if err := checkKeyEncoding(r.key, csr.PublicKey); err != nil {
		return err
	}
	if err := csr.CheckSignature(); err != nil {
		return refuse("csr-signature-wrong", "the certificate request is not signed by the key in it").Because(err)
	}
	return nil
}

// CheckWishes is CheckCSR without what is about the key and the signature.
func CheckWishes(p Profile, csr *x509.CertificateRequest, wantCN string) error {
	r, err := readRequest(csr.RawTBSCertificateRequest)
	if err != nil {
		return err
	}
	return r.checkWishes(p, wantCN)
}

func (r request) checkWishes(p Profile, wantCN string) error {
	if err := checkSubject(r.subject, wantCN); err != nil {
		return err
	}
	asked, err := r.extensions()
	if err != nil {
		return err
	}
	for _, e := range asked {
		if err := checkExtension(e, p, wantCN); err != nil {
			return err
		}
	}
	return nil
}

func checkAlgorithm(a x509.SignatureAlgorithm) error {
	switch a {
	case x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512, x509.PureEd25519,
		x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS:
		return nil
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1:
		return refuse("csr-signature-weak", "the certificate request is signed with MD5 or SHA-1; SHA-256 or better is needed")
	}
	return refuse("csr-signature-not-allowed", "the certificate request is signed by an algorithm that is not allowed")
}

// checkKeyEncoding refuses a second encoding of the same key. Keys are recognized by
// the hash of their SubjectPublicKeyInfo, and a device whose key is on the block list
// must not pass by adding an octet that readers skip (INV-D3).
func checkKeyEncoding(info []byte, pub any) error {
	if key, ok := pub.(*ecdsa.PublicKey); ok && key.Curve == elliptic.P256() {
		// What most devices send is compared without encoding it again.
		point, err := key.Bytes()
		if err == nil && len(info) == len(p256Info)+len(point) && bytes.HasPrefix(info, p256Info) && bytes.HasSuffix(info, point) {
			return nil
		}
	}
	canonical, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return malformedKey().Because(err)
	}
	if !bytes.Equal(canonical, info) {
		return malformedKey()
	}
	return nil
}

// p256Info is what comes before the point in the encoding of every P-256 key (RFC 5480
// §2 and §2.1.1.1): two SEQUENCE headers, the OIDs ecPublicKey and prime256v1,
// and the header of the BIT STRING.
var p256Info, _ = hex.DecodeString("3059301306072a8648ce3d020106082a8648ce3d030107034200")

func malformedKey() *fault.Error {
	return refuse("key-malformed", "the public key in the certificate request is damaged, or of an unknown kind")
}

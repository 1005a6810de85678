package policies

import (
	"crypto/x509"
	encasn1 "encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// issuerKeys are the types of key that an issuing CA may have.
var issuerKeys = []KeyType{KeyECP256, KeyECP384, KeyECP521, KeyEd25519, KeyRSA2048, KeyRSA3072, KeyRSA4096}

// CheckIssuerCSR decides whether a request, as ParseCSR returned it, asks for no more
// than an issuing CA is given: one common name as its whole subject, a CA of path
// length 0, the key usages of a CA. People stand by when it is asked, so what is not
// understood is refused, where a device's would be passed over.
//
// Refusals are Malformed: "csr-subject-not-allowed", "csr-not-for-ca" (CA:FALSE, or a
// longer path), "csr-usage-not-allowed", "csr-extension-not-allowed", and those of
// CheckCSR about the common name, the key and the signature.
func CheckIssuerCSR(csr *x509.CertificateRequest) error {
	r, err := readRequest(csr.RawTBSCertificateRequest)
	if err != nil {
		return err
	}
	if csr.Subject.CommonName == "" {
		return refuse("csr-no-common-name", "the subject has no common name")
	}
	if len(csr.Subject.Names) != 1 {
		return refuse("csr-subject-not-allowed", "an issuing CA is named by a common name alone")
	}
	if err := checkSubject(r.subject, csr.Subject.CommonName); err != nil {
		return err
	}
	asked, err := r.extensions()
	if err != nil {
		return err
	}
	for _, e := range asked {
		if err := checkIssuerExtension(e); err != nil {
			return err
		}
	}
	if err := checkAlgorithm(csr.SignatureAlgorithm); err != nil {
		return err
	}
	if err := CheckKey(issuerKeys, csr.PublicKey); err != nil {
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

func checkIssuerExtension(e extension) error {
	switch string(e.oid) {
	case oidBasicConstraints:
		return checkIssuerConstraints(e.value)
	case oidKeyUsage:
		return checkIssuerUsage(e.value)
	case oidSubjectKeyID: // ours is computed from the key
		return nil
	}
	return refuse("csr-extension-not-allowed", "the certificate request asks for an extension that an issuing CA is not given")
}

func checkIssuerConstraints(value cryptobyte.String) error {
	var fields cryptobyte.String
	if !value.ReadASN1(&fields, asn1.SEQUENCE) || !value.Empty() {
		return malformed()
	}
	var ca bool
	var length int64
	if fields.PeekASN1Tag(asn1.BOOLEAN) && !fields.ReadASN1Boolean(&ca) ||
		fields.PeekASN1Tag(asn1.INTEGER) && !fields.ReadASN1Integer(&length) || !fields.Empty() {
		return malformed()
	}
	if !ca || length != 0 {
		return refuse("csr-not-for-ca", "the certificate request asks for another certificate than that of a CA with path length 0")
	}
	return nil
}

func checkIssuerUsage(value cryptobyte.String) error {
	var bits encasn1.BitString
	if !value.ReadASN1BitString(&bits) || !value.Empty() {
		return malformed()
	}
	for i := range bits.BitLength {
		if bits.At(i) == 1 && i != 0 && i != bitKeyCertSign && i != bitCRLSign { // 0 is digitalSignature
			return refuse("csr-usage-not-allowed", "the certificate request asks for a key usage that an issuing CA is not given")
		}
	}
	return nil
}

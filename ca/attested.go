package ca

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// attestedKey is what is known of where a request's key is.
func attestedKey(id verify.Identity, csr *x509.CertificateRequest) policies.KeyAttestation {
	if id.AttestedKey().IsZero() || id.AttestedKey() != verify.KeyHashOf(csr.RawSubjectPublicKeyInfo) {
		return policies.KeyAttestationNone
	}
	return policies.KeyAttestationTPM
}

// markAttested adds the profile's extension to the certificate of an attested key, and says what
// form that gives it for the linter.
func markAttested(t *x509.Certificate, attested policies.KeyAttestation, p policies.Profile) (form string, err error) {
	oid := p.AttestedExtension()
	if attested == policies.KeyAttestationNone || oid == nil {
		return "", nil
	}
	value, err := asn1.MarshalWithParams(string(attested), "utf8")
	t.ExtraExtensions = append(slices.Clone(t.ExtraExtensions), pkix.Extension{Id: oid, Value: value})
	return "|" + p.KeyAttestationExtension + "=" + string(attested), err
}

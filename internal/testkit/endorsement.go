package testkit

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"testing"
)

// TPMModel is what the certificate of an endorsement key says of its TPM (TCG EK Credential
// Profile, section 3.2.9).
type TPMModel struct{ Manufacturer, Model, Version string }

var (
	oidSubjectAltName  = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidTPMManufacturer = asn1.ObjectIdentifier{2, 23, 133, 2, 1}
	oidTPMModel        = asn1.ObjectIdentifier{2, 23, 133, 2, 2}
	oidTPMVersion      = asn1.ObjectIdentifier{2, 23, 133, 2, 3}
	oidEKCertificate   = asn1.ObjectIdentifier{2, 23, 133, 8, 1}
)

// Certify makes the certificate of an endorsement key as a manufacturer of TPMs does: no subject,
// what the TPM is in a critical alternative name, and one purpose.
func (e *Entity) Certify(t testing.TB, public crypto.PublicKey, is TPMModel, opts ...Option) *Entity {
	t.Helper()
	return e.Issue(t, "", append([]Option{WithKey(publicOnly{public}), asEndorsement(t, is)}, opts...)...)
}

// publicOnly is a key whose private half nobody here has.
type publicOnly struct{ key crypto.PublicKey }

func (k publicOnly) Public() crypto.PublicKey { return k.key }

// Sign implements crypto.Signer; it cannot.
func (publicOnly) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("testkit: the key of a TPM signs nothing")
}

func asEndorsement(t testing.TB, is TPMModel) Option {
	return func(o *order) {
		o.template.Subject = pkix.Name{}
		o.template.KeyUsage, o.template.ExtKeyUsage = x509.KeyUsageKeyEncipherment, nil
		o.template.UnknownExtKeyUsage = []asn1.ObjectIdentifier{oidEKCertificate}
		o.template.ExtraExtensions = append(o.template.ExtraExtensions, pkix.Extension{Id: oidSubjectAltName, Critical: true, Value: is.altName(t)})
	}
}

// altName is the alternative name: one directoryName. As manufacturers do it: three sets of one.
func (is TPMModel) altName(t testing.TB) []byte {
	var name pkix.RDNSequence
	for _, part := range []pkix.AttributeTypeAndValue{{Type: oidTPMManufacturer, Value: is.Manufacturer}, {Type: oidTPMModel, Value: is.Model}, {Type: oidTPMVersion, Value: is.Version}} {
		name = append(name, pkix.RelativeDistinguishedNameSET{part})
	}
	inner, err := asn1.Marshal(name)
	if err == nil {
		inner, err = asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: inner})
	}
	if err == nil {
		inner, err = asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: inner})
	}
	if err != nil {
		t.Fatal(err)
	}
	return inner
}

package verify

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"time"
)

// The TCG's EK Credential Profile, sections 3.2.9 and 3.2.16.
var (
	oidTPMManufacturer = asn1.ObjectIdentifier{2, 23, 133, 2, 1}
	oidTPMModel        = asn1.ObjectIdentifier{2, 23, 133, 2, 2}
	oidTPMVersion      = asn1.ObjectIdentifier{2, 23, 133, 2, 3}
	oidEKCertificate   = asn1.ObjectIdentifier{2, 23, 133, 8, 1}
)

// Endorsement is a manufacturer's word for an endorsement key. Only [CheckEndorsement] makes
// one; the zero value is nobody's.
type Endorsement struct {
	path []Link
	tpm  TPMModel
}

// TPMModel is what a manufacturer says of a TPM; "" where it does not.
type TPMModel struct{ Manufacturer, Model, Version string }

// Path is the verified path, the key's certificate first and the anchor last. The caller owns it.
func (e Endorsement) Path() []Link { return slices.Clone(e.path) }

// TPM is what the certificate says of the TPM.
func (e Endorsement) TPM() TPMModel { return e.tpm }

// CheckEndorsement asks of the certificate of an endorsement key, given as it stands in
// certificates, what [CheckChain] asks of any, and that it was made for that: for this very key,
// with the purpose of the TCG, by CAs that may. Its critical alternative name is one of
// directoryNames. Refusals are Unauthenticated with rule "endorsement-…", "leaf-…" or "chain-…".
func CheckEndorsement(chain Chain, spki []byte, anchors []Link, now time.Time) (e Endorsement, err error) {
	if err := chain.check(); err != nil {
		return e, err
	}
	leaf := chain.Leaf()
	tpm, critical, named := modelOf(leaf.Cert)
	switch {
	case !bytes.Equal(leaf.Cert.RawSubjectPublicKeyInfo, spki):
		return e, refuse("endorsement-other-key", "The certificate is for another key than the TPM's endorsement key.")
	case leaf.Cert.IsCA || leaf.Cert.KeyUsage&x509.KeyUsageCertSign != 0:
		return e, refuse("endorsement-is-ca", "The certificate of the endorsement key is a CA certificate.")
	case !slices.ContainsFunc(leaf.Cert.UnknownExtKeyUsage, oidEKCertificate.Equal):
		return e, refuse("endorsement-eku", "The certificate is not for an endorsement key: its extended key usage lacks 2.23.133.8.1.")
	case !named:
		return e, refuse("endorsement-name", "The alternative names of the endorsement key's certificate cannot be read.")
	}
	read := slices.Clone(chain)
	read[0] = Link{Cert: critical, Thumbprint: leaf.Thumbprint, KeyHash: leaf.KeyHash}
	path, err := CheckChain(read, anchors, now, nil)
	if err != nil {
		return e, err
	}
	path[0] = leaf
	for _, l := range path[1 : len(path)-1] {
		if !allowsEndorsing(l.Cert) {
			return e, refuse("chain-eku", "%s is restricted to other usages than endorsement keys.", subjectOf(l))
		}
	}
	return Endorsement{path, tpm}, nil
}

// modelOf reads what the certificate of an endorsement key says of its TPM. The second value is
// the certificate without the complaint of the standard library, which knows no directoryNames,
// that it did not understand them. It is not ok when there is more than that in a critical one.
func modelOf(c *x509.Certificate) (is TPMModel, understood *x509.Certificate, ok bool) {
	names, ok := directoryNames(c)
	if !ok {
		return is, c, false
	}
	for _, name := range names {
		for _, set := range name {
			for _, part := range set {
				text, _ := part.Value.(string)
				switch {
				case part.Type.Equal(oidTPMManufacturer):
					is.Manufacturer = text
				case part.Type.Equal(oidTPMModel):
					is.Model = text
				case part.Type.Equal(oidTPMVersion):
					is.Version = text
				}
			}
		}
	}
	if !onlyDirectoryNames(c) {
		return is, c, true
	}
	copied := *c
	copied.UnhandledCriticalExtensions = slices.DeleteFunc(slices.Clone(c.UnhandledCriticalExtensions), oidSubjectAltName.Equal)
	return is, &copied, true
}

func onlyDirectoryNames(c *x509.Certificate) bool {
	e := extension(c, oidSubjectAltName)
	var alternatives []asn1.RawValue
	if e == nil {
		return false
	}
	if rest, err := asn1.Unmarshal(e.Value, &alternatives); err != nil || len(rest) > 0 {
		return false
	}
	return !slices.ContainsFunc(alternatives, func(a asn1.RawValue) bool { return a.Class != asn1.ClassContextSpecific || a.Tag != tagDirectoryName })
}

// allowsEndorsing says that a CA is not restricted to usages among which this is not.
func allowsEndorsing(c *x509.Certificate) bool {
	return extension(c, oidExtKeyUsage) == nil || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) ||
		slices.ContainsFunc(c.UnknownExtKeyUsage, oidEKCertificate.Equal)
}

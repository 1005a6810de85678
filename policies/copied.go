package policies

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// reserved are the extensions that no request and no template brings into a certificate:
// they make a CA or an OCSP responder, or Muster sets them itself.
var reserved = map[string]string{
	"2.5.29.9":                "subjectDirectoryAttributes",
	"2.5.29.14":               "subjectKeyIdentifier",
	"2.5.29.15":               "keyUsage",
	"2.5.29.17":               "subjectAltName",
	"2.5.29.18":               "issuerAltName",
	"2.5.29.19":               "basicConstraints",
	"2.5.29.30":               "nameConstraints",
	"2.5.29.31":               "cRLDistributionPoints",
	"2.5.29.33":               "policyMappings",
	"2.5.29.35":               "authorityKeyIdentifier",
	"2.5.29.36":               "policyConstraints",
	"2.5.29.37":               "extKeyUsage",
	"2.5.29.46":               "freshestCRL",
	"2.5.29.54":               "inhibitAnyPolicy",
	"1.3.6.1.5.5.7.1.1":       "authorityInfoAccess",
	"1.3.6.1.5.5.7.1.11":      "subjectInfoAccess",
	"1.3.6.1.5.5.7.48.1.5":    "ocspNoCheck",
	"1.3.6.1.4.1.11129.2.4.2": "signedCertificateTimestampList",
	"1.3.6.1.4.1.11129.2.4.3": "precertificatePoison",
	"1.3.6.1.4.1.11129.2.4.4": "precertificateSigningCertificate",
	"2.16.840.1.113730.1.1":   "netscapeCertType",
}

// IsReservedExtension says that an extension, by its dotted identifier, is Muster's alone
// to set (INV-P4).
func IsReservedExtension(oid string) bool { return reserved[oid] != "" }

const maxTaken = 16

func checkExtensionList(bad *findings, list []string) {
	if len(list) > maxTaken {
		bad.add("/extensions", "a profile lets at most 16 extensions of a request through")
	}
	for i, text := range list {
		pointer := fmt.Sprintf("/extensions/%d", i)
		oid, err := x509.ParseOID(text)
		switch {
		case err != nil || oid.String() != text:
			bad.add(pointer, "an extension is named by its identifier, such as 1.3.6.1.4.1.311.20.2")
		case IsReservedExtension(text):
			bad.add(pointer, "no request brings "+reserved[text]+" into its certificate")
		case slices.Contains(list[:i], text):
			bad.add(pointer, "this extension is listed twice")
		}
	}
}

// takes says whether the profile lets an extension of a request through; oid is the
// contents of its encoding.
func (p Profile) takes(oid cryptobyte.String) bool {
	if len(p.Extensions) == 0 {
		return false
	}
	var x x509.OID
	return x.UnmarshalBinary(oid) == nil && slices.Contains(p.Extensions, x.String())
}

// Taken are the extensions of a request that the profile lets into the certificate.
func (p Profile) Taken(csr *x509.CertificateRequest) []pkix.Extension {
	if len(p.Extensions) == 0 {
		return nil
	}
	var out []pkix.Extension
	for _, e := range csr.Extensions {
		if id := e.Id.String(); slices.Contains(p.Extensions, id) && !IsReservedExtension(id) {
			out = append(out, e)
		}
	}
	return out
}

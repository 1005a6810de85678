package azure

import (
	"crypto/sha1" // a name in answers (§2.2), never a proof
	"crypto/x509"
	"fmt"
	"time"

	"github.com/passmuster/muster/verify"
)

// CertificateInfo describes a certificate; all eight fields are required (§4.1).
type CertificateInfo struct {
	Subject   string `json:"subjectName"`
	SHA1      string `json:"sha1Thumbprint"`
	SHA256    string `json:"sha256Thumbprint"`
	Issuer    string `json:"issuerName"`
	NotBefore string `json:"notBeforeUtc"`
	NotAfter  string `json:"notAfterUtc"`
	Serial    string `json:"serialNumber"`
	Version   int    `json:"version"`
}

// InfoOf describes a certificate. Hex is upper case, as Azure writes it.
func InfoOf(l verify.Link) CertificateInfo {
	sha := sha1.Sum(l.Cert.Raw)
	return CertificateInfo{
		Subject:   l.Cert.Subject.String(),
		SHA1:      upperHex(sha[:]),
		SHA256:    upperHex(l.Thumbprint[:]),
		Issuer:    l.Cert.Issuer.String(),
		NotBefore: l.Cert.NotBefore.UTC().Format(time.RFC3339),
		NotAfter:  l.Cert.NotAfter.UTC().Format(time.RFC3339),
		Serial:    serial(l.Cert),
		Version:   l.Cert.Version,
	}
}

// serial is the serial number in whole octets.
func serial(c *x509.Certificate) string { return upperHex(c.SerialNumber.Bytes()) }

func upperHex(b []byte) string { return fmt.Sprintf("%X", b) }

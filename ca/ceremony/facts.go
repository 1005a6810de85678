package ceremony

import (
	"crypto/x509"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/policies"
)

// entropy is what a transcript says about randomness.
const entropy = "Go's crypto/rand: the operating system's generator (getrandom on Linux); no other source is mixed in"

type begunFacts struct {
	Ceremony string `json:"ceremony"` // "root" or "sign"
	Host
	Entropy string `json:"entropy"`
}

type rootFacts struct {
	Name        string           `json:"name"`
	KeyType     policies.KeyType `json:"keyType"`
	Lifetime    string           `json:"lifetime"`
	CRLLifetime string           `json:"crlLifetime"`
}

type signFacts struct {
	Act         string    `json:"act"` // "issue", "revoke" or "renew-crl"
	Lifetime    string    `json:"lifetime,omitempty"`
	Certificate string    `json:"certificateURL,omitempty"`
	CRL         string    `json:"crlURL,omitempty"`
	Serial      ca.Serial `json:"serial,omitempty"`
	Reason      ca.Reason `json:"reason,omitempty"`
	CRLLifetime string    `json:"crlLifetime,omitempty"`
}

// fileFacts names a file by the last part of its path.
type fileFacts struct {
	File   string `json:"file"`
	What   string `json:"what"`
	SHA256 string `json:"sha256"`
	Size   int    `json:"size"`
	Secret bool   `json:"secret,omitempty"` // it is taken elsewhere
}

type certificateFacts struct {
	Subject     string           `json:"subject"`
	Issuer      string           `json:"issuer"`
	Serial      ca.Serial        `json:"serial"`
	NotBefore   time.Time        `json:"notBefore"`
	NotAfter    time.Time        `json:"notAfter"`
	KeyType     policies.KeyType `json:"keyType"`
	KeyID       []byte           `json:"subjectKeyId"`
	PathLength  int              `json:"pathLength"`
	Certificate []string         `json:"issuerURLs,omitempty"`
	CRL         []string         `json:"crlURLs,omitempty"`
	SHA256      string           `json:"sha256"`
}

func factsOf(c *x509.Certificate) (certificateFacts, error) {
	kt, err := policies.KeyTypeOf(c.PublicKey)
	return certificateFacts{
		Subject: c.Subject.String(), Issuer: c.Issuer.String(), Serial: ca.SerialOf(c.SerialNumber),
		NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(), KeyType: kt, KeyID: c.SubjectKeyId, PathLength: c.MaxPathLen,
		Certificate: c.IssuingCertificateURL, CRL: c.CRLDistributionPoints, SHA256: hashOf(c.Raw),
	}, err
}

type crlFacts struct {
	Issuer     string      `json:"issuer"`
	Number     string      `json:"number"`
	ThisUpdate time.Time   `json:"thisUpdate"`
	NextUpdate time.Time   `json:"nextUpdate"`
	Revoked    []ca.Serial `json:"revoked"`
	SHA256     string      `json:"sha256"`
}

func factsOfCRL(l *x509.RevocationList) crlFacts {
	revoked := make([]ca.Serial, len(l.RevokedCertificateEntries))
	for i, e := range l.RevokedCertificateEntries {
		revoked[i] = ca.SerialOf(e.SerialNumber)
	}
	return crlFacts{
		Issuer: l.Issuer.String(), Number: l.Number.String(), ThisUpdate: l.ThisUpdate.UTC(), NextUpdate: l.NextUpdate.UTC(),
		Revoked: revoked, SHA256: hashOf(l.Raw),
	}
}

// signatureFacts end a transcript. Algorithm is that of the root's own certificate.
type signatureFacts struct {
	Algorithm string `json:"algorithm"`
	Root      string `json:"root"` // SHA-256 of its certificate
	Signature []byte `json:"signature"`
}

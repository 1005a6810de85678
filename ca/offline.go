package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"net/url"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

// Offline is a root with its key at hand and no store behind it: what a ceremony on a
// machine without network works with. It keeps no record; whoever calls it does. Its
// certificates and CRLs are made and linted as an Authority's are.
type Offline struct {
	root      *issuer
	authority *Authority // without store and keys: it lints
}

// NewOffline makes a root. Its key is durable where keys put it before the certificate
// is signed.
func NewOffline(ctx context.Context, keys Keys, r RootRequest, now time.Time) (*Offline, error) {
	linting := &Authority{shapes: newShapes()}
	root, err := linting.draftRoot(ctx, keys, r, now)
	if err != nil {
		return nil, err
	}
	return &Offline{root: root, authority: linting}, nil
}

// OpenOffline takes up a root that was made before. Malformed, rule "issuer-not-root"
// (no self-signed CA); Conflict, "issuer-key-mismatch" (not this certificate's key);
// Unavailable, "issuer-expiring" and "issuer-not-yet-valid": it has no power now.
func OpenOffline(certificate *x509.Certificate, signer crypto.Signer, now time.Time) (*Offline, error) {
	about := "root " + certificate.Subject.CommonName
	if !bytes.Equal(certificate.RawIssuer, certificate.RawSubject) || certificate.CheckSignatureFrom(certificate) != nil ||
		certificate.KeyUsage&x509.KeyUsageCRLSign == 0 {
		return nil, fault.New(fault.Malformed, "issuer-not-root", "The certificate is not that of a root that signs certificates and CRLs.").About(about)
	}
	if public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(certificate.PublicKey) {
		return nil, fault.New(fault.Conflict, "issuer-key-mismatch", "The key does not belong to the issuer's certificate.").About(about)
	}
	if now.Before(certificate.NotBefore) {
		return nil, fault.New(fault.Unavailable, "issuer-not-yet-valid", "The root is not valid yet.").About(about)
	}
	if now.After(certificate.NotAfter) {
		return nil, fault.New(fault.Unavailable, "issuer-expiring", "The root has expired.").About(about)
	}
	row := Issuer{ID: newIssuerID(), Name: certificate.Subject.CommonName, Role: RoleRoot, State: IssuerActive, Certificate: certificate.Raw}
	return &Offline{root: newIssuer(row, certificate, signer), authority: &Authority{shapes: newShapes()}}, nil
}

// Certificate is the root's.
func (o *Offline) Certificate() *x509.Certificate { return o.root.certificate }

// Addresses are where the root's certificate and CRL are published, both in DER: http
// or https URLs that are written into what the root signs.
type Addresses struct{ Certificate, CRL string }

func (a Addresses) check() error {
	for _, text := range []string{a.Certificate, a.CRL} {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
			return fault.New(fault.Malformed, "pki-url", "The PKI URL is not an http or https URL.").At("/pkiURL")
		}
	}
	return nil
}

// SignIssuing signs the certificate of an issuing CA (path length 0) for a request as
// policies.ParseCSR returned it. Name and key are the request's, all else is what
// CreateIssuing gives; the zero lifetime is 5 years, and it never outlives the root.
// Refusals are those of policies.CheckIssuerCSR and, Malformed, "csr-names-root" and
// "csr-key-is-root".
func (o *Offline) SignIssuing(csr *x509.CertificateRequest, lifetime time.Duration, at Addresses, now time.Time) (*x509.Certificate, error) {
	if err := policies.CheckIssuerCSR(csr); err != nil {
		return nil, err
	}
	if strings.EqualFold(csr.Subject.CommonName, o.root.certificate.Subject.CommonName) {
		// Paths are built by name: a CA that is called like its issuer looks self-issued.
		return nil, fault.New(fault.Malformed, "csr-names-root", "The certificate request has the root's own name.")
	}
	if bytes.Equal(csr.RawSubjectPublicKeyInfo, o.root.certificate.RawSubjectPublicKeyInfo) {
		return nil, fault.New(fault.Malformed, "csr-key-is-root", "The certificate request has the root's own key.")
	}
	if err := at.check(); err != nil {
		return nil, err
	}
	t, err := issuingTemplate(o.root, IssuingRequest{Name: csr.Subject.CommonName, Lifetime: lifetime}, at, now)
	if err != nil {
		return nil, err
	}
	kt, err := policies.KeyTypeOf(csr.PublicKey)
	if err != nil {
		return nil, err
	}
	if err := o.authority.lintCA(*t, kt, o.root); err != nil {
		return nil, err
	}
	t.PublicKey = csr.PublicKey
	if t.SubjectKeyId, err = subjectKeyID(csr.RawSubjectPublicKeyInfo); err != nil {
		return nil, fault.New(fault.Malformed, "key-malformed", "The public key in the request cannot be encoded.").Because(err)
	}
	return sign(t, o.root.certificate, o.root.signer)
}

// statementPrefix begins what SignStatement signs. A certificate or CRL to be signed is a
// DER SEQUENCE and begins with the octet 0x30; so neither can be taken for the other.
const statementPrefix = "muster ceremony transcript\n"

// SignStatement signs a text by the root's key, with the algorithm of the root's own
// certificate, over statementPrefix and the text.
func (o *Offline) SignStatement(text []byte) ([]byte, error) {
	var options crypto.SignerOpts = crypto.SHA256
	switch o.root.certificate.SignatureAlgorithm {
	case x509.ECDSAWithSHA384, x509.SHA384WithRSA:
		options = crypto.SHA384
	case x509.ECDSAWithSHA512, x509.SHA512WithRSA:
		options = crypto.SHA512
	case x509.PureEd25519:
		options = crypto.Hash(0)
	}
	signature, err := crypto.SignMessage(o.root.signer, rand.Reader, append([]byte(statementPrefix), text...), options)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "signing-failed", "The issuer's key could not sign.").Because(err)
	}
	return signature, nil
}

// CheckStatement verifies what SignStatement made; Malformed, rule "statement-signature".
func CheckStatement(root *x509.Certificate, text, signature []byte) error {
	err := root.CheckSignature(root.SignatureAlgorithm, append([]byte(statementPrefix), text...), signature)
	if err != nil {
		return fault.New(fault.Malformed, "statement-signature", "The signature is not the root's over this text.").Because(err)
	}
	return nil
}

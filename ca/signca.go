package ca

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

// SignCA signs the request of a CA that lives elsewhere, by a root whose key is here: an
// issuing CA (path length 0) with the request's subject and key and nothing else of it. Zero
// is 5 years, and never beyond the root. The certificate is in the root's inventory, so that
// it can be revoked, before it is returned. Malformed: "csr-signature", "issuer-weak-key",
// "issuer-weak-signature", "issuer-name"; Conflict: "issuer-key-in-use" and as CreateIssuing.
func (a *Authority) SignCA(ctx context.Context, actor string, by IssuerID, csr *x509.CertificateRequest, lifetime time.Duration) (*x509.Certificate, error) {
	root, err := a.signingRoot(by)
	if err != nil {
		return nil, err
	}
	if err := checkStrength(&x509.Certificate{Subject: csr.Subject, PublicKey: csr.PublicKey, SignatureAlgorithm: csr.SignatureAlgorithm}); err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fault.New(fault.Malformed, "csr-signature", "The request is not signed by its own key.").Because(err)
	}
	kt, err := policies.KeyTypeOf(csr.PublicKey)
	if err != nil {
		return nil, err // checked above
	}
	if err := a.current.Load().isNew(&x509.Certificate{RawSubjectPublicKeyInfo: csr.RawSubjectPublicKeyInfo}); err != nil {
		return nil, err
	}
	now := a.now()
	t, err := issuingTemplate(root, IssuingRequest{Name: csr.Subject.CommonName, Lifetime: lifetime}, a.addresses(root.ID), now)
	if err != nil {
		return nil, err
	}
	t.Subject, t.RawSubject, t.PublicKey = csr.Subject, csr.RawSubject, csr.PublicKey
	if err := a.lintCA(*t, kt, root); err != nil {
		return nil, err
	}
	if t.SubjectKeyId, err = subjectKeyID(csr.RawSubjectPublicKeyInfo); err != nil {
		return nil, fault.New(fault.Malformed, "key-malformed", "The public key in the request cannot be encoded.").Because(err)
	}
	made, err := sign(t, root.certificate, root.signer)
	if err != nil {
		return nil, err
	}
	return made, a.store.UpdateTrust(ctx, func(tx Tx) error {
		if err := signsStill(tx, by); err != nil {
			return err
		}
		return recordCA(tx, by, made, now, actor, "certificate:"+string(SerialOf(made.SerialNumber)))
	})
}

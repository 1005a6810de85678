package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"sync"

	casapi "github.com/smallstep/certificates/cas/apiv1"
	"github.com/smallstep/certificates/cas/softcas"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

// issuer is an Issuer with its parsed certificate and, where its key is here, its
// signer; signer is nil otherwise.
type issuer struct {
	Issuer
	certificate *x509.Certificate
	signer      crypto.Signer
	standIn     func() (*standIn, error) // made at most once
	lease       *lease                   // where its certificates get their shards
	names       [len(ocspHashes)]string  // how OCSP requests name it
}

func newIssuer(row Issuer, certificate *x509.Certificate, signer crypto.Signer) *issuer {
	return &issuer{Issuer: row, certificate: certificate, signer: signer, lease: &lease{}, names: ocspNames(certificate), standIn: sync.OnceValues(func() (*standIn, error) {
		return newStandIn(certificate)
	})}
}

// stands says that the issuer is there and not revoked.
func (i *issuer) stands() bool { return i != nil && i.State != IssuerRevoked }

// sign signs a template that is used for nothing else, as softcas writes into it. The
// template has its dates, so softcas's clock is not used.
func sign(template, parent *x509.Certificate, signer crypto.Signer) (*x509.Certificate, error) {
	service := softcas.SoftCAS{CertificateChain: []*x509.Certificate{parent}, Signer: signer}
	made, err := service.CreateCertificate(&casapi.CreateCertificateRequest{
		Template: template,
		Lifetime: template.NotAfter.Sub(template.NotBefore),
	})
	if err != nil {
		return nil, fault.New(fault.Unavailable, "signing-failed", "The issuer's key could not sign.").Because(err)
	}
	return made.Certificate, nil
}

// standIn signs what the linter reads in place of the real key (INV-P6): its
// certificate is the issuer's but for the public key.
type standIn struct {
	certificate *x509.Certificate
	signer      crypto.Signer
}

func newStandIn(certificate *x509.Certificate) (*standIn, error) {
	kt, err := policies.KeyTypeOf(certificate.PublicKey)
	if err != nil {
		return nil, err
	}
	signer, err := throwAwayKey(kt)
	if err != nil {
		return nil, err
	}
	copied := *certificate
	copied.PublicKey = signer.Public()
	return &standIn{certificate: &copied, signer: signer}, nil
}

// throwAwayKey makes a key that leads to the same signature algorithm as one of the
// type; RSA keys are small, because only their signature's length differs.
func throwAwayKey(kt policies.KeyType) (crypto.Signer, error) {
	switch kt {
	case policies.KeyECP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case policies.KeyECP384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case policies.KeyECP521:
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case policies.KeyEd25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return rsa.GenerateKey(rand.Reader, 2048)
}

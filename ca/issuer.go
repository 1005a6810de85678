package ca

import (
	"crypto"
	"crypto/x509"
	"sync"

	casapi "github.com/smallstep/certificates/cas/apiv1"
	"github.com/smallstep/certificates/cas/softcas"
	"go.step.sm/crypto/keyutil"

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
	if keyParameters[kt].kind == "RSA" {
		kt = policies.KeyRSA2048
	}
	return NewKey(kt)
}

// keyParameters are the types in the words of RFC 7518 and RFC 8037.
var keyParameters = map[policies.KeyType]struct {
	kind, curve string
	bits        int
}{
	policies.KeyECP256:  {"EC", "P-256", 0},
	policies.KeyECP384:  {"EC", "P-384", 0},
	policies.KeyECP521:  {"EC", "P-521", 0},
	policies.KeyEd25519: {"OKP", "Ed25519", 0},
	policies.KeyRSA2048: {"RSA", "", 2048},
	policies.KeyRSA3072: {"RSA", "", 3072},
	policies.KeyRSA4096: {"RSA", "", 4096},
}

// NewKey makes a key in memory, which no issuer signs with; Malformed, rule
// "key-type-not-allowed", for a type that there is not.
func NewKey(kt policies.KeyType) (crypto.Signer, error) {
	p, known := keyParameters[kt]
	if !known {
		return nil, fault.New(fault.Malformed, "key-type-not-allowed", "There are no keys of the type %q.", kt)
	}
	return keyutil.GenerateSigner(p.kind, p.curve, p.bits)
}

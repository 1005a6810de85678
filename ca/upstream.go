package ca

import (
	"context"
	"crypto/x509"
	"errors"
	"time"

	casapi "github.com/smallstep/certificates/cas/apiv1"
)

// Upstream is a CA elsewhere that signs for an issuer of ours: Muster is its registration
// authority. It is safe for concurrent use. A call may outlast its context: most drivers
// know none. What it answers then is not lost (see Authority.SweepUpstreams).
type Upstream interface {
	// Sign asks for one certificate and asks once: it never repeats a request that may have
	// been heard. The template says what the certificate should be; what comes back is
	// checked against it. An error that is ErrNotSigned says that there is certainly no
	// certificate; any other, that there may be one.
	Sign(ctx context.Context, r UpstreamRequest) (*x509.Certificate, error)
	// Revoke is done when the upstream confirms; a certificate that is revoked there already
	// is confirmed too. An error that is ErrNotRevoked is an answer: the upstream can be
	// reached and will not do it.
	Revoke(ctx context.Context, r UpstreamRevocation) error
	// Chain is the certificate of the CA that signs, and those above it, the root last.
	Chain(ctx context.Context) ([]*x509.Certificate, error)
}

// UpstreamRequest is what an upstream is asked to sign.
type UpstreamRequest struct {
	ID       string // of the intent
	Template *x509.Certificate
	CSR      *x509.CertificateRequest
	Lifetime time.Duration // from now to the end
}

// ErrNotSigned and ErrNotRevoked are answers of an upstream: see Upstream.
var (
	ErrNotSigned  = errors.New("the upstream did not sign")
	ErrNotRevoked = errors.New("the upstream did not revoke")
)

// Driver is an Upstream over a smallstep certificate authority service.
type Driver struct {
	// Service is the service, opened at its first use, and again after it failed to open.
	Service func(ctx context.Context) (casapi.CertificateAuthorityService, error)
	// Refused says that an error is the answer of a service that has done nothing.
	Refused func(error) bool
	// Revoked says that an error means that the certificate is revoked there already.
	Revoked func(error) bool
	// Above is what Upstream.Chain returns.
	Above func(ctx context.Context) ([]*x509.Certificate, error)
}

// Sign implements Upstream.
func (d Driver) Sign(ctx context.Context, r UpstreamRequest) (*x509.Certificate, error) {
	service, err := d.Service(ctx)
	if err != nil {
		return nil, errors.Join(ErrNotSigned, err)
	}
	made, err := service.CreateCertificate(&casapi.CreateCertificateRequest{Template: r.Template, CSR: r.CSR, Lifetime: r.Lifetime, RequestID: r.ID})
	switch {
	case err != nil && d.Refused(err):
		return nil, errors.Join(ErrNotSigned, err)
	case err != nil:
		return nil, err
	case made == nil || made.Certificate == nil:
		return nil, errors.New("the answer holds no certificate")
	}
	return made.Certificate, nil
}

// Revoke implements Upstream.
func (d Driver) Revoke(ctx context.Context, r UpstreamRevocation) error {
	service, err := d.Service(ctx)
	if err != nil {
		return err
	}
	serial, err := r.Serial.number()
	if err != nil {
		return errors.Join(ErrNotRevoked, err)
	}
	code, _ := r.Reason.code() // an unknown one is 0, unspecified
	request := &casapi.RevokeCertificateRequest{SerialNumber: serial.String(), Reason: string(r.Reason), ReasonCode: code, PassiveOnly: true}
	if len(r.Certificate) > 0 {
		if request.Certificate, err = x509.ParseCertificate(r.Certificate); err != nil {
			return errors.Join(ErrNotRevoked, err)
		}
	}
	_, err = service.RevokeCertificate(request)
	switch {
	case err == nil || d.Revoked(err):
		return nil
	case d.Refused(err):
		return errors.Join(ErrNotRevoked, err)
	}
	return err
}

// Chain implements Upstream.
func (d Driver) Chain(ctx context.Context) ([]*x509.Certificate, error) { return d.Above(ctx) }

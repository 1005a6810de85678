package ca

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"sync"
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
	// Open makes the service. It is asked at first use, again when that failed, and again
	// when the service is Stale.
	Open func(ctx context.Context) (casapi.CertificateAuthorityService, error)
	// Refused says that an error is of a service that has not done, and will not do, what it
	// was asked.
	Refused func(error) bool
	// Stale says that a refusal is because of what the service was opened with: a login that
	// has expired, a key that was changed.
	Stale func(error) bool
	// Revoked says that an error means that the certificate is revoked there already.
	Revoked func(error) bool
	// Above is the CA that signs and those above it, in any order but for the first.
	Above func(ctx context.Context, service casapi.CertificateAuthorityService) ([]*x509.Certificate, error)

	mu     sync.Mutex
	opened casapi.CertificateAuthorityService // guarded by mu
}

// service is the one that is open, or a new one in place of stale.
func (d *Driver) service(ctx context.Context, stale casapi.CertificateAuthorityService) (casapi.CertificateAuthorityService, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.opened == nil || d.opened == stale {
		opened, err := d.Open(context.WithoutCancel(ctx)) // it outlives the call
		if err != nil {
			return nil, err
		}
		d.opened = opened
	}
	return d.opened, ctx.Err()
}

// call has a service do something, with a new one once more if the first was stale. Before
// is an error from before anything was asked.
func (d *Driver) call(ctx context.Context, do func(casapi.CertificateAuthorityService) error) (before, err error) {
	service, err := d.service(ctx, nil)
	if err != nil {
		return err, nil
	}
	if err = do(service); err == nil || !d.Refused(err) || !d.Stale(err) {
		return nil, err
	}
	if service, before = d.service(ctx, service); before != nil {
		return before, nil
	}
	return nil, do(service)
}

// Sign implements Upstream.
func (d *Driver) Sign(ctx context.Context, r UpstreamRequest) (*x509.Certificate, error) {
	var made *casapi.CreateCertificateResponse
	before, err := d.call(ctx, func(s casapi.CertificateAuthorityService) (err error) {
		made, err = s.CreateCertificate(&casapi.CreateCertificateRequest{Template: r.Template, CSR: r.CSR, Lifetime: r.Lifetime, RequestID: r.ID})
		return err
	})
	switch {
	case before != nil:
		return nil, errors.Join(ErrNotSigned, before)
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
func (d *Driver) Revoke(ctx context.Context, r UpstreamRevocation) error {
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
	before, err := d.call(ctx, func(s casapi.CertificateAuthorityService) error {
		_, err := s.RevokeCertificate(request)
		return err
	})
	switch {
	case before != nil:
		return before
	case err == nil || d.Revoked(err):
		return nil
	case d.Refused(err):
		return errors.Join(ErrNotRevoked, err)
	}
	return err
}

// Chain implements Upstream.
func (d *Driver) Chain(ctx context.Context) (chain []*x509.Certificate, err error) {
	before, err := d.call(ctx, func(s casapi.CertificateAuthorityService) (err error) {
		chain, err = d.Above(ctx, s)
		return err
	})
	if err := errors.Join(before, err); err != nil {
		return nil, err
	}
	return link(chain), nil
}

// GetterChain is Driver.Above for a service that tells its certificates itself, as Vault's
// and Google's do.
func GetterChain(_ context.Context, service casapi.CertificateAuthorityService) ([]*x509.Certificate, error) {
	getter, ok := service.(casapi.CertificateAuthorityGetter)
	if !ok {
		return nil, errors.New("internal error: the service does not tell its certificates")
	}
	got, err := getter.GetCertificateAuthority(&casapi.GetCertificateAuthorityRequest{})
	if err != nil {
		return nil, err
	}
	return append(got.IntermediateCertificates, got.RootCertificate), nil
}

// link is the first certificate and its issuers among the rest, as far as they are there.
func link(certificates []*x509.Certificate) (chain []*x509.Certificate) {
	if len(certificates) == 0 {
		return nil
	}
	for next := 0; next >= 0 && len(chain) <= len(certificates); {
		last := certificates[next]
		chain = append(chain, last)
		if bytes.Equal(last.RawIssuer, last.RawSubject) {
			break
		}
		next = slices.IndexFunc(certificates, func(c *x509.Certificate) bool {
			return bytes.Equal(last.RawIssuer, c.RawSubject) && last.CheckSignatureFrom(c) == nil
		})
	}
	return chain
}

// NotSent says that there was no connection to send a request on.
func NotSent(err error) bool {
	var dial *net.OpError
	var untrusted *tls.CertificateVerificationError
	return errors.As(err, &dial) && dial.Op == "dial" || errors.As(err, &untrusted)
}

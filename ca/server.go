package ca

import (
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/netip"
	"slices"
	"time"

	"go.step.sm/crypto/x509util"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// IssueServer makes and records a certificate for Muster's own TLS listener, for the
// host names and addresses given (the first names its subject). It is asked for by an
// operator, not by a device, and belongs to no registration. The answer is the chain,
// leaf first, without the root, and with what leads to it from former roots.
func (a *Authority) IssueServer(ctx context.Context, actor string, public crypto.PublicKey, names []string, lifetime time.Duration) ([][]byte, error) {
	if len(names) == 0 {
		return nil, fault.New(fault.Malformed, "server-names", "A server certificate needs a name.")
	}
	// It is rarely asked for: it may as well come from the issuer that is active now.
	if err := a.Reload(ctx); err != nil {
		return nil, err
	}
	by := a.current.Load().active("")
	if by == nil || by.signer == nil {
		return nil, fault.New(fault.Unavailable, "no-active-issuer", "No issuing CA is active here.")
	}
	now := a.now().UTC()
	template, err := a.serverTemplate(public, names, lifetime, by, now)
	if err != nil {
		return nil, err
	}
	standIn, err := by.standIn()
	if err != nil {
		return nil, err
	}
	if err := a.shapes.lint(template, standIn); err != nil {
		return nil, err
	}
	made, err := sign(template, by.certificate, by.signer)
	if err != nil {
		return nil, err
	}
	u := Unrecorded{certificate: Certificate{
		Issuer: by.ID, Serial: SerialOf(made.SerialNumber), Thumbprint: verify.ThumbprintOf(made.Raw),
		KeyHash: verify.KeyHashOf(made.RawSubjectPublicKeyInfo), NotBefore: made.NotBefore, NotAfter: made.NotAfter, Issued: now, DER: made.Raw,
	}}
	event := audit.Event{Actor: actor, Subject: "server:" + names[0]}
	err = a.store.Update(ctx, func(tx Tx) error {
		_, err := Record(tx, u, event)
		return err
	})
	if err != nil {
		return nil, err
	}
	chain := a.Chain(by.ID)
	return slices.Concat([][]byte{made.Raw}, chain[:len(chain)-1], a.current.Load().crossed(by, now)), nil
}

// crossed are the cross certificates by which who knows a former root alone comes to an
// issuer's root, the nearest first.
func (h *hierarchy) crossed(i *issuer, now time.Time) (chain [][]byte) {
	for range h.issuers {
		if up := h.byID(i.Parent); up != nil {
			i = up
		}
	}
	reached := []IssuerID{i.ID}
	for n := 0; n < len(reached); n++ {
		for _, c := range h.standing(now) {
			if c.Issuer == reached[n] && !slices.Contains(reached, c.SignedBy) {
				chain, reached = append(chain, c.Certificate), append(reached, c.SignedBy)
			}
		}
	}
	return chain
}

func (a *Authority) serverTemplate(public crypto.PublicKey, names []string, lifetime time.Duration, by *issuer, now time.Time) (*x509.Certificate, error) {
	p := policies.DefaultProfile()
	p.Lifetime = lifetime
	notBefore, notAfter, err := p.Validity(now, by.certificate.NotBefore, by.certificate.NotAfter)
	if err != nil {
		return nil, err
	}
	keyID, err := x509util.GenerateSubjectKeyID(public)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: newSerial(now), Subject: pkix.Name{CommonName: names[0]}, NotBefore: notBefore, NotAfter: notAfter,
		PublicKey: public, SubjectKeyId: keyID, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
		IssuingCertificateURL: []string{a.certificateURL(by.ID)}, CRLDistributionPoints: []string{a.crlURL(by.ID)}, OCSPServer: a.ocspServer(by.ID),
	}
	for _, n := range names {
		if ip, err := netip.ParseAddr(n); err == nil {
			t.IPAddresses = append(t.IPAddresses, ip.AsSlice())
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	return t, nil
}

// StandsBehind reports whether the issuer of a certificate that was issued here is not
// revoked, as far as this process has heard.
func (a *Authority) StandsBehind(leaf *x509.Certificate) bool {
	return !slices.ContainsFunc(a.current.Load().issuers, func(i *issuer) bool { return i.State == IssuerRevoked && signed(i.certificate, leaf) })
}

package ca

import (
	"context"
	"crypto/x509"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// CrossSign certifies a root's name and key by another root whose key is here: who trusts
// that one alone trusts what is below the first one too (old with new, and new with old, of
// RFC 4210 §4.4). Both ends, and the room that the signer's path length leaves, bound it.
// Conflict: "issuer-not-root", "issuer-key-elsewhere", "issuer-path-length",
// "cross-certificate-exists".
func (a *Authority) CrossSign(ctx context.Context, actor string, id, by IssuerID) (CrossCertificate, error) {
	if err := a.Reload(ctx); err != nil {
		return CrossCertificate{}, err
	}
	now := a.now().UTC()
	h := a.current.Load()
	of, err := h.root(id)
	if err != nil {
		return CrossCertificate{}, err
	}
	signer, err := h.root(by)
	switch {
	case err != nil:
		return CrossCertificate{}, err
	case signer.signer == nil:
		return CrossCertificate{}, fault.New(fault.Conflict, "issuer-key-elsewhere", "The signing root's key is not on this host.").About("issuer " + string(by))
	case id == by:
		return CrossCertificate{}, fault.New(fault.Conflict, "issuer-not-root", "A root does not cross-sign itself.").About("issuer " + string(by))
	case h.hasCross(id, by, now):
		return CrossCertificate{}, fault.New(fault.Conflict, "cross-certificate-exists", "This root's key has a certificate of that one already.").About("issuer " + string(id))
	}
	made, err := a.crossCertificate(of, signer, now)
	if err != nil {
		return CrossCertificate{}, err
	}
	cross := CrossCertificate{Issuer: id, SignedBy: by, Certificate: made.Raw, Created: now}
	err = a.store.Update(ctx, func(tx Tx) error {
		if err := tx.InsertCrossCertificate(cross); err != nil {
			return err
		}
		if err := recordCA(tx, by, made, now, actor, "issuer:"+string(id)); err != nil {
			return err
		}
		return tx.Append(audit.Event{At: now, Actor: actor, Action: audit.IssuerCrossSigned, Subject: "issuer:" + string(id),
			Body: audit.Body(map[string]any{"by": by, "sha256": verify.ThumbprintOf(made.Raw).String(), "notAfter": made.NotAfter})})
	})
	if err != nil {
		return CrossCertificate{}, err
	}
	return cross, a.Reload(ctx)
}

// root is one of our roots that is not at its end.
func (h *hierarchy) root(id IssuerID) (*issuer, error) {
	i := h.byID(id)
	switch {
	case i == nil:
		return nil, noIssuer(id)
	case i.Role != RoleRoot || i.State == IssuerRetired || i.State == IssuerRevoked:
		return nil, fault.New(fault.Conflict, "issuer-not-root", "Only roots of ours that are not retired or revoked cross-sign.").About("issuer " + string(id))
	}
	return i, nil
}

func (h *hierarchy) hasCross(id, by IssuerID, now time.Time) bool {
	return slices.ContainsFunc(h.cross, func(c CrossCertificate) bool {
		parsed, err := x509.ParseCertificate(c.Certificate)
		return c.Issuer == id && c.SignedBy == by && err == nil && now.Before(parsed.NotAfter)
	})
}

func (a *Authority) crossCertificate(of, by *issuer, now time.Time) (*x509.Certificate, error) {
	now = now.Truncate(time.Second)
	t := &x509.Certificate{
		SerialNumber: newSerial(now), RawSubject: of.certificate.RawSubject, Subject: of.certificate.Subject,
		NotBefore: now.Add(-caBackdate), NotAfter: of.certificate.NotAfter, BasicConstraintsValid: true, IsCA: true, KeyUsage: of.certificate.KeyUsage,
		PublicKey: of.certificate.PublicKey, SubjectKeyId: of.certificate.SubjectKeyId, MaxPathLen: of.certificate.MaxPathLen,
	}
	// A path length of its own at all, for one that has none: what the signer leaves.
	if room := by.certificate.MaxPathLen; room >= 0 {
		if room < 2 {
			return nil, fault.New(fault.Conflict, "issuer-path-length",
				"The path length %d of the signing root leaves no room for another root and an issuing CA.", room).About("issuer " + string(by.ID))
		}
		if t.MaxPathLen < 0 || t.MaxPathLen > room-1 {
			t.MaxPathLen = room - 1
		}
	}
	t.MaxPathLenZero = t.MaxPathLen == 0
	if err := fit(t, by, a.addresses(by.ID), now); err != nil {
		return nil, err
	}
	kt, err := policies.KeyTypeOf(t.PublicKey)
	if err != nil {
		return nil, err
	}
	if err := a.lintCA(*t, kt, by); err != nil {
		return nil, err
	}
	return sign(t, by.certificate, by.signer)
}

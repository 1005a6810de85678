package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
)

// Revoked says what RevokeIssuer did, and what is left for others to do.
type Revoked struct {
	Issuer Issuer
	// Below are the issuers of ours that fell with it.
	Below []Issuer
	// OnCRL: the next CRL of its parent, whose key is here, names it. Otherwise who holds the
	// parent's key must revoke it there, or, for a root, who trusts it must be told.
	OnCRL bool
}

// RevokeIssuer ends an issuer for good, every one below it, and those that are the same CA: from the commit on they sign
// nothing and what they signed authenticates nothing. Its certificate, and the cross
// certificates for its key, are revoked with the reason. Conflict: "issuer-ended" (it is
// revoked already); Malformed as ParseReason.
func (a *Authority) RevokeIssuer(ctx context.Context, actor string, id IssuerID, reason Reason) (Revoked, error) {
	if _, err := ParseReason(string(reason)); err != nil {
		return Revoked{}, err
	}
	now := a.now().UTC()
	var out Revoked
	err := a.store.UpdateTrust(ctx, func(tx Tx) (err error) {
		out, err = revokeIssuer(tx, actor, id, reason, now)
		return err
	})
	if err != nil {
		return Revoked{}, err
	}
	err = a.Reload(ctx)
	out.OnCRL = a.OnParentCRL(out.Issuer)
	return out, err
}

// OnParentCRL reports whether the next CRL of an issuer's parent, signed here, names it once it is
// revoked.
func (a *Authority) OnParentCRL(i Issuer) bool {
	parent := a.current.Load().byID(i.Parent)
	return parent != nil && parent.ID != i.ID && parent.signer != nil && parent.stands()
}

func revokeIssuer(tx Tx, actor string, id IssuerID, reason Reason, now time.Time) (out Revoked, err error) {
	rows, err := tx.Issuers()
	if err != nil {
		return out, err
	}
	at := slices.IndexFunc(rows, func(i Issuer) bool { return i.ID == id })
	if at < 0 {
		return out, noIssuer(id)
	}
	if rows[at].State == IssuerRevoked {
		return out, fault.New(fault.Conflict, "issuer-ended", "The issuer is revoked already.").About("issuer " + string(id))
	}
	fallen := falling(rows, rows[at:at+1], reason == KeyCompromise || reason == CACompromise)
	ended, err := RevokeFallen(tx, fallen, actor, reason, now)
	if err != nil {
		return out, err
	}
	out.Issuer, out.Below = ended[0], append(out.Below, ended[1:]...)
	return out, nil
}

// revokeCertificatesOf revokes the certificates that others of ours, which do not fall, signed
// for issuers' keys.
func revokeCertificatesOf(tx Tx, fallen []Issuer, reason Reason, actor string, now time.Time) error {
	rows, err := tx.Issuers()
	if err != nil {
		return err
	}
	signed, err := tx.CrossCertificates()
	if err != nil {
		return err
	}
	falls := func(id IssuerID) bool { return slices.ContainsFunc(fallen, func(i Issuer) bool { return i.ID == id }) }
	for _, i := range fallen {
		signed = append(signed, CrossCertificate{Issuer: i.ID, SignedBy: i.Parent, Certificate: i.Certificate, Created: i.Created})
	}
	for n, c := range signed {
		twice := slices.ContainsFunc(signed[:n], func(before CrossCertificate) bool { return bytes.Equal(before.Certificate, c.Certificate) })
		ours := slices.ContainsFunc(rows, func(by Issuer) bool { return by.ID == c.SignedBy && by.Role != RoleExternal })
		if twice || !ours || !falls(c.Issuer) || falls(c.SignedBy) {
			continue
		}
		if err := revokeCA(tx, c, reason, actor, now); err != nil {
			return err
		}
	}
	return nil
}

// revokeCA revokes a CA's certificate that one of ours signed. What was signed before such
// certificates were kept in the inventory enters it now.
func revokeCA(tx Tx, c CrossCertificate, reason Reason, actor string, now time.Time) error {
	certificate, err := x509.ParseCertificate(c.Certificate)
	if err != nil {
		return err
	}
	subject := "issuer:" + string(c.Issuer)
	row, err := tx.Certificate(c.SignedBy, SerialOf(certificate.SerialNumber))
	if fault.Is(err, fault.NotFound) {
		row = caCertificate(c.SignedBy, certificate, c.Created)
		err = recordCA(tx, c.SignedBy, certificate, c.Created, actor, subject)
	}
	if err != nil || row.IsRevoked() {
		return err
	}
	_, err = RevokeIn(tx, row, reason, audit.Event{Actor: actor, Subject: subject}, now)
	return err
}

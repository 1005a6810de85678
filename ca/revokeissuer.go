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
	if parent := a.current.Load().byID(out.Issuer.Parent); parent != nil && parent.ID != id {
		out.OnCRL = parent.signer != nil && parent.stands()
	}
	return out, err
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
	fallen := []IssuerID{id}
	for n := 0; n < len(fallen); n++ {
		for _, i := range rows {
			if i.ID == fallen[n] && i.State != IssuerRevoked {
				was := i.State
				i.State, i.RetireAt = IssuerRevoked, now
				if err := moveIssuer(tx, i, was, actor, audit.IssuerRevoked, reason, now); err != nil {
					return out, err
				}
				if i.ID == id {
					out.Issuer = i
				} else {
					out.Below = append(out.Below, i)
				}
			}
			if (i.Parent == fallen[n] || i.isTwin(rows, fallen[n], reason)) && !slices.Contains(fallen, i.ID) {
				fallen = append(fallen, i.ID)
			}
		}
	}
	return out, revokeCertificatesOf(tx, rows, out.Issuer, reason, actor, now)
}

// isTwin says that an issuer falls with another one: it is the same CA, which signs for another
// profile, or its key is the one that is compromised.
func (i Issuer) isTwin(rows []Issuer, id IssuerID, r Reason) bool {
	return slices.ContainsFunc(rows, func(other Issuer) bool {
		return other.ID == id && (bytes.Equal(other.Certificate, i.Certificate) || (r == KeyCompromise || r == CACompromise) && other.key() == i.key())
	})
}

// revokeCertificatesOf revokes the certificates that others of ours signed for an issuer's key.
func revokeCertificatesOf(tx Tx, rows []Issuer, i Issuer, reason Reason, actor string, now time.Time) error {
	cross, err := tx.CrossCertificates()
	if err != nil {
		return err
	}
	signed := []CrossCertificate{{Issuer: i.ID, SignedBy: i.Parent, Certificate: i.Certificate, Created: i.Created}}
	for _, c := range cross {
		if c.Issuer == i.ID {
			signed = append(signed, c)
		}
	}
	for _, c := range signed {
		ours := slices.ContainsFunc(rows, func(by Issuer) bool { return by.ID == c.SignedBy && by.Role != RoleExternal && by.ID != i.ID })
		if !ours {
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

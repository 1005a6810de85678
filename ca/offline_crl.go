package ca

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// FirstCRL is the root's CRL number 1, without entries.
func (o *Offline) FirstCRL(now time.Time, lifetime time.Duration) (*x509.RevocationList, error) {
	return o.signCRL(CRLShard{Issuer: o.root.ID}, nil, now, lifetime)
}

// NextCRL is the CRL that follows previous: its number is one more, and every entry of
// previous is carried, for a root keeps no inventory that would say which certificate
// has expired. With a serial that certificate is revoked too, at now.
//
// Refusals are Malformed: "previous-crl-issuer" (it is another root's, or not signed by
// this one), "previous-crl-kind" (a delta or partial CRL, no number, an entry that
// could not be carried as it is) and "reason-unknown"; Conflict: "clock-behind" (now is
// before previous was signed) and "already-revoked".
func (o *Offline) NextCRL(previous *x509.RevocationList, revoke Serial, reason Reason, now time.Time, lifetime time.Duration) (*x509.RevocationList, error) {
	if err := previous.CheckSignatureFrom(o.root.certificate); err != nil {
		return nil, fault.New(fault.Malformed, "previous-crl-issuer", "The previous CRL is not signed by this root.").Because(err)
	}
	if now.Before(previous.ThisUpdate) {
		return nil, fault.New(fault.Conflict, "clock-behind", "The previous CRL was signed after what the clock says now: %s.",
			previous.ThisUpdate.UTC().Format(time.RFC3339))
	}
	number, entries, err := carried(previous)
	if err != nil {
		return nil, err
	}
	if revoke != "" {
		if entries, err = withRevoked(entries, revoke, reason, now); err != nil {
			return nil, err
		}
	}
	return o.signCRL(CRLShard{Issuer: o.root.ID, Number: number}, entries, now, lifetime)
}

// CheckCRLLifetime is what FirstCRL and NextCRL allow: 1 hour to 10 years. Malformed,
// rule "crl-lifetime".
func CheckCRLLifetime(lifetime time.Duration) error {
	if lifetime < time.Hour || lifetime > 10*year {
		return fault.New(fault.Malformed, "crl-lifetime", "A root's CRL lives between 1 hour and 10 years.").At("/crlLifetime")
	}
	return nil
}

func (o *Offline) signCRL(after CRLShard, revoked []Certificate, now time.Time, lifetime time.Duration) (*x509.RevocationList, error) {
	if err := CheckCRLLifetime(lifetime); err != nil {
		return nil, err
	}
	d := draft{number: after.Number + 1, shard: after, thisUpdate: now.UTC().Truncate(time.Second)}
	d.nextUpdate = d.thisUpdate.Add(lifetime)
	var list crlList
	for _, c := range revoked {
		list.revoked = append(list.revoked, Revocation{Serial: c.Serial, RevokedAt: c.RevokedAt, Reason: c.Reason})
	}
	signed, err := d.sign(nil, o.root, list)
	if err != nil {
		return nil, err
	}
	return x509.ParseRevocationList(signed[0].DER)
}

var (
	oidReasonCode     = asn1.ObjectIdentifier{2, 5, 29, 21}
	oidCRLNumber      = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidAuthorityKeyID = asn1.ObjectIdentifier{2, 5, 29, 35}
)

// carried is what the next CRL takes over.
func carried(previous *x509.RevocationList) (number int64, entries []Certificate, err error) {
	kind := fault.New(fault.Malformed, "previous-crl-kind", "The previous CRL is not a plain one as a ceremony makes: whole, numbered, with reasons alone.")
	for _, e := range previous.Extensions {
		if !e.Id.Equal(oidAuthorityKeyID) && !e.Id.Equal(oidCRLNumber) {
			return 0, nil, kind
		}
	}
	if previous.Number == nil || !previous.Number.IsInt64() || previous.Number.Sign() <= 0 {
		return 0, nil, kind
	}
	for _, e := range previous.RevokedCertificateEntries {
		reason, known := reasonOf(e.ReasonCode)
		foreign := slices.ContainsFunc(e.Extensions, func(x pkix.Extension) bool { return !x.Id.Equal(oidReasonCode) })
		if !known || foreign || e.SerialNumber.Sign() <= 0 {
			return 0, nil, kind
		}
		entries = append(entries, Certificate{Serial: SerialOf(e.SerialNumber), RevokedAt: e.RevocationTime, Reason: reason})
	}
	return previous.Number.Int64(), entries, nil
}

func withRevoked(entries []Certificate, serial Serial, reason Reason, now time.Time) ([]Certificate, error) {
	if i := slices.IndexFunc(entries, func(c Certificate) bool { return c.Serial == serial }); i >= 0 {
		return entries, entries[i].Revoke(reason, now)
	}
	c := Certificate{Serial: serial}
	if err := c.Revoke(reason, now); err != nil {
		return nil, err
	}
	return append(entries, c), nil
}

// reasonOf is the reason with a CRLReason code.
func reasonOf(code int) (Reason, bool) {
	for _, r := range []Reason{Unspecified, KeyCompromise, CACompromise, AffiliationChanged, Superseded, CessationOfOperation, PrivilegeWithdrawn} {
		if c, _ := r.code(); c == code {
			return r, true
		}
	}
	return "", false
}

package ca

import (
	"fmt"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
)

// The reasons of RFC 5280 §5.3.1 that a device certificate can be revoked for.
const (
	Unspecified          Reason = "unspecified"
	KeyCompromise        Reason = "keyCompromise"
	CACompromise         Reason = "cACompromise"
	AffiliationChanged   Reason = "affiliationChanged"
	Superseded           Reason = "superseded"
	CessationOfOperation Reason = "cessationOfOperation"
	PrivilegeWithdrawn   Reason = "privilegeWithdrawn"
)

// ParseReason reads a reason in RFC 5280's spelling. Malformed, rules
// "reason-not-permanent" (certificateHold and removeFromCRL: revocation is one-way)
// and "reason-unknown".
func ParseReason(s string) (Reason, error) {
	r := Reason(s)
	if _, ok := r.code(); ok {
		return r, nil
	}
	if r == "certificateHold" || r == "removeFromCRL" {
		return "", fault.New(fault.Malformed, "reason-not-permanent", "Revocation is permanent: a certificate cannot be held or taken back.")
	}
	return "", fault.New(fault.Malformed, "reason-unknown",
		"A reason is one of unspecified, keyCompromise, cACompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn.")
}

// code is the reason's CRLReason.
func (r Reason) code() (int, bool) {
	switch r {
	case Unspecified:
		return 0, true
	case KeyCompromise:
		return 1, true
	case CACompromise:
		return 2, true
	case AffiliationChanged:
		return 3, true
	case Superseded:
		return 4, true
	case CessationOfOperation:
		return 5, true
	case PrivilegeWithdrawn:
		return 9, true
	}
	return 0, false
}

// IsRevoked reports whether the certificate has been revoked.
func (c *Certificate) IsRevoked() bool { return !c.RevokedAt.IsZero() }

// Revoke is one-way: a second call is fault.Conflict, rule "already-revoked", and
// keeps the first reason, except that keyCompromise replaces a weaker one. The time is
// always that of the first call, in whole seconds.
func (c *Certificate) Revoke(r Reason, now time.Time) error {
	if _, err := ParseReason(string(r)); err != nil {
		return err
	}
	if !c.IsRevoked() {
		c.RevokedAt, c.Reason = now.UTC().Truncate(time.Second), r
		return nil
	}
	if r == KeyCompromise && c.Reason != KeyCompromise && c.Reason != CACompromise {
		c.Reason = r
		return nil
	}
	return fault.New(fault.Conflict, "already-revoked", "The certificate is already revoked (%s).", c.Reason).
		About("certificate " + string(c.Serial))
}

// RevokeIn revokes a certificate read in this transaction and writes the ledger entry.
// The caller's event names the actor; action, subject and time are filled in where
// they are empty, and issuer, serial, sha256 and reason are added to its body.
func RevokeIn(tx Tx, c Certificate, r Reason, e audit.Event, now time.Time) (Certificate, error) {
	if err := c.Revoke(r, now); err != nil {
		return Certificate{}, err
	}
	facts := fmt.Appendf(nil, `{"issuer":%q,"serial":%q,"sha256":%q,"reason":%q}`, c.Issuer, c.Serial, c.Thumbprint, c.Reason)
	e, err := complete(e, audit.Revoked, c, now, facts)
	if err != nil {
		return Certificate{}, err
	}
	if err := tx.MarkRevoked(c); err != nil {
		return Certificate{}, err
	}
	if err := tx.TellUpstream(c, now); err != nil {
		return Certificate{}, err
	}
	if err := tx.Append(e); err != nil {
		return Certificate{}, err
	}
	return c, nil
}

package ca

import (
	"bytes"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// Unrecorded is a certificate that has been signed and is not on record yet. It tells
// what is needed to plan the transaction and gives its bytes to Record alone. Thrown
// away, it was never issued.
type Unrecorded struct {
	certificate Certificate
	intent      string // of the upstream that signed it; "" where a key of ours did
}

// Thumbprint is the SHA-256 of the certificate.
func (u Unrecorded) Thumbprint() verify.Thumbprint { return u.certificate.Thumbprint }

// KeyHash is the SHA-256 of the certificate's SubjectPublicKeyInfo.
func (u Unrecorded) KeyHash() verify.KeyHash { return u.certificate.KeyHash }

// NotBefore is the start of the certificate's validity.
func (u Unrecorded) NotBefore() time.Time { return u.certificate.NotBefore }

// NotAfter is the end of the certificate's validity.
func (u Unrecorded) NotAfter() time.Time { return u.certificate.NotAfter }

// Serial is the certificate's serial number.
func (u Unrecorded) Serial() Serial { return u.certificate.Serial }

// Issuer names the issuer that signed the certificate.
func (u Unrecorded) Issuer() IssuerID { return u.certificate.Issuer }

// Record puts a certificate and its ledger entry into a transaction, one of each, and
// is the one way to the bytes of an Unrecorded (INV-S1). The caller sends them only
// after the transaction has committed. It may be run again with the transaction.
//
// The caller's event names the actor; action (audit.Issued), subject and time are
// filled in where they are empty, and issuer, serial, sha256 and notAfter are added to
// its body. fault.Conflict, rule "serial-taken", here or at the commit, means: throw
// the Unrecorded away, Issue anew, and record that (INV-P8).
func Record(tx Tx, u Unrecorded, e audit.Event) (Certificate, error) {
	c := u.certificate
	if len(c.DER) == 0 {
		return Certificate{}, fault.New(fault.Internal, "nothing-to-record", "There is no certificate to record.")
	}
	// None of these needs escaping in JSON.
	attested := ""
	if c.KeyAttestation != policies.KeyAttestationNone {
		attested = `","keyAttestation":"` + string(c.KeyAttestation)
	}
	facts := []byte(`{"issuer":"` + string(c.Issuer) + `","serial":"` + string(c.Serial) + `","sha256":"` + c.Thumbprint.String() +
		`","notAfter":"` + c.NotAfter.Format(time.RFC3339) + attested + `"}`)
	e, err := complete(e, audit.Issued, c, c.Issued, facts)
	if err != nil {
		return Certificate{}, err
	}
	if err := tx.InsertCertificate(c); err != nil {
		return Certificate{}, err
	}
	if err := tx.Append(e); err != nil {
		return Certificate{}, err
	}
	if u.intent != "" {
		return c, tx.CloseIntent(u.intent, c.Issued)
	}
	return c, nil
}

// complete fills in what the caller of Record or RevokeIn left open. The facts are a
// JSON object; they are joined to the body by hand, because this runs in the one
// writer that every device waits for.
func complete(e audit.Event, action audit.Action, c Certificate, at time.Time, facts []byte) (audit.Event, error) {
	if e.Action == "" {
		e.Action = action
	}
	if e.Subject == "" {
		e.Subject = c.RegistrationID.String()
	}
	if e.At.IsZero() {
		e.At = at
	}
	switch body := bytes.TrimSpace(e.Body); {
	case len(body) == 0 || string(body) == "{}":
		e.Body = facts
	case body[0] == '{' && body[len(body)-1] == '}':
		e.Body = append(append(bytes.Clone(body[:len(body)-1]), ','), facts[1:]...)
	default:
		return audit.Event{}, fault.New(fault.Internal, "audit-body", "The body of a ledger entry is not a JSON object.")
	}
	return e, nil
}

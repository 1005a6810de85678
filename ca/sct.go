package ca

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// SCTSource asks logs of certificates for their timestamps. The chain begins with the
// precertificate; the answer is a SignedCertificateTimestampList (RFC 6962 §3.3), nil
// where certificates may go without.
type SCTSource interface {
	AddPreChain(ctx context.Context, chain [][]byte) (list []byte, err error)
}

var (
	oidPoison  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 3}
	oidSCTList = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}
)

// signLogged makes a certificate with the timestamps of logs in it: a precertificate,
// which can be used for nothing (RFC 6962 §3.1), is put on record, then given to the logs;
// the certificate is the same but for one extension.
//
// The precertificate is a promise to issue. It is on record before it leaves this process,
// so that no log has an entry that the ledger cannot account for (INV-S2), also when the
// certificate is thrown away later.
func (a *Authority) signLogged(ctx context.Context, template *x509.Certificate, id verify.RegistrationID, by *issuer) (*x509.Certificate, error) {
	if a.config.SCTs == nil {
		return nil, fault.New(fault.Unavailable, "sct-unavailable", "The profile asks for timestamps of logs, and no log is configured.")
	}
	pre := *template
	pre.ExtraExtensions = append(append([]pkix.Extension{}, template.ExtraExtensions...), pkix.Extension{Id: oidPoison, Critical: true, Value: asn1.NullBytes})
	made, err := sign(&pre, by.certificate, by.signer)
	if err != nil {
		return nil, err
	}
	event := audit.Event{At: a.now().UTC(), Actor: "device:" + id.String(), Action: audit.Precertified, Subject: "registration:" + id.String(), Body: audit.Body(map[string]any{
		"issuer": string(by.ID), "serial": string(SerialOf(made.SerialNumber)), "sha256": verify.ThumbprintOf(made.Raw).String(),
	})}
	if err := a.store.Update(ctx, func(tx Tx) error { return tx.Append(event) }); err != nil {
		return nil, err
	}
	list, err := a.config.SCTs.AddPreChain(ctx, append([][]byte{made.Raw}, a.Chain(by.ID)...))
	if err != nil {
		return nil, err
	}
	final := *template
	if list != nil {
		value, err := asn1.Marshal(list)
		if err != nil {
			return nil, err
		}
		final.ExtraExtensions = append(append([]pkix.Extension{}, template.ExtraExtensions...), pkix.Extension{Id: oidSCTList, Value: value})
	}
	return sign(&final, by.certificate, by.signer)
}

package provisioning

import (
	"context"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/rotation"
)

// Revoke revokes one certificate of ours: from the commit on it authenticates
// nothing, it leaves its device's pair and what built-in hubs hold of it, and it waits for
// the next CRL, which is made soon after (the revoke does not wait for it). With keyCompromise its key is
// disallowed too, so that no later CSR brings it back (INV-D3). issuer may be "" when
// only one issuer has the serial; else that is a Conflict.
func (e *Engine) Revoke(ctx context.Context, actor string, issuer ca.IssuerID, serial ca.Serial, reason ca.Reason) (ca.Certificate, error) {
	now, id := e.now(), newID()
	var cert ca.Certificate
	err := e.store.UpdateTrust(ctx, func(tx Tx) error {
		found, err := findCertificate(tx, issuer, serial)
		if err != nil {
			return err
		}
		event := audit.Event{At: now, Actor: actor, Subject: "certificate:" + string(serial),
			Body: audit.Body(map[string]any{"registrationId": found.RegistrationID.String()})}
		if cert, err = ca.RevokeIn(tx, found, reason, event, now); err != nil {
			return err
		}
		if reason == ca.KeyCompromise {
			if err := disallowKey(tx, id, cert, actor, now); err != nil {
				return err
			}
		}
		return first(tx.DropHubThumbprint(thumbprintText(cert.Thumbprint[:]), now), dropFromPair(tx, cert, now))
	})
	return cert, err
}

func findCertificate(tx Tx, issuer ca.IssuerID, serial ca.Serial) (ca.Certificate, error) {
	if issuer != "" {
		return tx.Certificate(issuer, serial)
	}
	found, err := tx.Certificates(CertificateFilter{Serial: serial, Limit: 2})
	switch {
	case err != nil:
		return ca.Certificate{}, err
	case len(found) == 0:
		return ca.Certificate{}, fault.New(fault.NotFound, "certificate-unknown", "no certificate of this serial was issued here")
	case len(found) > 1:
		return ca.Certificate{}, fault.New(fault.Conflict, "serial-ambiguous", "two issuers have issued this serial: add the issuer")
	}
	return found[0], nil
}

func disallowKey(tx Tx, id string, cert ca.Certificate, actor string, now time.Time) error {
	d := Disallowance{ID: id, Digest: cert.KeyHash, Key: true, Reason: ca.KeyCompromise, Actor: actor, Created: now}
	return first(tx.InsertDisallowance(d), tx.Append(audit.Event{At: now, Actor: actor, Action: audit.KeyDisallowed, Subject: "key:" + cert.KeyHash.String(),
		Body: audit.Body(map[string]any{"disallowance": id, "certificate": string(cert.Serial)})}))
}

// dropFromPair takes a revoked certificate out of its device's pair.
func dropFromPair(tx Tx, cert ca.Certificate, now time.Time) error {
	reg, err := tx.Registration(cert.RegistrationID)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	ref := rotation.Ref(cert.Thumbprint)
	if _, held := reg.Pair.Find(ref); !held {
		return nil
	}
	reg.Pair, reg.Updated, reg.Version = reg.Pair.Drop(ref), now, reg.Version+1
	return first(tx.StepHubIdentity(reg.place(), now), tx.PutRegistration(reg), settlePending(tx, reg, now))
}

// Certificate reads one issued certificate by serial; see Revoke for issuer.
func (e *Engine) Certificate(ctx context.Context, issuer ca.IssuerID, serial ca.Serial) (c ca.Certificate, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		if c, err = findCertificate(tx, issuer, serial); err != nil {
			return err
		}
		c, err = tx.Certificate(c.Issuer, c.Serial) // with its DER
		return err
	})
	return c, err
}

// Certificates lists the inventory, newest first.
func (e *Engine) Certificates(ctx context.Context, f CertificateFilter) (list []ca.Certificate, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		list, err = tx.Certificates(f)
		return err
	})
	return list, err
}

// Ledger lists audit entries, newest first.
func (e *Engine) Ledger(ctx context.Context, f LedgerFilter) (list []audit.Entry, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		list, err = tx.LedgerEntries(f)
		return err
	})
	return list, err
}

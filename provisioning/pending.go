package provisioning

import (
	"context"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// PendingCertificate is a certificate made for a device that did not ask, not yet seen in
// use. The device has its key already: it is that of the certificate before.
type PendingCertificate struct {
	ca.Certificate
	Above [][]byte // its issuer, …, root (DER)
}

// errNothingPending is what a device is told that has everything it needs.
func errNothingPending() error {
	return fault.New(fault.NotFound, "no-pending-certificate", "no certificate is waiting for this device")
}

// Pending is the certificate that waits for a device. NotFound, "no-pending-certificate",
// when none does; none is handed out while the entry that owns the device is disabled or
// gone (INV-D5), or once it is revoked or has ended.
func (e *Engine) Pending(ctx context.Context, id verify.RegistrationID) (p PendingCertificate, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		kept, err := tx.RetainedRequest(id)
		if fault.Is(err, fault.NotFound) {
			return errNothingPending()
		}
		if err != nil {
			return err
		}
		p.Certificate, err = e.pending(tx, kept)
		return err
	})
	if err == nil {
		p.Above, err = e.issuersAbove(ctx, p.Issuer)
	}
	return p, err
}

// PendingFor is Pending for the device itself, which proves who it is as for a poll.
func (e *Engine) PendingFor(ctx context.Context, a Attempt) (PendingCertificate, error) {
	now := e.now()
	in, err := e.pace.enter(a, true, now)
	if err != nil {
		e.count(a, false, err)
		return PendingCertificate{}, err
	}
	defer in.leave()
	d, err := e.decidePoll(ctx, a, now)
	if err != nil {
		e.refused(a, d, err, now)
		return PendingCertificate{}, in.outcome(err, now)
	}
	p, err := e.Pending(ctx, a.ID)
	return p, in.outcome(err, now)
}

// PendingCertificates lists what waits for devices, by registration id, from a page of limit
// devices behind after. next is where to go on; zero at the end.
func (e *Engine) PendingCertificates(ctx context.Context, after verify.RegistrationID, limit int) (list []PendingCertificate, next verify.RegistrationID, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		list, next = nil, verify.RegistrationID{}
		page, err := tx.PendingRequests(after, limit)
		if err != nil {
			return err
		}
		for _, kept := range page {
			c, err := e.pending(tx, kept)
			if fault.Is(err, fault.NotFound) {
				continue // seen or withdrawn, and not settled yet
			}
			if err != nil {
				return err
			}
			list = append(list, PendingCertificate{Certificate: c})
		}
		if len(page) == limit {
			next = page[limit-1].ID
		}
		return nil
	})
	for i := range list {
		if err == nil {
			list[i].Above, err = e.issuersAbove(ctx, list[i].Issuer)
		}
	}
	return list, next, err
}

// pending reads the certificate that a request was signed into, while it is to be had.
func (e *Engine) pending(tx Tx, kept RetainedRequest) (ca.Certificate, error) {
	if (kept.Pending == rotation.Ref{}) {
		return ca.Certificate{}, errNothingPending()
	}
	reg, err := tx.Registration(kept.ID)
	if err != nil {
		return ca.Certificate{}, err
	}
	if !isPending(reg.Pair, kept.Pending) || reg.Owner.IsZero() || !reg.HeldAt.IsZero() {
		return ca.Certificate{}, errNothingPending()
	}
	owner, err := tx.Enrollment(reg.Owner)
	if err != nil {
		return ca.Certificate{}, err
	}
	c, err := issuedAs(tx, verify.Thumbprint(kept.Pending))
	if err != nil {
		return ca.Certificate{}, err
	}
	if !owner.Enabled || c == nil || !c.RevokedAt.IsZero() || !e.now().Before(c.NotAfter) {
		return ca.Certificate{}, errNothingPending()
	}
	return *c, nil
}

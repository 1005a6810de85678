package ca

import (
	"context"
	"errors"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
)

// crlActor is who publishes in the ledger.
const crlActor = "job:crl"

// crlPage is how many revoked certificates are read at a time.
const crlPage = 1000

// clockSlack is how far the clock of who signed the last CRL may have been ahead of this
// one. A CRL from beyond that was made by a clock that was wrong, and is replaced.
const clockSlack = 5 * time.Minute

// PublishedCRL is the latest whole CRL of a shard; fault.NotFound where there is none.
func (a *Authority) PublishedCRL(ctx context.Context, id IssuerID, shard int) (CRL, error) {
	var crl CRL
	err := a.store.View(ctx, func(tx Tx) (err error) {
		crl, err = tx.LatestCRL(id, shard)
		return err
	})
	return crl, err
}

// PublishedDelta is the latest delta CRL of a shard; fault.NotFound where there is none.
func (a *Authority) PublishedDelta(ctx context.Context, id IssuerID, shard int) (CRL, error) {
	var crl CRL
	err := a.store.View(ctx, func(tx Tx) (err error) {
		crl, err = tx.LatestDelta(id, shard)
		return err
	})
	return crl, err
}

// SweepCRLs signs what is due: a CRL for every shard whose issuer's key is here and that
// has none yet, or whose latest one is past its refresh point; and a delta CRL, or a whole
// one where there are no deltas, for every shard with revocations its latest does not cover.
// It may run at any time and on several replicas: of two CRLs with one number
// the store keeps the first, and what that one does not cover is due again.
//
// An issuer whose key is elsewhere, such as an offline root, or that has expired is
// passed over, and so is a shard whose certificates have all ended and have been on a CRL
// after that. One shard's failure does not hold up the others; all are reported.
// It keeps one shard in memory at a time.
func (a *Authority) SweepCRLs(ctx context.Context) error {
	shards, err := a.CRLShards(ctx)
	if err != nil {
		return err
	}
	now := a.now()
	h := a.current.Load()
	var failed []error
	for _, shard := range shards {
		i := h.byID(shard.Issuer)
		if i == nil || i.signer == nil || now.After(i.certificate.NotAfter) {
			continue
		}
		if a.crlDue(shard, now) == noCRL {
			continue
		}
		if err := a.publishCRL(ctx, i, shard.Shard, now); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// CRLShards lists the shards of all issuers, read now.
func (a *Authority) CRLShards(ctx context.Context) ([]CRLShard, error) {
	var shards []CRLShard
	err := a.store.View(ctx, func(tx Tx) (err error) {
		shards, err = tx.CRLShards()
		return err
	})
	return shards, err
}

// crlKind is what a shard needs.
type crlKind int

const (
	noCRL crlKind = iota
	wholeCRL
	deltaCRL
)

func (a *Authority) crlDue(s CRLShard, now time.Time) crlKind {
	lifetime := a.config.CRLLifetime
	left := time.Duration((1 - a.config.CRLRefresh) * float64(lifetime))
	switch {
	case a.ended(s, now):
		return noCRL
	case s.Number == 0, !now.Before(s.Next.Add(-left)), s.Next.After(now.Add(lifetime + clockSlack)):
		return wholeCRL
	case s.Revocations == s.Covers:
		return noCRL
	case a.config.DeltaCRL:
		return deltaCRL
	}
	return wholeCRL
}

// Ended reports whether a shard needs no CRL any more: its certificates have ended, and its
// latest CRL is from after that by a whole lifetime, so that none is listed (INV-S6).
func (a *Authority) Ended(s CRLShard) bool { return a.ended(s, a.now()) }

// ended asks the clock too: the latest CRL may be by one that was ahead.
func (a *Authority) ended(s CRLShard, now time.Time) bool {
	return s.Number > 0 && !s.Ends.IsZero() && now.After(s.Ends) && s.Next.After(s.Ends.Add(2*a.config.CRLLifetime))
}

func (a *Authority) publishCRL(ctx context.Context, i *issuer, shard int, now time.Time) error {
	was, err := a.published(ctx, i, shard, now)
	if err != nil {
		return err
	}
	kind := a.crlDue(was.shard, now)
	if kind == noCRL {
		return nil // another replica was first
	}
	d := a.draftCRL(i, was, now)
	var signed []CRL
	if kind == wholeCRL {
		if signed, err = d.sign(signed, i, crlList{revoked: was.revoked}); err != nil {
			return err
		}
	}
	// With a whole list comes a delta of its number, for those who have the list before it
	// (RFC 5280 §5.2.4).
	if a.config.DeltaCRL && was.base != nil {
		delta, err := d.delta(was.base, was.revoked)
		if err != nil {
			return err
		}
		if signed, err = d.sign(signed, i, delta); err != nil {
			return err
		}
	}
	if len(signed) == 0 {
		return nil // there is no whole list to add to: that is due as soon as the clock says so
	}
	err = a.store.Update(ctx, func(tx Tx) error {
		if err := publish(tx, crlActor, signed[0], signed[1:]...); err != nil {
			return err
		}
		return tx.PruneCRLs(i.ID, shard, was.keep(d.number, kind, a.config.DeltaCRL), d.number)
	})
	if fault.Is(err, fault.Conflict) {
		return nil // another replica was first
	}
	return err
}

// publication is where a shard stands before its next CRL.
type publication struct {
	shard   CRLShard
	last    time.Time // thisUpdate of the latest CRL; zero: there is none
	newest  int64     // number of the latest whole CRL; 0: none
	base    *CRL      // the oldest whole CRL that somebody may still go by; only for deltas
	revoked []Revocation
}

// keep is the number of the oldest whole CRL that is still needed.
func (p publication) keep(next int64, kind crlKind, deltas bool) int64 {
	switch {
	case deltas && p.base != nil:
		return p.base.Number
	case kind == wholeCRL:
		return next
	}
	return p.newest
}

// published reads what the next CRL lists. The shard's row is read before the
// entries: if the View is no snapshot, entries may be more than Revocations says, and
// the next sweep signs once more for nothing; the other way round one would be lost.
//
// An expired certificate stays until a CRL that was signed regularly after its expiry
// (RFC 5280 §3.3). A CRL signed early, for a new revocation, is not such a one, so an
// entry stays a whole CRL lifetime longer than the CRL before this. A CRL by a clock that was
// ahead says nothing of what has expired by now.
func (a *Authority) published(ctx context.Context, i *issuer, shard int, now time.Time) (p publication, err error) {
	err = a.store.View(ctx, func(tx Tx) error {
		p = publication{}
		if p.shard, err = tx.CRLShard(i.ID, shard); err != nil {
			return err
		}
		since := i.certificate.NotBefore
		switch crl, err := tx.LatestCRL(i.ID, shard); {
		case err == nil:
			p.last, p.newest = crl.ThisUpdate, crl.Number
			since = earlier(crl.ThisUpdate, now).Add(-a.config.CRLLifetime)
		case !fault.Is(err, fault.NotFound):
			return err
		}
		if a.config.DeltaCRL {
			if err := p.readBase(tx, i.ID, now); err != nil {
				return err
			}
		}
		return p.readRevoked(tx, i.ID, since)
	})
	return p, err
}

func (p *publication) readBase(tx Tx, id IssuerID, now time.Time) error {
	switch crl, err := tx.OldestCRL(id, p.shard.Shard, now); {
	case err == nil:
		p.base = &crl
	case !fault.Is(err, fault.NotFound):
		return err
	}
	switch crl, err := tx.LatestDelta(id, p.shard.Shard); {
	case err == nil:
		p.last = later(p.last, crl.ThisUpdate)
	case !fault.Is(err, fault.NotFound):
		return err
	}
	return nil
}

func (p *publication) readRevoked(tx Tx, id IssuerID, since time.Time) error {
	var after Serial
	for {
		page, err := tx.RevokedCertificates(id, p.shard.Shard, since, after, crlPage)
		if err != nil {
			return err
		}
		p.revoked = append(p.revoked, page...)
		if len(page) < crlPage {
			return nil
		}
		after = page[len(page)-1].Serial
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// publish puts a CRL and its ledger entry into a transaction, and a delta of its number.
func publish(tx Tx, actor string, crl CRL, deltas ...CRL) error {
	if err := tx.InsertCRL(crl, deltas...); err != nil {
		return err
	}
	facts := map[string]any{"number": crl.Number, "entries": crl.Entries, "nextUpdate": crl.NextUpdate}
	if crl.Shard != 0 {
		facts["shard"] = crl.Shard
	}
	if crl.Base != 0 {
		facts["base"] = crl.Base
	}
	return tx.Append(audit.Event{
		At: crl.ThisUpdate, Actor: actor, Action: audit.CRLPublished, Subject: "issuer:" + string(crl.Issuer), Body: audit.Body(facts),
	})
}

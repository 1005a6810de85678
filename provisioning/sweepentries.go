package provisioning

import (
	"context"
	"time"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
)

// sweepPage is how many entries one call of SweepEntries looks at.
const sweepPage = 100

// SweepEntries looks at the entries whose slots are due: a first use is the cut-over, what
// has retired is taken out once nobody hangs on it, and what is late is told (actor
// job:rotation). It does one bounded page, and answers whether there is more. Whatever
// process runs it, and however many do, each move is made once: it is written over the
// version and the due date that it was decided on.
func (e *Engine) SweepEntries(ctx context.Context, jobs Store) (more bool, err error) {
	now := e.now()
	if going, _, err := e.steady(ctx, jobs, now); err != nil || !going {
		return false, err
	}
	var quiet, trust []entryTurn
	err = jobs.View(ctx, func(tx Tx) error {
		plans, err := PlansOnRecord(tx)
		if err != nil {
			return err
		}
		due, err := tx.DueEntries(now, sweepPage)
		for _, en := range due {
			r, err := rollOf(tx, en, plans)
			if err != nil {
				return err
			}
			if t := r.decide(now); t.left {
				trust = append(trust, t)
			} else {
				quiet = append(quiet, t)
			}
		}
		return err
	})
	if err != nil || len(quiet)+len(trust) == 0 {
		return false, err
	}
	// What changes who is admitted is ordered before every later registration (INV-D1); the
	// rest holds nobody up.
	done, err := e.turn(ctx, jobs.Update, quiet, now)
	if err != nil {
		return false, err
	}
	retired, err := e.turn(ctx, jobs.UpdateTrust, trust, now)
	return len(quiet)+len(trust) == sweepPage && done+retired > 0, err
}

// turn carries out what was decided about entries that are as they were, and counts them.
func (e *Engine) turn(ctx context.Context, update func(context.Context, func(Tx) error) error, turns []entryTurn, now time.Time) (done int, err error) {
	if len(turns) == 0 {
		return 0, nil
	}
	err = update(ctx, func(tx Tx) error {
		done = 0
		claimed, err := tx.ClaimEntries(now, sweepPage)
		if err != nil {
			return err
		}
		held := make(map[DueEntry]bool, len(claimed))
		for _, c := range claimed {
			held[c] = true
		}
		for _, t := range turns {
			if !held[DueEntry{t.was.Owner, t.was.Version, t.was.DueAt}] {
				continue // another process had it, or a device or an operator changed it
			}
			if err := e.carryEntry(tx, t, now); err != nil {
				return err
			}
			done++
		}
		return nil
	})
	return done, err
}

func (e *Engine) carryEntry(tx Tx, t entryTurn, now time.Time) error {
	next := t.next
	allowed, err := true, error(nil)
	if t.left {
		allowed, err = countMove(tx, t.plan.Name, now)
	}
	switch {
	case err != nil:
	case !allowed:
		return tx.DateEntry(next.Owner, now.Truncate(time.Hour).Add(time.Hour), t.was.Version)
	case t.left:
		next.Version, next.Updated = t.was.Version+1, now
		err = e.writeSlots(tx, t.was, next, now)
	case t.moved:
		next.Version = t.was.Version + 1
		err = tx.MoveEntry(next, t.was.Version)
	default:
		err = tx.DateEntry(next.Owner, next.DueAt, t.was.Version)
	}
	for _, event := range t.events {
		err = first(err, tx.Append(event))
	}
	return err
}

// rollOf gathers what a decision about an entry rests on. Whether devices hang on a slot is
// asked only where it matters: the devices of a group are many.
func rollOf(tx Tx, en Enrollment, plans []policies.RotationPlan) (r entryRoll, err error) {
	if r.entrySlots, err = readSlots(tx, en); err != nil || !en.Enabled {
		return r, err
	}
	r.plan = entryPlan(plans, en)
	for _, slot := range []rotation.Slot{rotation.Primary, rotation.Secondary} {
		c := r.pair.Cell(slot)
		asked := r.use(slot)
		switch {
		case c.State == rotation.Empty || c.State != rotation.Retiring && !c.SeenAt.IsZero():
			continue
		case c.State == rotation.Retiring:
			asked = r.hang(slot)
		}
		if r.used[slot], err = tx.HangsAny(asked); err != nil {
			return r, err
		}
	}
	return r, nil
}

package provisioning

import (
	"context"
	"sync"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
)

// jobRotation is the actor of what the planner does.
const jobRotation = "job:rotation"

// clockGuard keeps sweeps from acting by a clock that jumped (INV-S4).
type clockGuard struct {
	rule rotation.ClockRule
	even func() time.Duration // a clock that never jumps

	mu    sync.Mutex
	watch rotation.ClockWatch
}

// steady says whether what is due by the clock may be done. After a jump it is not, until
// the clock has gone evenly for a while: see rotation.ClockWatch. Every sweep of what comes
// due asks it first, with the now that it goes by. replan says that the clock went back, and
// that rows are being planned anew.
func (e *Engine) steady(ctx context.Context, jobs Store, now time.Time) (going, replan bool, err error) {
	g := &e.clock
	g.mu.Lock()
	defer g.mu.Unlock()
	was, err := readClock(ctx, jobs)
	if err != nil {
		return false, false, err
	}
	watch, next, going, raised := g.watch.Look(was, now, g.even(), g.rule)
	if next != was {
		err := jobs.Update(ctx, func(tx Tx) error {
			if raised {
				if err := tx.Append(clockEvent(next.Jump, now)); err != nil {
					return err
				}
			}
			return tx.PutClockRecord(next, was)
		})
		if fault.RuleOf(err) == "clock-moved" {
			return false, false, nil // another process was first: the next look sees what it wrote
		}
		if err != nil {
			return false, false, err
		}
	}
	// Kept only now: a jump whose alarm could not be written is seen again.
	g.watch = watch
	if raised {
		e.log.Error("the clock jumped: nothing is rolled until it has gone evenly", "from", next.Jump.From, "to", next.Jump.To, "for", g.rule.Steady.String())
	}
	if going && !was.Jump.IsZero() {
		e.log.Warn("the clock has gone evenly again: what is due is rolled", "replan", next.Replan)
	}
	return going, next.Replan, nil
}

// Steady is for sweeps outside this package that go by the clock: while it answers false, a
// clock that jumped is waited out.
func (e *Engine) Steady(ctx context.Context, jobs Store) (bool, error) {
	going, _, err := e.steady(ctx, jobs, e.now())
	return going, err
}

func readClock(ctx context.Context, jobs Store) (rec rotation.ClockRecord, err error) {
	err = jobs.View(ctx, func(tx Tx) error {
		rec, err = tx.ClockRecord()
		return err
	})
	return rec, err
}

func clockEvent(j rotation.ClockJump, now time.Time) audit.Event {
	return audit.Event{At: now, Actor: jobRotation, Action: audit.ClockJumped, Subject: "clock",
		Body: audit.Body(map[string]any{"from": j.From, "to": j.To})}
}

// Clock is what the sweeps know of the clock: while its Jump is open, nothing rolls.
func (e *Engine) Clock(ctx context.Context) (rotation.ClockRecord, error) {
	return readClock(ctx, e.store)
}

// replan looks, a page at each call, for what rests on times that a clock said which was
// ahead, and makes it due. more says that there is more.
func (e *Engine) replan(ctx context.Context, jobs Store, now time.Time) (more bool, err error) {
	err = jobs.Update(ctx, func(tx Tx) error {
		was, err := tx.ClockRecord()
		if err != nil || !was.Replan {
			return err
		}
		if was.Cursor == "" {
			if err := first(tx.TwoSlotsDue(Individual, now), tx.TwoSlotsDue(Group, now), tx.KeyEntriesDue(now)); err != nil {
				return err
			}
		}
		list, err := tx.Pairs(was.Cursor, rollPage)
		if err != nil {
			return err
		}
		rules, err := readRules(tx)
		if err != nil {
			return err
		}
		for _, p := range list {
			if err := p.replan(tx, rules.of(p), now); err != nil {
				return err
			}
		}
		next := was
		if next.Replan = len(list) == rollPage; next.Replan {
			next.Cursor = list[len(list)-1].ID.String()
		} else {
			next.Cursor = ""
		}
		more = next.Replan
		return tx.PutClockRecord(next, was)
	})
	if moved(err) || fault.RuleOf(err) == "clock-moved" {
		return true, nil // a device or another process was first
	}
	return more, err
}

// replan makes due what is to be looked at again: nothing is moved here.
func (p RollingPair) replan(tx Tx, rule policies.RotationPolicy, now time.Time) error {
	if p.Roll.ToldAt.After(now) || p.Roll.Since.After(now) {
		if err := tx.DeleteRoll(p.ID); err != nil {
			return err
		}
	}
	hastened := p.Pair.Hasten(now.Add(rule.Overlap))
	if hastened != p.Pair {
		p.Pair, p.DueAt, p.Updated, p.Version = hastened, now, now, p.Version+1
		return tx.PutPair(p)
	}
	planned := laterHour(p.Pair.Due(rule), now)
	switch {
	case !p.DueAt.IsZero() && !p.DueAt.After(now), planned.IsZero():
		return nil
	case p.DueAt.IsZero(), p.DueAt.After(planned), p.Updated.After(now):
		return tx.MakeDue(p.ID, now)
	}
	return nil
}

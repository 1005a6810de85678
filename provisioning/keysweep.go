package provisioning

import (
	"context"
	"errors"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

// keysPage is how many entries with symmetric keys are looked at in one step. A look at a
// group reads its registrations, so it is done in a View that holds nobody up.
const keysPage = 20

// keyLook is what was found out about an entry outside the transaction that moves it.
type keyLook struct {
	entry   Enrollment
	plan    *policies.RotationPlan
	step    keyStep
	devices int64  // that would be refused
	made    []byte // the key that a renewal puts in
}

// SweepKeys looks at the entries with symmetric keys that are due, one page of them, and
// makes the move each needs: see nextKeyStep. A move rests on the version that was read, so
// of several processes one makes it. more says that others are due.
func (e *Engine) SweepKeys(ctx context.Context, jobs Store) (more bool, err error) {
	now := e.now()
	if going, _, err := e.steady(ctx, jobs, now); err != nil || !going {
		return false, err
	}
	var due []Enrollment
	var plans []policies.RotationPlan
	err = jobs.View(ctx, func(tx Tx) (err error) {
		if due, err = tx.DueKeyEntries(now, keysPage); err == nil && len(due) > 0 {
			plans, err = PlansOnRecord(tx)
		}
		return err
	})
	if err != nil {
		return false, err
	}
	var failed []error
	for _, en := range due {
		var plan *policies.RotationPlan
		if p, found := policies.Nearest(plans, policies.RollKeys, en.ID.String(), ""); found {
			plan = &p
		}
		look, err := e.lookAtKeys(ctx, jobs, en, plan, now)
		if err == nil {
			err = e.stepKeys(ctx, jobs, look, now)
		} else {
			// What cannot be read now does not stand in the way of the others.
			failed = append(failed, err)
			err = e.keepKeys(ctx, jobs, keyLook{entry: en, step: keyStep{due: now.Add(lookAgain)}}, now)
		}
		if err != nil && fault.RuleOf(err) != "entry-moved" { // else somebody was first
			failed = append(failed, err)
		}
	}
	return len(due) == keysPage && len(failed) == 0, errors.Join(failed...)
}

// lookAtKeys counts who uses the standby key and decides.
func (e *Engine) lookAtKeys(ctx context.Context, jobs Store, en Enrollment, p *policies.RotationPlan, now time.Time) (keyLook, error) {
	users, err := e.keyUsers(ctx, jobs, en)
	look := keyLook{entry: en, plan: p, step: nextKeyStep(en, p, users, now)}
	look.devices = users.hang[look.step.slot]
	if err == nil && look.step.act == keyRenew {
		var made [2][]byte
		made, err = newKeys()
		look.made = made[0]
	}
	return look, err
}

// maxStragglers is as far as devices are counted for the ledger.
const maxStragglers = 100_000

func (e *Engine) keyUsers(ctx context.Context, jobs Store, en Enrollment) (users keyUsers, err error) {
	_, standby := en.keys()
	hash, err := e.keyHash(en.Owner, standby)
	if err != nil || hash.IsZero() {
		return users, err
	}
	err = jobs.View(ctx, func(tx Tx) error {
		if users.seen[standby.Slot], err = tx.KeyDevices(en.Owner, hash, false, 1); err != nil {
			return err
		}
		users.hang[standby.Slot], err = tx.KeyDevices(en.Owner, hash, true, maxStragglers)
		return err
	})
	return users, err
}

func (e *Engine) stepKeys(ctx context.Context, jobs Store, look keyLook, now time.Time) error {
	if look.step.act == keyKeep {
		return e.keepKeys(ctx, jobs, look, now)
	}
	return jobs.UpdateTrust(ctx, func(tx Tx) error {
		en, err := tx.Enrollment(look.entry.Owner)
		if err != nil || en.Version != look.entry.Version || !en.DueAt.Equal(look.entry.DueAt) {
			return skipGone(err)
		}
		if look.step.reason == keyTooOld {
			allowed, err := countMove(tx, look.plan.Name, now)
			if err != nil || !allowed {
				return first(err, tx.NextLook(en.Owner, en.DueAt, now.Truncate(time.Hour).Add(time.Hour)))
			}
		}
		m := e.moveKeys(en, jobRotation, now)
		if look.step.act == keyPromote {
			err = m.promote(look.step.slot, look.step.reason, keyOverlap(look.plan))
		} else if err = m.renew(look.step.slot, look.made, look.step.reason, look.devices); err == nil && look.step.tell {
			c, _ := m.entry.slot(RoleKey, look.step.slot)
			err = m.tell(audit.RollTold, c, keyTooOld, nil)
		}
		return first(err, m.commit(tx))
	})
}

// keepKeys writes when to look again, and says what holds the roll up.
func (e *Engine) keepKeys(ctx context.Context, jobs Store, look keyLook, now time.Time) error {
	en := look.entry
	return jobs.Update(ctx, func(tx Tx) error {
		if err := tx.NextLook(en.Owner, en.DueAt, look.step.due); err != nil || look.step.stuck == "" {
			return err
		}
		_, standby := en.keys()
		m := e.moveKeys(en, jobRotation, now)
		if err := m.tell(audit.RollStuck, standby, look.step.stuck, map[string]any{"devices": look.devices}); err != nil {
			return err
		}
		return tx.Append(m.events[0])
	})
}

// skipGone passes over an entry that was deleted meanwhile.
func skipGone(err error) error {
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

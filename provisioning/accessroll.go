package provisioning

import (
	"context"
	"errors"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
)

// accessStep is what the keys of a shared access policy need next.
type accessStep struct {
	renew  bool
	slot   rotation.Slot
	reason rotation.Reason
}

// nextAccessStep decides for one policy. The key used last is the one in use; the other one
// is made anew when that has become as old as the plan lets it, and again when clients have
// gone over: either only while it was not used for the overlap.
func nextAccessStep(p AccessPolicy, plan policies.RotationPlan, now time.Time) accessStep {
	current := rotation.Primary
	if p.Keys[rotation.Secondary].Used.After(p.Keys[rotation.Primary].Used) {
		current = rotation.Secondary
	}
	in, other := p.Keys[current], p.Keys[current.Other()]
	overlap := keyOverlap(&plan)
	step := accessStep{slot: current.Other()}
	idle := !now.Before(other.Used.Add(overlap))
	rolls := in.Since.Add(plan.Every - time.Duration(plan.Jitter*placeOf(string(p.Plane)+"/"+p.Name)*float64(plan.Every)))
	switch {
	case plan.Every == 0 || plan.Paused || !idle:
	case other.Since.Before(in.Since) && !in.Used.IsZero() && !now.Before(in.Since.Add(overlap)):
		step.renew, step.reason = true, keyLeft
	case !now.Before(rolls) && other.Since.Before(rolls):
		step.reason = keyTooOld
		step.renew, _ = plan.Windows.Open(now)
	}
	return step
}

// SweepAccessKeys writes when keys were used, and rolls those of the policies that a plan is
// for, which names them as "plane/name". There are few policies: all are looked at.
func (e *Engine) SweepAccessKeys(ctx context.Context, jobs Store) (more bool, err error) {
	now := e.now()
	if going, _, err := e.steady(ctx, jobs, now); err != nil || !going {
		return false, err
	}
	if err := e.SaveKeyUses(ctx, jobs); err != nil {
		return false, err
	}
	var list []AccessPolicy
	var plans []policies.RotationPlan
	err = jobs.View(ctx, func(tx Tx) (err error) {
		if plans, err = PlansOnRecord(tx); err == nil && len(plans) > 0 {
			list, err = tx.AccessPolicies()
		}
		return err
	})
	if err != nil {
		return false, err
	}
	var failed []error
	for _, p := range list {
		plan, found := policies.Nearest(plans, policies.RollAccess, string(p.Plane)+"/"+p.Name, "")
		if !found {
			continue
		}
		if step := nextAccessStep(p, plan, now); step.renew {
			failed = append(failed, e.stepAccess(ctx, jobs, p, plan, now))
		}
	}
	return false, errors.Join(failed...)
}

// stepAccess makes the move that the policy needs as it stands in the transaction: of several
// processes one makes it.
func (e *Engine) stepAccess(ctx context.Context, jobs Store, read AccessPolicy, plan policies.RotationPlan, now time.Time) error {
	return jobs.UpdateTrust(ctx, func(tx Tx) error {
		p, err := tx.AccessPolicy(read.Plane, read.Name)
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		step := nextAccessStep(p, plan, now)
		if !step.renew {
			return nil
		}
		if step.reason == keyTooOld {
			if allowed, err := countMove(tx, plan.Name, now); err != nil || !allowed {
				return err
			}
		}
		if p, err = e.renewAccessKey(tx, p, step.slot, jobRotation, step.reason, now); err != nil || step.reason != keyTooOld {
			return err
		}
		told := accessEvent(jobRotation, audit.RollTold, p, now)
		told.Body = audit.Body(map[string]any{"role": "access", "slot": step.slot.String(), "reason": string(step.reason)})
		return tx.Append(told)
	})
}

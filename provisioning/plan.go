package provisioning

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// Plan is a rotation plan on record. Moved counts what was moved under it in Hour, the
// hours since 1970.
type Plan struct {
	policies.RotationPlan
	Hour, Moved      int64
	Created, Updated time.Time
	Version          int64
}

// Left is how much the plan may still move in the hour of now; negative: it has no bound.
func (p Plan) Left(now time.Time) int64 {
	switch {
	case p.MaxPerHour == 0:
		return -1
	case p.Hour != policies.HourOf(now): // also one that a clock which was wrong has counted for
		return int64(p.MaxPerHour)
	}
	return max(0, int64(p.MaxPerHour)-p.Moved)
}

// PlanTx is what is read and written of rotation plans.
type PlanTx interface {
	Plan(name string) (Plan, error)
	// Plans lists all, by name.
	Plans() ([]Plan, error)
	InsertPlan(Plan) error
	// UpdatePlan writes the settings; what was counted stays.
	UpdatePlan(p Plan, was int64) error
	DeletePlan(name string, version int64) error
	// CountMoves adds n, less than 0 to give some back, to what was moved under a plan in an
	// hour, in the transaction of the moves; what another hour counted is forgotten. A plan that
	// was deleted meanwhile is no error. Until the commit no other
	// transaction counts for the plan, so that whoever counts 0 first and then reads Moved
	// holds to the rate.
	CountMoves(name string, hour, n int64) error
}

// PutPlan creates or replaces a rotation plan, and says what may surprise about it. What is
// under way goes on under the new settings.
func (e *Engine) PutPlan(ctx context.Context, actor string, p policies.RotationPlan, pre Precondition) (stored Plan, warnings []string, err error) {
	now := e.now()
	if err := p.Validate(now); err != nil {
		return Plan{RotationPlan: p}, nil, err
	}
	if p.Entries, err = planEntries(p); err != nil {
		return Plan{RotationPlan: p}, nil, err
	}
	err = e.store.Update(ctx, func(tx Tx) error {
		was, err := tx.Plan(p.Name)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		if err := pre.check(was.Version); err != nil {
			return err
		}
		if warnings, err = planWarnings(tx, p, now); err != nil {
			return err
		}
		stored, err = writePlan(tx, actor, was, p, now)
		return err
	})
	return stored, warnings, err
}

func writePlan(tx Tx, actor string, was Plan, p policies.RotationPlan, now time.Time) (Plan, error) {
	stored := Plan{RotationPlan: p, Hour: was.Hour, Moved: was.Moved, Created: now, Updated: now, Version: firstVersion(now)}
	write := func() error { return tx.InsertPlan(stored) }
	if was.Version != 0 {
		stored.Created, stored.Version = was.Created, was.Version+1
		write = func() error { return tx.UpdatePlan(stored, was.Version) }
	}
	err := wakeRole(tx, p.Role, now)
	if was.Version != 0 && was.Role != p.Role {
		err = first(err, wakeRole(tx, was.Role, now))
	}
	return stored, first(err, write(), tx.Append(audit.Event{At: now, Actor: actor, Action: audit.PlanWritten, Subject: "plan:" + p.Name,
		Body: audit.Body(map[string]any{"role": string(p.Role), "paused": p.Paused, "maxPerHour": p.MaxPerHour, "windows": len(p.Windows), "entries": len(p.Entries), "profiles": len(p.Profiles), "auto": p.Auto})}))
}

// wakeRole has looked at what a change of plans bears on at once: keys, which have no end of
// their own, so that when they roll is said by the plan alone; and slots that are rolling.
func wakeRole(tx Tx, role policies.RollRole, now time.Time) error {
	switch role {
	case policies.RollKeys:
		return tx.KeyEntriesDue(now)
	case policies.RollGroups:
		return tx.TwoSlotsDue(Group, now)
	case policies.RollEnrollments:
		return tx.TwoSlotsDue(Individual, now)
	}
	return nil
}

// PausePlan pauses a plan, or lets it go on. One that is so already stays as it is.
func (e *Engine) PausePlan(ctx context.Context, actor, name string, paused bool, pre Precondition) (stored Plan, err error) {
	now := e.now()
	err = e.store.Update(ctx, func(tx Tx) error {
		was, err := tx.Plan(name)
		if err != nil {
			return err
		}
		if pre != (Precondition{}) {
			if err := pre.check(was.Version); err != nil {
				return err
			}
		}
		if stored = was; was.Paused == paused {
			return nil
		}
		p := was.RotationPlan
		p.Paused = paused
		stored, err = writePlan(tx, actor, was, p, now)
		return err
	})
	return stored, err
}

// DeletePlan removes a plan. What was under way goes on without one.
func (e *Engine) DeletePlan(ctx context.Context, actor, name string, pre Precondition) error {
	now := e.now()
	return e.store.Update(ctx, func(tx Tx) error {
		was, err := tx.Plan(name)
		if err != nil {
			return err
		}
		if err := pre.check(was.Version); err != nil {
			return err
		}
		return first(tx.DeletePlan(name, was.Version), wakeRole(tx, was.Role, now),
			tx.Append(audit.Event{At: now, Actor: actor, Action: audit.PlanDeleted, Subject: "plan:" + name, Body: audit.Body(map[string]any{"role": string(was.Role)})}))
	})
}

// Plan reads one rotation plan.
func (e *Engine) Plan(ctx context.Context, name string) (p Plan, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		p, err = tx.Plan(name)
		return err
	})
	return p, err
}

// Plans lists the rotation plans by name.
func (e *Engine) Plans(ctx context.Context) (list []Plan, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		list, err = tx.Plans()
		return err
	})
	return list, err
}

// planEntries are the names of a plan's entries as they are compared.
func planEntries(p policies.RotationPlan) (canonical []string, err error) {
	for i, name := range p.Entries {
		at := fmt.Sprintf("/entries/%d", i)
		if p.Role == policies.RollAccess {
			plane, rest, ok := strings.Cut(strings.ToLower(name), "/")
			if !ok || rest == "" || plane != string(ServicePlane) && plane != string(HubPlane) {
				return nil, fault.New(fault.Malformed, "plan-invalid", "an access policy is named with its plane: service/NAME or hub/NAME").At(at)
			}
			canonical = append(canonical, plane+"/"+rest)
			continue
		}
		id, err := verify.ParseRegistrationID(name)
		if err != nil {
			return nil, fault.New(fault.Malformed, "plan-invalid", "this is no id of an enrollment or group").At(at)
		}
		canonical = append(canonical, id.String())
	}
	return canonical, nil
}

// PlansOnRecord are the settings of all plans, by name.
func PlansOnRecord(tx Tx) (list []policies.RotationPlan, err error) {
	rows, err := tx.Plans()
	for _, p := range rows {
		list = append(list, p.RotationPlan)
	}
	return list, err
}

// countMove counts a move of a plan in the hour of now, and says whether its rate allows it:
// in the transaction that moves, so that the rate holds for all processes. Without a plan ("")
// there is none.
func countMove(tx Tx, plan string, now time.Time) (bool, error) {
	if plan == "" {
		return true, nil
	}
	hour := policies.HourOf(now)
	if err := tx.CountMoves(plan, hour, 0); err != nil {
		return false, err
	}
	p, err := tx.Plan(plan)
	if err != nil || p.Left(now) == 0 {
		return false, skipGone(err)
	}
	return true, tx.CountMoves(plan, hour, 1)
}

package provisioning

import (
	"context"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// reasonAsked is why something is rolled that an operator wants rolled.
const reasonAsked = "operator"

// RollNow tells a device to come for the successor of its certificate now, whatever its plan
// says of windows and rates, and has the planner look at it at once. Devices on the built-in
// hub find it in their twin's desired property "muster"; all else follows the ledger.
//
// Errors: NotFound; Conflict, rule "nothing-to-roll" without a certificate of ours,
// "not-admitted" when the device's entry is gone or disabled and would refuse it.
func (e *Engine) RollNow(ctx context.Context, actor string, id verify.RegistrationID) (d Due, err error) {
	now := e.now()
	err = e.writeTwin(ctx, twinTries, func(tx Tx) error {
		reg, err := tx.Registration(id)
		if err != nil {
			return err
		}
		use := reg.Pair.Current()
		if use.State == rotation.Empty {
			return fault.New(fault.Conflict, "nothing-to-roll", "the device has no certificate of ours that could have a successor")
		}
		if err := admits(tx, reg.Owner); err != nil {
			return err
		}
		d = Due{Role: ExpiryDevices, Name: reg.ID.String(), At: now, Move: rotation.Remind.String(), Reason: reasonAsked, Ends: use.NotAfter}
		return first(remind(tx, actor, reg, use, reasonAsked, now), tx.MakeDue(id, now))
	})
	return d, err
}

// admits is a Conflict, rule "not-admitted", for an entry that lets nobody in.
func admits(tx Tx, o Owner) error {
	refused := fault.New(fault.Conflict, "not-admitted", "the device's entry is disabled or deleted: it would get no successor")
	if o.IsZero() {
		return refused
	}
	entry, err := tx.Enrollment(o)
	if fault.Is(err, fault.NotFound) || err == nil && !entry.Enabled {
		return refused.About(o.String())
	}
	return err
}

// RollEntryNow has the planner look at an entry's slots at once.
func (e *Engine) RollEntryNow(ctx context.Context, actor string, o Owner) (d Due, err error) {
	now := e.now()
	err = e.store.Update(ctx, func(tx Tx) error {
		entry, err := tx.Enrollment(o)
		if err != nil {
			return err
		}
		d = Due{Role: ExpiryEnrollments, Name: o.ID.String(), At: now, Move: moveReview, Reason: reasonAsked}
		switch slots, err := readSlots(tx, entry); {
		case err != nil:
			return err
		case entry.Role() == RoleKey:
			d.Role = ExpiryKeys
		case o.Kind == Group:
			d.Role = ExpiryGroups
			fallthrough
		default:
			d.Ends = slots.pair.Current().NotAfter
		}
		return first(tx.MakeEntryDue(o, now), tx.Append(audit.Event{At: now, Actor: actor, Action: audit.RollAsked,
			Subject: subject(o), Body: audit.Body(map[string]any{})}))
	})
	return d, err
}

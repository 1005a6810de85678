package provisioning

import (
	"context"
	"maps"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// Device is what Muster holds of one device: its registration, its twin on the built-in
// hub, and where the roll of its certificate stands.
type Device struct {
	Registration
	Twin    *Twin         // nil: none was ever written
	Roll    *Roll         // what the planner did about the certificate in use; nil: nothing
	Renewal RenewalWindow // of the certificate in use
}

// Device reads one registration with its twin.
func (e *Engine) Device(ctx context.Context, id verify.RegistrationID) (d Device, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		if d.Registration, err = tx.Registration(id); err != nil {
			return err
		}
		if d.Renewal, err = windowOf(tx, d.Registration); err != nil {
			return err
		}
		twin, err := tx.Twin(id)
		if err == nil {
			d.Twin = &twin
		} else if !fault.Is(err, fault.NotFound) {
			return err
		}
		roll, err := tx.Roll(id)
		if err == nil && roll.isAbout(d.Pair) {
			d.Roll = &roll
		} else if fault.Is(err, fault.NotFound) {
			err = nil
		}
		return err
	})
	return d, err
}

// Registrations lists registrations by id.
func (e *Engine) Registrations(ctx context.Context, f RegistrationFilter) (list []Registration, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		list, err = tx.Registrations(f)
		return err
	})
	return list, err
}

// Orphaned counts the registrations without an owner, by hub.
func (e *Engine) Orphaned(ctx context.Context) (hubs []HubCount, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		hubs, err = tx.CountRegistrations(RegistrationFilter{Orphaned: true})
		return err
	})
	return hubs, err
}

// Held counts the registrations that are held.
func (e *Engine) Held(ctx context.Context) (n int64, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		n, err = tx.CountHeld()
		return err
	})
	return n, err
}

// DeleteRegistration removes a registration's record. A hub that lives elsewhere is told to
// remove the device; on the built-in one it stays (contract §4.4), and a later registration under
// its name takes it over. The certificates issued to it stay on record, but attest nobody any more.
func (e *Engine) DeleteRegistration(ctx context.Context, actor string, id verify.RegistrationID, pre Precondition) error {
	return e.deleteRegistration(ctx, actor, id, pre, false)
}

// Deregister is DeleteRegistration that removes the device from the built-in hub, too.
func (e *Engine) Deregister(ctx context.Context, actor string, id verify.RegistrationID, pre Precondition) error {
	return e.deleteRegistration(ctx, actor, id, pre, true)
}

func (e *Engine) deleteRegistration(ctx context.Context, actor string, id verify.RegistrationID, pre Precondition, fromHub bool) error {
	w := e.hubWriting(actor, 0)
	return e.store.UpdateTrust(ctx, func(tx Tx) error {
		was, err := tx.Registration(id)
		if err != nil {
			return err
		}
		if err := pre.check(was.Version); err != nil {
			return err
		}
		if err := stays(was); err != nil {
			return err
		}
		return w.deleteRecord(tx, was, fromHub, nil)
	})
}

// stays refuses to delete the record of a registration that is held, or in quarantine.
func stays(reg Registration) error {
	switch {
	case !reg.QuarantinedAt.IsZero():
		return fault.New(fault.Conflict, RuleQuarantined, "the registration is in quarantine, and without its record the device would go where its entry puts it: end that first").About("registration " + reg.ID.String())
	case reg.HeldAt.IsZero():
		return nil
	}
	return fault.New(fault.Conflict, RuleRegistrationHeld, "the registration is held, and without its record the device would come in again: release it first").About("registration " + reg.ID.String())
}

// deleteRecord removes a registration's record and its device from hubs, as leave has it.
func (w hubWriting) deleteRecord(tx Tx, was Registration, fromHub bool, facts map[string]any) error {
	return first(w.leave(tx, was, fromHub), w.forget(tx, was, facts))
}

// forget removes a registration's record, and says so with facts beside its own.
func (w hubWriting) forget(tx Tx, was Registration, facts map[string]any) error {
	body := map[string]any{"hub": was.Hub, "deviceId": was.DeviceID, "owner": was.Owner.String()}
	maps.Copy(body, facts)
	return first(dropRetained(tx, was, w.at), w.endWithRecord(tx, was), tx.DeleteTwin(was.ID), tx.DeleteRoll(was.ID), tx.DeleteRegistration(was.ID, was.Version),
		tx.Append(audit.Event{At: w.at, Actor: w.actor, Action: audit.RegistrationDeleted, Subject: "registration:" + was.ID.String(), Body: audit.Body(body)}))
}

package provisioning

import (
	"context"

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

// DeleteRegistration removes a registration's record. The device stays on its hub
// (contract §4.4), and a later registration under its name takes it over. The certificates
// issued to it stay on record, but attest nobody any more.
func (e *Engine) DeleteRegistration(ctx context.Context, actor string, id verify.RegistrationID, pre Precondition) error {
	w := e.hubWriting(actor, 0)
	return e.store.UpdateTrust(ctx, func(tx Tx) error {
		was, err := tx.Registration(id)
		if err != nil {
			return err
		}
		if err := pre.check(was.Version); err != nil {
			return err
		}
		if !was.HeldAt.IsZero() {
			return fault.New(fault.Conflict, "registration-held", "the registration is held, and without its record the device would come in again: release it first").About("registration " + id.String())
		}
		return first(dropRetained(tx, was, w.at), w.leave(tx, was), tx.DeleteTwin(id), tx.DeleteRoll(id), tx.DeleteRegistration(id, was.Version),
			tx.Append(audit.Event{At: w.at, Actor: actor, Action: audit.RegistrationDeleted, Subject: "registration:" + id.String(),
				Body: audit.Body(map[string]any{"hub": was.Hub, "deviceId": was.DeviceID, "owner": was.Owner.String()})}))
	})
}

package provisioning

import (
	"context"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/verify"
)

// A hold shuts out one device: by whatever it shows every door refuses it, and its hub is told to
// disable it. It revokes nothing, changes no entry, and ends by a release alone.

// Hold holds a registration. Holding twice is holding once.
//
// Errors: NotFound "registration-not-found".
func (e *Engine) Hold(ctx context.Context, actor string, id verify.RegistrationID) (Registration, error) {
	return e.setHeld(ctx, actor, id, e.now(), true)
}

// Release ends a hold. The device comes in again by what admits it then, and its hub is told.
//
// Errors: NotFound "registration-not-found".
func (e *Engine) Release(ctx context.Context, actor string, id verify.RegistrationID) (Registration, error) {
	return e.setHeld(ctx, actor, id, e.now(), false)
}

func (e *Engine) setHeld(ctx context.Context, actor string, id verify.RegistrationID, now time.Time, held bool) (reg Registration, err error) {
	for range moves {
		err = e.store.Update(ctx, func(tx Tx) error {
			if reg, err = tx.Registration(id); err != nil || reg.HeldAt.IsZero() != held {
				return err
			}
			action := audit.RegistrationFreed
			if reg.HeldAt = (time.Time{}); held {
				reg.HeldAt, action = now, audit.RegistrationHeld
			}
			return putHeld(tx, &reg, audit.Event{At: now, Actor: actor, Action: action, Body: audit.Body(map[string]any{"hub": reg.Hub})})
		})
		if !moved(err) {
			break
		}
	}
	return reg, err
}

// putHeld writes a registration that is held or released, and has its hub told.
func putHeld(tx Tx, reg *Registration, event audit.Event) error {
	reg.Updated, reg.Version = event.At, reg.Version+1
	event.Subject = "registration:" + reg.ID.String()
	_, err := tx.StepHubIdentities(reg.ID, event.At)
	return first(err, tx.PutRegistration(*reg), tx.Append(event))
}

// judgeHold refuses a device that is held.
func (d *decision) judgeHold() error {
	reg := d.facts.Registration
	if reg == nil || reg.HeldAt.IsZero() {
		return nil
	}
	return d.trace.refuse(RuleRegistrationHeld, "registration "+reg.ID.String(), "the registration is held since "+reg.HeldAt.Format(time.RFC3339)+", until an operator releases it")
}

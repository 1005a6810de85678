package provisioning

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// telling is one step of one hub: its devices, what it shall know of them, and how it took it.
type telling struct {
	*Engine
	jobs   Store
	driver HubDriver
	to     HubAccess
	now    time.Time // before it was read what the hub shall know

	failed   atomic.Pointer[fault.Error] // the hub cannot be worked with
	answered atomic.Bool
}

// tellingOf is one device in it. held is the rule word of why the hub is not told, "" when it is.
type tellingOf struct {
	HubIdentityRecord
	want HubIdentity
	held string
}

// read finds what the hub shall know of each device, as things stand.
func (t *telling) read(ctx context.Context, list []tellingOf) error {
	return t.jobs.View(ctx, func(tx Tx) error {
		reading := t.readingHub(tx, t.to.Hub, true)
		reading.at = t.now
		for i := range list {
			if err := list[i].read(reading); err != nil {
				return err
			}
		}
		return nil
	})
}

func (d *tellingOf) read(r *hubReading) error {
	d.held = ""
	d.want = HubIdentity{Hub: d.Hub, DeviceID: d.Spelled, RegistrationID: d.Registration, Generation: d.Generation}
	reg, err := r.tx.Registration(d.Registration)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	shut, err := r.bars.shuts(reg)
	if err != nil {
		return err
	}
	// Who is shut out is so wherever it is: nothing else is waited for.
	if reg.place() != d.HubPlace {
		if reg.State == Assigning && !shut { // present on the new hub first, then absent on this
			d.held = "hub-move-unconfirmed"
		}
		return nil
	}
	if !shut {
		if d.held, err = r.held(reg); err != nil {
			return err
		}
	}
	d.want.Present, d.want.Enabled = true, !shut
	if !reg.Owner.IsZero() {
		entry, err := r.entry(reg.Owner)
		if err != nil {
			return err
		}
		d.want.IoTEdge = entry.IoTEdge
	}
	if d.want.Auth, err = r.registeredAuth(reg); err != nil {
		r.log.Error("telling a hub of a device", "hub", d.Hub, "registrationId", reg.ID.String(), "problem", err)
		d.held = "secret-unreadable" // its own affair, and not the other devices'
	}
	return nil
}

// held is the rule word of why a registration that waits for its hub is not to be assigned any
// more (INV-D5), "" when it is. One that is assigned is left alone: what its hub knows of it
// changes, and does not come to be (scenarios J1).
func (r *hubReading) held(reg Registration) (string, error) {
	if reg.State != Assigning {
		return "", nil
	}
	if reg.Owner.IsZero() {
		return "registration-orphaned", nil
	}
	entry, err := r.entry(reg.Owner)
	if err == nil && !entry.Enabled {
		return "enrollment-disabled", nil
	}
	return "", err
}

// tell tells the hub, some devices at once, until the hub fails or the step has lasted.
func (t *telling) tell(ctx context.Context, list []tellingOf) error {
	began := t.Engine.now()
	var first error
	var mu sync.Mutex
	var calling sync.WaitGroup
	turn := make(chan struct{}, hubCalls)
	for i := range list {
		turn <- struct{}{}
		calling.Go(func() {
			defer func() { <-turn }()
			late := t.Engine.now().Sub(began) > hubStep
			if err := t.one(ctx, list[i], late); err != nil {
				mu.Lock()
				defer mu.Unlock()
				first = err
			}
		})
	}
	calling.Wait()
	return first
}

// one tells the hub of one device, and writes how that went. From here on a crash is
// recoverable: the device stays ahead, and is told again when its lease is over.
func (t *telling) one(ctx context.Context, d tellingOf, late bool) error {
	over := context.WithoutCancel(ctx)
	if d.held != "" {
		return t.put(over, d, d.held, 0, "held")
	}
	if late || t.failed.Load() != nil || ctx.Err() != nil {
		return t.release(over, d)
	}
	limited, cancel := context.WithTimeout(ctx, hubLimit)
	defer cancel()
	err := t.driver.Apply(limited, t.to, d.want)
	switch {
	case err == nil:
		t.answered.Store(true)
		held, err := t.confirm(over, d)
		if err != nil || held == "" {
			t.observeHub(t.to.Hub, "applied")
			return err
		}
		return t.put(over, d, held, 0, "held")
	case ctx.Err() != nil:
		return t.release(over, d)
	case fault.RuleOf(err) == RuleHubRefused:
		t.answered.Store(true)
		f := fault.As(err)
		return t.put(over, d, f.Detail, f.RetryAfter, "refused")
	}
	f := fault.As(err)
	if f == nil {
		f = fault.New(fault.Unavailable, "hub-unreachable", "the hub could not be told").Because(err)
	}
	t.failed.CompareAndSwap(nil, f)
	return t.put(over, d, f.Detail, f.RetryAfter, "failed")
}

// put writes that a device is to be told again, later each time.
func (t *telling) put(ctx context.Context, d tellingOf, problem string, wait time.Duration, outcome string) error {
	t.observeHub(t.to.Hub, outcome)
	rec := d.HubIdentityRecord
	rec.Tries, rec.Problem = rec.Tries+1, problem
	rec.NextTry = t.Engine.now().Add(max(wait, spread(backoff(rec.Tries), rec.Device)))
	return t.jobs.Update(ctx, func(tx Tx) error { return tx.LeaveHubIdentity(d.HubIdentityRecord, rec) })
}

// release leaves a device to the next step.
func (t *telling) release(ctx context.Context, d tellingOf) error {
	rec := d.HubIdentityRecord
	rec.NextTry = time.Time{}
	return t.jobs.Update(ctx, func(tx Tx) error { return tx.LeaveHubIdentity(d.HubIdentityRecord, rec) })
}

// errHeld undoes the confirmation of an identity whose registration is not to be assigned.
var errHeld = errors.New("held")

// confirm writes that the hub is in step about a device, and what follows: its registration
// is assigned if it waited for that, an old home is emptied, an overlap that is over ends.
// held is the rule word of why the registration is not assigned after all.
func (t *telling) confirm(ctx context.Context, d tellingOf) (held string, err error) {
	now := t.Engine.now()
	for range moves {
		err = t.jobs.Update(ctx, func(tx Tx) error {
			held, err = t.confirmed(tx, d, now)
			if held != "" && err == nil {
				return errHeld
			}
			return err
		})
		if !moved(err) {
			break
		}
	}
	if errors.Is(err, errHeld) {
		err = nil
	}
	return held, err
}

func (t *telling) confirmed(tx Tx, d tellingOf, now time.Time) (held string, err error) {
	// Written before anything is read: on PostgreSQL it holds the row against who registers.
	if err := tx.ConfirmHubIdentity(d.HubPlace, d.Generation, t.now); err != nil {
		return "", err
	}
	rec, err := tx.HubIdentity(d.HubPlace)
	switch {
	case fault.Is(err, fault.NotFound): // the registration's record was deleted meanwhile
		return "", nil
	case err != nil:
		return "", err
	case rec.Generation != d.Generation: // there is more to tell already
		return "", nil
	case !d.want.Present:
		return "", tx.DeleteHubIdentity(d.HubPlace)
	}
	reg, err := tx.Registration(d.Registration)
	if err != nil {
		return "", err
	}
	if reg.State != Assigning {
		return "", endOverlap(tx, reg, now)
	}
	reading := t.readingHub(tx, d.Hub, false)
	if shut, err := reading.bars.shuts(reg); err != nil || shut {
		reg.State, reg.Updated, reg.Version = Unassigned, now, reg.Version+1 // its hub shuts it out
		return "", first(err, tx.HastenHubIdentities(reg.ID), tx.PutRegistration(reg))
	}
	held, err = reading.held(reg)
	if held != "" || err != nil {
		return held, err
	}
	reg.State, reg.Updated, reg.Version = Assigned, now, reg.Version+1
	event := audit.Event{At: now, Actor: jobHubs, Action: audit.Registered, Subject: "registration:" + reg.ID.String(), Body: audit.Body(map[string]any{
		"operation": reg.Operation.ID, "state": string(reg.State), "hub": reg.Hub, "deviceId": reg.DeviceID,
	})}
	return "", first(tx.HastenHubIdentities(reg.ID), tx.PutRegistration(reg), endOverlap(tx, reg, now), tx.Append(event))
}

// endOverlap has the planner look at a registration one of whose certificates waits for its
// hub to be retired.
func endOverlap(tx Tx, reg Registration, now time.Time) error {
	for _, slot := range []rotation.Slot{rotation.Primary, rotation.Secondary} {
		if c := reg.Pair.Cell(slot); c.State == rotation.Retiring && !now.Before(c.RetireAt) {
			return tx.MakeDue(reg.ID, now)
		}
	}
	return nil
}

func ignoreHubMoved(err error) error {
	if fault.RuleOf(err) == "hub-moved" {
		return nil
	}
	return err
}

// spread puts a pause off by up to a half, the same for a device each time.
func spread(pause time.Duration, device verify.RegistrationID) time.Duration {
	return pause + time.Duration(float64(pause)/2*placeOf(device.String()))
}

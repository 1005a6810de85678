package provisioning

import (
	"context"
	"errors"
	"slices"
	"sync"
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
	rate   hubRate
	slice  hubSlice // when its calls go out
	most   int      // devices that it takes
	course hubCourse
}

// tellingOf is one device in it. held is the rule word of why the hub is not told, "" when it is.
type tellingOf struct {
	HubIdentityRecord
	want HubIdentity
	held string
}

// take leaves a page of the hub's devices to this step, with the time for its calls; none when
// the hub rests. Of several processes one tries a hub that failed.
func (t *telling) take(ctx context.Context, hub string) (list []tellingOf, link HubLink, err error) {
	err = t.jobs.Update(ctx, func(tx Tx) error {
		list = nil
		if link, err = tx.HubLink(hub); err != nil || link.rests(t.now) {
			return err
		}
		if t.to, err = t.hubAccess(link); err != nil {
			return err
		}
		t.course.trial = link.Tries > 0
		t.slice = t.rate.slice(link.Paced, t.now)
		if t.most = t.slice.devices(t.rate.batch); t.course.trial {
			t.most = min(t.most, 1)
		}
		if t.most == 0 {
			return nil
		}
		recs, err := tx.TakeHubIdentities(hub, t.now, t.now.Add(hubLease), t.most)
		if err != nil || len(recs) == 0 {
			return err
		}
		for _, rec := range recs {
			list = append(list, tellingOf{HubIdentityRecord: rec})
		}
		return t.claim(tx, &link, t.rate.callsFor(int64(len(recs))))
	})
	return list, link, err
}

// claim writes what the step takes of its hub beside devices.
func (t *telling) claim(tx Tx, link *HubLink, calls int64) error {
	was := *link
	if t.slice.every > 0 {
		link.Paced = t.slice.after(calls)
		if err := tx.PaceHubLink(was, *link); err != nil {
			return err
		}
	}
	if !t.course.trial {
		return nil
	}
	link.Trial = t.now.Add(hubLease)
	return tx.MoveHubLink(was, *link)
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
		// Present on the new hub first, then absent on this; who is in quarantine leaves at once.
		if reg.State == Assigning && !shut && reg.QuarantinedAt.IsZero() {
			d.held = "hub-move-unconfirmed"
		}
		return nil
	}
	held, err := r.held(reg)
	if err != nil {
		return err
	}
	d.want.Present, d.want.Enabled = true, !shut
	switch {
	case shut || held == "":
	case reg.State == Assigning:
		d.held = held
	default: // it was shut out before it was assigned, and registers again first
		d.want.Enabled = false
	}
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

// held is the rule word of why a registration that waits for its hub, or was shut out before it was
// assigned, is not to come in any more (INV-D5), "" when it is. One that is assigned is left
// alone: what its hub knows of it changes, and does not come to be (scenarios J1).
func (r *hubReading) held(reg Registration) (string, error) {
	if reg.State != Assigning && reg.State != Unassigned {
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

// tell tells the hub, some devices at once and no faster than its rate, until the hub fails
// or the step has lasted.
func (t *telling) tell(ctx context.Context, list []tellingOf) error {
	began, wall := t.Engine.now(), time.Now()
	var first error
	var mu sync.Mutex
	var calling sync.WaitGroup
	turn := make(chan struct{}, hubCalls)
	at := wall.Add(t.slice.from.Sub(t.now))
	over := at.Add(time.Duration(t.rate.callsFor(int64(len(list))))*t.slice.every + hubAhead)
	for batch := range slices.Chunk(list, t.rate.batch) {
		turn <- struct{}{}
		t.await(ctx, at)
		// What is late is not made up for, and what is too late for its slice is left to the next.
		now := time.Now()
		late := t.Engine.now().Sub(began) > hubStep || t.slice.every > 0 && now.After(over)
		at = later(at, now).Add(t.slice.every)
		calling.Go(func() {
			defer func() { <-turn }()
			if err := t.batch(ctx, batch, late); err != nil {
				mu.Lock()
				defer mu.Unlock()
				first = err
			}
		})
	}
	calling.Wait()
	return first
}

// await waits until a call may go out; a hub that is to be left alone gets none.
func (t *telling) await(ctx context.Context, at time.Time) {
	pause := time.Until(at)
	if pause <= 0 || t.course.isOver() {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}

// batch tells the hub of some devices in one call, and writes how that went. From here on a
// crash is recoverable: a device stays ahead, and is told again when its lease is over.
func (t *telling) batch(ctx context.Context, list []tellingOf, late bool) error {
	over := context.WithoutCancel(ctx)
	var errs []error
	var told []tellingOf
	var want []HubIdentity
	for _, d := range list {
		if d.held != "" {
			errs = append(errs, t.put(over, d, d.held, 0, "held"))
			continue
		}
		told, want = append(told, d), append(want, d.want)
	}
	if late || t.course.isOver() || ctx.Err() != nil {
		for _, d := range told {
			errs = append(errs, t.release(over, d))
		}
		return errors.Join(errs...)
	}
	if len(told) > 0 {
		limit := hubLimit
		if len(want) > 1 {
			limit = hubLongLimit
		}
		limited, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		answers := t.driver.Apply(limited, t.to, want)
		if ctx.Err() == nil {
			t.course.note(judged(answers))
		}
		for i, answer := range answers {
			errs = append(errs, t.took(ctx, told[i], answer))
		}
	}
	return errors.Join(errs...)
}

// judged says what the answers of a call say of the hub: that it answered, and that it failed.
func judged(answers []error) (answered bool, failure *fault.Error) {
	for _, answer := range answers {
		if answer == nil || fault.RuleOf(answer) == RuleHubRefused {
			answered = true
		} else if failure == nil {
			failure = hubFault(answer)
		}
	}
	return answered, failure
}

// hubFault is why a hub could not be told.
func hubFault(answer error) *fault.Error {
	if f := fault.As(answer); f != nil {
		return f
	}
	return fault.New(fault.Unavailable, "hub-unreachable", "the hub could not be told").Because(answer)
}

// took writes what a hub answered about a device.
func (t *telling) took(ctx context.Context, d tellingOf, answer error) error {
	over := context.WithoutCancel(ctx)
	switch {
	case answer == nil:
		held, err := t.confirm(over, d)
		if err != nil || held == "" {
			t.observeHub(t.to.Hub, "applied")
			return err
		}
		return t.put(over, d, held, 0, "held")
	case ctx.Err() != nil:
		return t.release(over, d)
	case fault.RuleOf(answer) == RuleHubRefused:
		f := fault.As(answer)
		return t.put(over, d, f.Detail, f.RetryAfter, "refused")
	}
	f := hubFault(answer)
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
	if err := tx.ConfirmHubIdentity(d.HubPlace, d.Generation, t.now, now); err != nil {
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
		return "", d.removed(tx, now)
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
	reg.DeviceID = rec.Spelled
	event := audit.Event{At: now, Actor: jobHubs, Action: audit.Registered, Subject: "registration:" + reg.ID.String(), Body: audit.Body(map[string]any{
		"operation": reg.Operation.ID, "state": string(reg.State), "hub": reg.Hub, "deviceId": reg.DeviceID,
	})}
	return "", first(tx.HastenHubIdentities(reg.ID), tx.PutRegistration(reg), endOverlap(tx, reg, now), tx.Append(event))
}

// removed ends what is kept of a device that its hub has removed. That is put on record of one
// whose registration is on no hub now, and of one that was nobody's; of one that moved the new
// hub's confirmation is.
func (d tellingOf) removed(tx Tx, now time.Time) error {
	if err := tx.DeleteHubIdentity(d.HubPlace); err != nil {
		return err
	}
	reg, err := tx.Registration(d.Registration)
	if fault.Is(err, fault.NotFound) {
		err = nil
	}
	if err != nil || reg.Hub != "" {
		return err
	}
	facts := map[string]any{"generation": d.Generation}
	if !d.Registration.IsZero() {
		facts["registration"] = d.Registration.String()
	}
	return tx.Append(audit.Event{At: now, Actor: jobHubs, Action: audit.HubDeviceDeleted, Subject: hubSubject(d.Hub, d.Device), Body: audit.Body(facts)})
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

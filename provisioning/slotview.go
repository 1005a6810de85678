package provisioning

import (
	"context"
	"time"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// SlotView is a slot of an entry as its roll stands.
type SlotView struct {
	Credential
	Thumbprint          verify.Thumbprint // of its certificate, or its anchor's; zero for a key
	Subject             string
	NotBefore, NotAfter time.Time // zero for a key, which has no end
	// Devices hang on the slot: they would attest by it and nothing else of the entry. Locked of
	// them have no certificate of ours that is good: without the slot they would be refused. A
	// key's are not counted.
	Devices, Locked int64
	// Problem is why the roll does not go on by itself, "" when it does: rotation.NotCutOver,
	// RenewalLate, Expired, "stragglers", "never-used", "successor-not-good", "plan-paused",
	// "window-closed".
	Problem rotation.Reason
}

// Slots shows the slots of an entry, the primary first. It counts devices, which for a large
// group takes a moment.
func (e *Engine) Slots(ctx context.Context, o Owner) (list []SlotView, err error) {
	now := e.now()
	err = e.store.View(ctx, func(tx Tx) error {
		en, err := tx.Enrollment(o)
		if err != nil {
			return err
		}
		plans, err := PlansOnRecord(tx)
		if err != nil {
			return err
		}
		list, err = slotViews(tx, en, plans, now)
		return err
	})
	return list, err
}

func slotViews(tx Tx, en Enrollment, plans []policies.RotationPlan, now time.Time) ([]SlotView, error) {
	r, err := rollOf(tx, en, plans)
	if err != nil {
		return nil, err
	}
	problems := r.problems(now)
	list := make([]SlotView, 0, len(en.Credentials))
	for _, c := range en.Credentials {
		v := SlotView{Credential: c, Problem: problems[c.Slot]}
		if link := r.holds[c.Slot].link; link.Cert != nil {
			v.Thumbprint, v.Subject = link.Thumbprint, link.Cert.Subject.String()
			v.NotBefore, v.NotAfter = link.Cert.NotBefore.UTC(), link.Cert.NotAfter.UTC()
			if v.Devices, v.Locked, err = tx.HangCount(r.hang(c.Slot), now); err != nil {
				return nil, err
			}
		}
		list = append(list, v)
	}
	return list, nil
}

// problems are why the slots do not roll on, by slot.
func (r *entryRoll) problems(now time.Time) (out [2]rotation.Reason) {
	if !r.entry.Enabled {
		return out
	}
	held := rotation.Reason("")
	if slot, there := r.in(rotation.Retiring); there && !now.Before(r.pair.Cell(slot).RetireAt) {
		held = r.held(slot, now)
		out[slot] = held
	}
	if slot, late := r.late(held, now); late != "" {
		out[slot] = late
	}
	return out
}

// Straggler is a device that hangs on a slot.
type Straggler struct {
	Registration
	Renews bool // it has a certificate of ours that is good: without the slot it still renews
}

// Stragglers lists the devices that hang on a slot of an entry by id, after one, at most
// limit. No slot: the one that is retiring.
//
// Errors: Conflict "nothing-retiring", "slot-empty".
func (e *Engine) Stragglers(ctx context.Context, o Owner, slot *rotation.Slot, after verify.RegistrationID, limit int) (list []Straggler, err error) {
	now := e.now()
	err = e.store.View(ctx, func(tx Tx) error {
		en, err := tx.Enrollment(o)
		if err != nil {
			return err
		}
		s, err := readSlots(tx, en)
		if err != nil {
			return err
		}
		which, err := Retiring{Slot: slot}.slot(s)
		if err != nil {
			return err
		}
		devices, err := tx.Hanging(s.hang(which), after, limit)
		list = make([]Straggler, 0, len(devices))
		for _, d := range devices {
			list = append(list, Straggler{Registration: d, Renews: d.renewsItself(now)})
		}
		return err
	})
	return list, err
}

// renewsItself says whether a certificate of ours stands in the device's pair and is in date.
func (r Registration) renewsItself(now time.Time) bool {
	for _, c := range r.Pair.Live(now) {
		if now.Before(c.NotAfter) {
			return true
		}
	}
	return false
}

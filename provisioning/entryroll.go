package provisioning

import (
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
)

// Why a credential whose overlap is over stays in its slot, beside rotation.NotCutOver.
const (
	heldByStragglers rotation.Reason = "stragglers"          // devices still hang on it
	heldUnused       rotation.Reason = "never-used"          // of a group: no device ever hung on it, so none has moved
	heldAsLast       rotation.Reason = "successor-not-good"  // the other slot could admit nobody
	heldByPlan       rotation.Reason = "plan-paused"         // the entry's plan is paused
	heldByWindow     rotation.Reason = "window-closed"       // its plan's window is closed
	deadlineOver     rotation.Reason = "deadline-over"       // retired although devices hang on it
	inUse            rotation.Reason = "seen-in-use"         // a device was admitted by it
	leftAlone        rotation.Reason = "other-slot-is-empty" // the active one was taken out
)

// How often a slot that is held is looked at again where nothing wakes the entry: a part of
// the overlap for groups, whose devices move one by one; daily for one device, whose own
// registration wakes its entry.
const (
	recheckGroups  = time.Hour
	recheckShortly = time.Second
	recheckDevice  = 24 * time.Hour
	recheckShare   = 24
)

// entryRoll is what there is to know of an entry whose slots are due: a decision about it
// rests on nothing else.
type entryRoll struct {
	entrySlots
	plan policies.RotationPlan
	used [2]bool // a device hangs on the slot
}

// entryTurn is what is done about it.
type entryTurn struct {
	was, next Enrollment
	plan      policies.RotationPlan
	moved     bool // where credentials stand
	left      bool // what stands in the slots: a change of trust
	events    []audit.Event
}

// decide says what the entry needs at now. A disabled entry is left alone: what it holds is
// refused everywhere, and has to go on being so.
func (r entryRoll) decide(now time.Time) entryTurn {
	t := entryTurn{was: r.entry, next: r.entry, plan: r.plan}
	if !r.entry.Enabled {
		t.next.DueAt = time.Time{}
		return t
	}
	// A longer wait was given by a clock that was ahead, or by a plan that says otherwise now.
	if hastened := r.pair.Hasten(now.Add(r.plan.Rotation().Overlap)); hastened != r.pair {
		r.pair, t.moved = hastened, true
	}
	r.settle(&t, now)
	r.see(&t, now)
	held := r.retire(&t, now)
	r.dropExpired(&t, now)
	r.tell(&t, held, now)
	t.next = r.with(r.pair)
	t.next.DueAt = r.due(held, now)
	return t
}

// settle makes what was left alone in an entry the active one.
func (r *entryRoll) settle(t *entryTurn, now time.Time) {
	if _, there := r.in(rotation.Active); there {
		return
	}
	for _, state := range []rotation.State{rotation.Staged, rotation.Retiring} {
		slot, there := r.in(state)
		if !there {
			continue
		}
		t.events = append(t.events, r.event(jobRotation, audit.RollPromoted, slot, leftAlone, nil, now))
		t.moved = true
		c := r.pair.Cell(slot)
		c.State, c.RetireAt = rotation.Active, time.Time{}
		r.pair = placed(r.pair, slot, c)
		return
	}
}

// see notes first uses. That of a staged credential is the cut-over.
func (r *entryRoll) see(t *entryTurn, now time.Time) {
	for _, slot := range []rotation.Slot{rotation.Primary, rotation.Secondary} {
		c := r.pair.Cell(slot)
		if !r.used[slot] || !c.SeenAt.IsZero() {
			continue
		}
		t.moved = true
		if c.State != rotation.Staged {
			c.SeenAt = now
			r.pair = placed(r.pair, slot, c)
			continue
		}
		r.pair = r.pair.Seen(c.Ref, now, r.plan.Rotation().Overlap)
		facts := map[string]any{}
		if former := r.pair.Cell(slot.Other()); former.State == rotation.Retiring {
			facts["retireAt"] = former.RetireAt
		}
		t.events = append(t.events, r.event(jobRotation, audit.RollSeen, slot, inUse, facts, now))
	}
}

// retire takes what has retired out of its slot, or says what holds it there.
func (r *entryRoll) retire(t *entryTurn, now time.Time) rotation.Reason {
	slot, there := r.in(rotation.Retiring)
	if !there || now.Before(r.pair.Cell(slot).RetireAt) {
		return ""
	}
	if held := r.held(slot, now); held != "" {
		if !t.was.DueAt.After(r.pair.Cell(slot).RetireAt) { // it is told once
			t.events = append(t.events, r.event(jobRotation, audit.RollStuck, slot, held, nil, now))
		}
		return held
	}
	reason := rotation.OverlapOver
	if r.used[slot] {
		reason = deadlineOver
	}
	t.events = append(t.events, r.event(jobRotation, audit.RollRetired, slot, reason, nil, now))
	t.moved, t.left = true, true
	r.pair = r.pair.Drop(r.pair.Cell(slot).Ref)
	return ""
}

// held says what keeps the credential of a slot there although its overlap is over; "" when
// nothing does (scenarios H10).
func (r *entryRoll) held(slot rotation.Slot, now time.Time) rotation.Reason {
	other := r.pair.Cell(slot.Other())
	over := r.plan.Deadline > 0 && !other.SeenAt.IsZero() && !now.Before(other.SeenAt.Add(r.plan.Deadline))
	open, _ := r.plan.Windows.Open(now)
	switch {
	case !r.good(slot.Other(), now):
		return heldAsLast
	case other.SeenAt.IsZero():
		return rotation.NotCutOver
	case r.used[slot] && !over:
		return heldByStragglers
	case r.entry.Kind == Group && r.pair.Cell(slot).SeenAt.IsZero() && !over:
		return heldUnused
	case r.plan.Paused:
		return heldByPlan
	case !open:
		return heldByWindow
	}
	return ""
}

// dropExpired empties the slot of what ended without ever having been used, where the other
// one still admits.
func (r *entryRoll) dropExpired(t *entryTurn, now time.Time) {
	slot, there := r.in(rotation.Staged)
	if !there || now.Before(r.pair.Cell(slot).NotAfter) || !r.good(slot.Other(), now) {
		return
	}
	t.events = append(t.events, r.event(jobRotation, audit.RollDropped, slot, rotation.StagedExpired, nil, now))
	t.moved, t.left = true, true
	r.pair = r.pair.Drop(r.pair.Cell(slot).Ref)
}

// tell says that a successor is late, or that nothing in the slots is in date any more. It is
// said once: when it was not so before the look that has come due now, or of what came into
// its slot since. What an entry needs is brought by its operator: nothing more can be done
// about it here.
func (r *entryRoll) tell(t *entryTurn, held rotation.Reason, now time.Time) {
	slot, reason := r.late(held, now)
	if reason == "" {
		return
	}
	before, was := r.late(held, t.was.DueAt.Add(-time.Microsecond))
	c, _ := r.entry.slot(r.entry.Role(), slot)
	if before == slot && was == reason && t.was.DueAt.After(c.Since) {
		return
	}
	t.events = append(t.events, r.event(jobRotation, audit.RollTold, slot, reason, map[string]any{"notAfter": r.pair.Cell(slot).NotAfter}, now))
}

// late says which slot needs a successor, and why; nothing when none does.
func (r *entryRoll) late(held rotation.Reason, now time.Time) (rotation.Slot, rotation.Reason) {
	pair := r.pair
	if old, there := r.in(rotation.Retiring); there && (held != "" || !now.Before(pair.Cell(old).RetireAt)) {
		pair = pair.Drop(pair.Cell(old).Ref) // why it stays is said elsewhere
	}
	rule := r.plan.Rotation()
	d := pair.Next(rule, now)
	if d.Move == rotation.Drop { // it ended, and stays because the other one has too
		d = pair.Drop(d.Ref).Next(rule, now)
	}
	slot, there := pair.Find(d.Ref)
	if d.Move != rotation.Remind || !there {
		return 0, ""
	}
	return slot, d.Reason
}

// due is when the entry is looked at again; zero: when it changes or a device wakes it.
func (r *entryRoll) due(held rotation.Reason, now time.Time) (due time.Time) {
	sooner := func(t time.Time) {
		if t.After(now) && (due.IsZero() || t.Before(due)) {
			due = t
		}
	}
	rule := r.plan.Rotation()
	sooner(r.pair.DueAfter(rule, now))
	for _, slot := range []rotation.Slot{rotation.Primary, rotation.Secondary} {
		c := r.pair.Cell(slot)
		switch c.State {
		case rotation.Active:
			sooner(rule.RemindAfter(c.NotBefore, c.NotAfter))
			sooner(c.NotAfter)
		case rotation.Staged:
			sooner(c.NotAfter)
			if r.entry.Kind == Group {
				sooner(now.Add(r.recheck()))
			}
		case rotation.Retiring:
			sooner(c.RetireAt)
			if seen := r.pair.Cell(slot.Other()).SeenAt; r.plan.Deadline > 0 && !seen.IsZero() {
				sooner(seen.Add(r.plan.Deadline))
			}
		}
	}
	if held != "" {
		sooner(now.Add(r.recheck()))
	}
	if held == heldByWindow {
		_, opens := r.plan.Windows.Open(now)
		sooner(opens)
	}
	return due
}

func (r *entryRoll) recheck() time.Duration {
	if r.entry.Kind != Group {
		return recheckDevice
	}
	return min(max(r.plan.Rotation().Overlap/recheckShare, recheckShortly), recheckGroups)
}

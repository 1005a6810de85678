package rotation

import "time"

// ClockRule says when a clock is disbelieved, and for how long.
type ClockRule struct {
	Bound   time.Duration // a step of more than this, ahead or back, is a jump
	Absence time.Duration // a process that starts takes a gap up to this for time in which nothing ran
	Steady  time.Duration // for how long a clock that jumped must go evenly before it is believed
}

// DefaultClockRule takes an hour for a jump, and believes again after ten minutes.
func DefaultClockRule() ClockRule {
	return ClockRule{Bound: time.Hour, Absence: 31 * 24 * time.Hour, Steady: 10 * time.Minute}
}

// ClockJump is what the clock should have said, and what it said.
type ClockJump struct{ From, To time.Time }

// IsZero says that there is none.
func (j ClockJump) IsZero() bool { return j.To.IsZero() }

func (j ClockJump) same(o ClockJump) bool { return j.From.Equal(o.From) && j.To.Equal(o.To) }

func (j ClockJump) back() bool { return j.To.Before(j.From) }

// ClockRecord is what the processes that sweep one store tell each other of the clock.
type ClockRecord struct {
	Last time.Time // when a sweep last looked by a clock that was believed, some minutes coarse
	Jump ClockJump // the alarm while it is open: nothing is moved
	Back bool      // since the alarm was opened the clock went back
	// Replan says that rows may rest on times that have not come: those after Cursor are to
	// be planned anew.
	Replan bool
	Cursor string
}

// ClockWatch is what one process knows of its clock. The zero ClockWatch is one that has
// just begun.
type ClockWatch struct {
	wall  time.Time     // the clock at the last look
	even  time.Duration // and a clock that never jumps
	alarm ClockJump     // the alarm it waits out
	since time.Duration // by the clock that never jumps
}

// Look compares the clock with one that never jumps (even: time since the process began),
// and with what other processes and earlier ones saw. It answers the watch and the record as
// they are to be kept, whether what is due may be done, and whether an alarm is to be raised
// that nobody has raised yet (INV-S4).
func (w ClockWatch) Look(rec ClockRecord, now time.Time, even time.Duration, rule ClockRule) (next ClockWatch, out ClockRecord, going, raised bool) {
	if from := w.jumped(rec, now, even, rule); !from.IsZero() {
		jump := ClockJump{From: from, To: now}
		known := !rec.Jump.IsZero() && rec.Jump.back() == jump.back() && apart(rec.Jump.To, now) <= rule.Bound
		if !known {
			rec.Jump, raised = jump, true
		}
		rec.Back = rec.Back || jump.back()
		w.alarm, w.since = rec.Jump, even
	}
	w.wall, w.even = now, even
	if rec.Jump.IsZero() {
		w.alarm = ClockJump{}
		if now.Sub(rec.Last) >= rule.Bound/12 {
			rec.Last = now
		}
		return w, rec, true, false
	}
	if !w.alarm.same(rec.Jump) { // raised by another, or before this process began
		w.alarm, w.since = rec.Jump, even
	}
	if even-w.since < rule.Steady {
		return w, rec, false, raised
	}
	if rec.Back {
		rec.Replan, rec.Cursor = true, ""
	}
	rec.Last, rec.Jump, rec.Back = now, ClockJump{}, false
	w.alarm = ClockJump{}
	return w, rec, true, false
}

// jumped is what the clock should say where it says something else, zero where it does not.
func (w ClockWatch) jumped(rec ClockRecord, now time.Time, even time.Duration, rule ClockRule) time.Time {
	begun := !w.wall.IsZero()
	expected := w.wall.Add(even - w.even).Truncate(time.Microsecond) // as times are stored
	switch {
	case begun && apart(now, expected) > rule.Bound:
		return expected
	case rec.Jump.IsZero() && rec.Last.Sub(now) > rule.Bound:
		return rec.Last
	case rec.Jump.IsZero() && !begun && !rec.Last.IsZero() && now.Sub(rec.Last) > rule.Absence:
		return rec.Last
	}
	return time.Time{}
}

func apart(a, b time.Time) time.Duration { return a.Sub(b).Abs() }

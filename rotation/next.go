package rotation

import (
	"time"

	"github.com/passmuster/muster/policies"
)

// Move is what a pair needs next.
type Move uint8

// The moves. Prepare asks for a successor; Remind says that one is late, or was never put to
// use; Retire and Drop empty a slot.
const (
	Keep Move = iota
	Prepare
	Remind
	Retire
	Drop
)

func (m Move) String() string {
	return [...]string{"keep", "prepare", "remind", "retire", "drop"}[m]
}

// Reason is the rule word of why a move is due, or why none is.
type Reason string

// The reasons.
const (
	PairEmpty       Reason = "pair-empty"        // Keep
	NotDue          Reason = "not-due"           // Keep
	AwaitingCutOver Reason = "awaiting-cut-over" // Keep: the successor is there and was not seen in use
	PrepareDue      Reason = "prepare-due"       // Prepare
	RenewalLate     Reason = "renewal-late"      // Remind: there is no successor
	NotCutOver      Reason = "not-cut-over"      // Remind: the successor is not used
	Expired         Reason = "expired"           // Remind: nothing in the pair is in date
	OverlapOver     Reason = "overlap-over"      // Retire
	StagedExpired   Reason = "staged-expired"    // Drop: it ended without having been used
)

// Decision is a move, what it is about and why.
type Decision struct {
	Move   Move
	Ref    Ref
	Reason Reason
}

// Next is what the pair needs at now; of several moves the first, until it is Keep.
func (p Pair) Next(rule policies.RotationPolicy, now time.Time) Decision {
	for _, c := range p.cells {
		if c.State == Retiring && !now.Before(c.RetireAt) {
			return Decision{Retire, c.Ref, OverlapOver}
		}
	}
	current, successor := p.front()
	if successor.State != Empty && !now.Before(dropAfter(successor, rule)) {
		return Decision{Drop, successor.Ref, StagedExpired}
	}
	keep := func(r Reason) Decision { return Decision{Keep, current.Ref, r} }
	remind := func(r Reason) Decision { return Decision{Remind, current.Ref, r} }
	switch {
	case current.State == Empty:
		return keep(PairEmpty)
	case !now.Before(end(current, successor)):
		return remind(Expired)
	case !now.Before(remindAfter(current, successor, rule)) && successor.State != Empty:
		return remind(NotCutOver)
	case successor.State != Empty:
		return keep(AwaitingCutOver)
	case !now.Before(remindAfter(current, successor, rule)):
		return remind(RenewalLate)
	case !now.Before(rule.PrepareAfter(current.NotBefore, current.NotAfter)):
		return Decision{Prepare, current.Ref, PrepareDue}
	}
	return keep(NotDue)
}

// Stuck says that a reminder of the pair is old too: half of what was left when it was due
// has passed, and the successor, if there is one, is late itself.
func (p Pair) Stuck(rule policies.RotationPolicy, now time.Time) bool {
	current, successor := p.front()
	return current.State != Empty && !now.Before(stuckAfter(current, successor, rule))
}

// Due is when Next is to be asked again: the first moment at which it says more than Keep,
// zero when it never will. Where devices ask for their successors themselves, Prepare is
// nobody's work and not waited for.
func (p Pair) Due(rule policies.RotationPolicy) time.Time { return p.DueAfter(rule, time.Time{}) }

// DueAfter is the first moment after now at which Next or Stuck says something else, zero
// when they never will: when a pair is to be looked at again that was looked at now.
func (p Pair) DueAfter(rule policies.RotationPolicy, now time.Time) (due time.Time) {
	at := func(t time.Time) {
		if t.After(now) && (due.IsZero() || t.Before(due)) {
			due = t
		}
	}
	for _, c := range p.cells {
		if c.State == Retiring {
			at(c.RetireAt)
		}
	}
	current, successor := p.front()
	if current.State == Empty {
		return due
	}
	if successor.State != Empty {
		at(dropAfter(successor, rule))
	} else if rule.Retain {
		at(rule.PrepareAfter(current.NotBefore, current.NotAfter))
	}
	at(remindAfter(current, successor, rule))
	at(stuckAfter(current, successor, rule))
	at(end(current, successor))
	return due
}

// maxPatience bounds how long a successor may stay unused before anybody is reminded of it.
const maxPatience = 24 * time.Hour

// patience is how long a successor is given to be put to use: a tenth of its life, a day at
// most.
func patience(successor Cell) time.Duration {
	if successor.State == Empty {
		return 0
	}
	return min(maxPatience, max(0, successor.NotAfter.Sub(successor.NotBefore))/10)
}

// remindAfter is when the current credential's owner is late: in asking for a successor, or
// in putting it to use before the current one ends (a successor that begins after that may
// be the work of a clock that was wrong).
func remindAfter(current, successor Cell, rule policies.RotationPolicy) time.Time {
	late := rule.RemindAfter(current.NotBefore, current.NotAfter)
	if successor.State == Empty {
		return late
	}
	used := successor.NotBefore.Add(patience(successor))
	if used.After(current.NotAfter) {
		used = current.NotAfter
	}
	return later(late, used)
}

// stuckAfter is when it does not help that the owner was reminded. With a successor that is
// when a device that uses it would have come to renew it: one that is seen here for that
// alone is silent until then, and well.
func stuckAfter(current, successor Cell, rule policies.RotationPolicy) time.Time {
	late := rule.RemindAfter(current.NotBefore, current.NotAfter)
	half := late.Add(max(0, current.NotAfter.Sub(late)) / 2)
	if successor.State == Empty {
		return half
	}
	return later(half, rule.RemindAfter(successor.NotBefore, successor.NotAfter))
}

// dropAfter is when a successor that was never used has no claim to its slot any more. Until
// its grace is over it may be what an owner that slept comes back with.
func dropAfter(successor Cell, rule policies.RotationPolicy) time.Time {
	return successor.NotAfter.Add(rule.Grace)
}

// end is when nothing that is in use, or is to be, is in date.
func end(current, successor Cell) time.Time {
	if successor.State == Empty {
		return current.NotAfter
	}
	return later(current.NotAfter, successor.NotAfter)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// front is the credential in use and the one that is to follow it. Without an active one,
// of two staged the one that ends last is in use, as far as anybody knows: then nothing is
// to follow. What is retiring is neither.
func (p Pair) front() (current, successor Cell) {
	a, b := p.cells[Primary], p.cells[Secondary]
	if b.State == Active || a.State != Active && b.State == Staged && (a.State != Staged || b.NotAfter.After(a.NotAfter)) {
		a, b = b, a
	}
	if a.State != Active && a.State != Staged {
		return Cell{}, Cell{}
	}
	if a.State == Active && b.State == Staged {
		return a, b
	}
	return a, Cell{}
}

// Left lists what stood in the pair before and no longer does.
func (p Pair) Left(before Pair) (left []Ref) {
	for _, c := range before.cells {
		if _, held := p.Find(c.Ref); c.State != Empty && !held {
			left = append(left, c.Ref)
		}
	}
	return left
}

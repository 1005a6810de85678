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
	if successor.State != Empty && !now.Before(successor.NotAfter) {
		return Decision{Drop, successor.Ref, StagedExpired}
	}
	keep := func(r Reason) Decision { return Decision{Keep, current.Ref, r} }
	remind := func(r Reason) Decision { return Decision{Remind, current.Ref, r} }
	late := !now.Before(rule.RemindAfter(current.NotBefore, current.NotAfter))
	switch {
	case current.State == Empty:
		return keep(PairEmpty)
	case successor.State != Empty && late:
		return remind(NotCutOver)
	case successor.State != Empty:
		return keep(AwaitingCutOver)
	case !now.Before(current.NotAfter):
		return remind(Expired)
	case late:
		return remind(RenewalLate)
	case !now.Before(rule.PrepareAfter(current.NotBefore, current.NotAfter)):
		return Decision{Prepare, current.Ref, PrepareDue}
	}
	return keep(NotDue)
}

// Due is when Next is to be asked again: the first moment at which it says more than Keep,
// zero when it never will. Where devices ask for their successors themselves, Prepare is
// nobody's work and not waited for.
func (p Pair) Due(rule policies.RotationPolicy) (due time.Time) {
	earlier := func(t time.Time) {
		if due.IsZero() || t.Before(due) {
			due = t
		}
	}
	for _, c := range p.cells {
		if c.State == Retiring {
			earlier(c.RetireAt)
		}
	}
	current, successor := p.front()
	if current.State == Empty {
		return due
	}
	if successor.State == Empty && rule.Retain {
		earlier(rule.PrepareAfter(current.NotBefore, current.NotAfter))
	}
	if successor.State != Empty {
		earlier(successor.NotAfter)
	}
	earlier(rule.RemindAfter(current.NotBefore, current.NotAfter))
	return due
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

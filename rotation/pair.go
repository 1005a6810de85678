// Package rotation knows the two slots of anything that rolls, and their moves.
//
// A [Pair] is a primary and a secondary [Cell]. It changes only by the moves
// below, each of which returns a new Pair or says why not, so that these hold
// whatever the order of events (architecture §7, two-slots): at most one cell is
// Active; the Active cell leaves its slot by Drop alone; what was dropped is never
// standing again. The package knows owners' credentials by reference only. It is
// called by provisioning (device certificates) and ca (issuers), and read back by store.
package rotation

import (
	"fmt"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// Slot names one of the two places of anything that rolls.
type Slot uint8

// The two slots.
const (
	Primary Slot = iota
	Secondary
)

func (s Slot) String() string {
	if s == Secondary {
		return "secondary"
	}
	return "primary"
}

// Other is the opposite slot.
func (s Slot) Other() Slot { return 1 - s }

// State is where a cell stands on its one-way road.
type State uint8

// Empty → Staged → Active → Retiring → Empty.
const (
	Empty State = iota
	Staged
	Active
	Retiring
)

func (s State) String() string {
	return [...]string{"empty", "staged", "active", "retiring"}[s&3]
}

// Ref identifies what rolls: the SHA-256 of a certificate or key.
type Ref [32]byte

// Cell is one slot's content. SeenAt is when the credential was first used to
// attest; RetireAt, of a Retiring cell, is when it stops standing. Times are UTC.
type Cell struct {
	Ref                 Ref
	State               State
	NotBefore, NotAfter time.Time
	SeenAt, RetireAt    time.Time
}

// standing says whether the credential still speaks for its owner at now, as far
// as rotation is concerned. Expiry is the certificate's own affair (verify).
func (c Cell) standing(now time.Time) bool {
	return c.State == Staged || c.State == Active || c.State == Retiring && now.Before(c.RetireAt)
}

// Pair is the two cells. The zero Pair is empty and ready to use.
type Pair struct{ cells [2]Cell }

// RestorePair rebuilds a stored Pair; only store calls it, and provisioning for the slots of
// entries, which are stored as credentials.
func RestorePair(primary, secondary Cell) (Pair, error) {
	if primary.State == Active && secondary.State == Active {
		return Pair{}, fmt.Errorf("pair on record has two active cells: %x and %x", primary.Ref[:4], secondary.Ref[:4])
	}
	return Pair{cells: [2]Cell{primary, secondary}}, nil
}

// Cell returns a slot's content.
func (p Pair) Cell(s Slot) Cell { return p.cells[s] }

// Find returns the slot that holds ref, in any state but Empty.
func (p Pair) Find(ref Ref) (Slot, bool) {
	for s, c := range p.cells {
		if c.State != Empty && c.Ref == ref {
			return Slot(s), true
		}
	}
	return 0, false
}

// Standing says whether ref may speak for the owner at now: it is staged, active,
// or retiring within its overlap.
func (p Pair) Standing(ref Ref, now time.Time) bool {
	s, ok := p.Find(ref)
	return ok && p.cells[s].standing(now)
}

// Live lists the cells standing at now, the active one first.
func (p Pair) Live(now time.Time) []Cell {
	var live []Cell
	for _, c := range p.cells {
		if !c.standing(now) {
			continue
		}
		if c.State == Active {
			live = append([]Cell{c}, live...)
		} else {
			live = append(live, c)
		}
	}
	return live
}

// Stage puts a new credential into the standby slot. A full pair makes room by
// dropping the staged cell that was never seen (the older one), else the retiring
// one; never the Active (architecture §6, Rotation step 4).
func (p Pair) Stage(ref Ref, notBefore, notAfter time.Time) (Pair, error) {
	if _, held := p.Find(ref); held {
		return p, fault.New(fault.Conflict, "already-staged", "this credential already stands in the pair")
	}
	p.cells[p.room()] = Cell{Ref: ref, State: Staged, NotBefore: notBefore, NotAfter: notAfter}
	return p, nil
}

// room picks the slot the next credential goes into. Two staged cells can both be
// unseen (a device that lost its answers twice): the one that ends first goes.
func (p Pair) room() Slot {
	a, b := p.cells[Primary], p.cells[Secondary]
	switch {
	case a.State == Empty:
		return Primary
	case b.State == Empty:
		return Secondary
	case a.State == Staged && b.State == Staged:
		if b.NotAfter.Before(a.NotAfter) {
			return Secondary
		}
		return Primary
	case a.State == Active:
		return Secondary
	case b.State == Active:
		return Primary
	case a.State == Staged: // beside a retiring cell
		return Primary
	default:
		return Secondary
	}
}

// Seen records that ref attested the owner at now. The first time for a staged
// credential promotes it: that is the proof of cut-over. A staged one that ends before it
// was in use unseen, or never: it retires as an active one does.
func (p Pair) Seen(ref Ref, now time.Time, overlap time.Duration) Pair {
	s, ok := p.Find(ref)
	if !ok || p.cells[s].State != Staged {
		return p
	}
	p.cells[s].SeenAt = now
	p.promote(s, now, overlap)
	if older := &p.cells[s.Other()]; older.State == Staged && older.NotAfter.Before(p.cells[s].NotAfter) {
		older.State, older.RetireAt = Retiring, now.Add(overlap)
	}
	return p
}

// Promote makes a staged credential the active one; that which was active retires, and
// stands for overlap longer. Anything but a staged one is fault.Conflict, rule "not-staged".
func (p Pair) Promote(ref Ref, now time.Time, overlap time.Duration) (Pair, error) {
	s, ok := p.Find(ref)
	if !ok || p.cells[s].State != Staged {
		return p, fault.New(fault.Conflict, "not-staged", "only what is staged can be promoted")
	}
	p.promote(s, now, overlap)
	return p, nil
}

func (p *Pair) promote(s Slot, now time.Time, overlap time.Duration) {
	p.cells[s].State = Active
	if other := &p.cells[s.Other()]; other.State == Active {
		other.State, other.RetireAt = Retiring, now.Add(overlap)
	}
}

// Relieve lets the active credential retire without a successor; it stands for overlap
// longer. Anything but the active one is fault.Conflict, rule "not-active".
func (p Pair) Relieve(ref Ref, now time.Time, overlap time.Duration) (Pair, error) {
	s, ok := p.Find(ref)
	if !ok || p.cells[s].State != Active {
		return p, fault.New(fault.Conflict, "not-active", "only the active one can be relieved")
	}
	p.cells[s].State, p.cells[s].RetireAt = Retiring, now.Add(overlap)
	return p, nil
}

// Retire empties the slot of a retiring credential: its overlap is over, or its owner ends
// it early. Anything but a retiring one is fault.Conflict, rule "not-retiring".
func (p Pair) Retire(ref Ref) (Pair, error) {
	s, ok := p.Find(ref)
	if !ok || p.cells[s].State != Retiring {
		return p, fault.New(fault.Conflict, "not-retiring", "only what is retiring can be retired")
	}
	p.cells[s] = Cell{}
	return p, nil
}

// Hasten ends every overlap at until that would end later: it was given by a clock that was
// ahead.
func (p Pair) Hasten(until time.Time) Pair {
	for s := range p.cells {
		if c := &p.cells[s]; c.State == Retiring && c.RetireAt.After(until) {
			c.RetireAt = until
		}
	}
	return p
}

// Drop empties the slot that holds ref, whatever its state: the credential was
// revoked or disallowed. Without such a slot the pair is unchanged.
func (p Pair) Drop(ref Ref) Pair {
	if s, ok := p.Find(ref); ok {
		p.cells[s] = Cell{}
	}
	return p
}

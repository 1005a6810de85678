package provisioning

import (
	"time"

	"github.com/passmuster/muster/rotation"
)

// warnings says what may surprise about an entry: its certificate stands elsewhere, or is
// held by a disabled entry and will be refused (E7, D6), or what is new in it can hardly
// follow what is there.
func (e *Engine) warnings(tx Tx, was, is Enrollment, now time.Time) ([]string, error) {
	s, err := readSlots(tx, is)
	if err != nil {
		return nil, err
	}
	plans, err := PlansOnRecord(tx)
	if err != nil {
		return nil, err
	}
	overlap := entryPlan(plans, is).Rotation().Overlap
	var out []string
	for _, c := range is.Credentials {
		name := "the " + c.Slot.String() + " certificate"
		f, err := e.findings(tx, is, c, s.holds[c.Slot])
		if err != nil {
			return nil, err
		}
		if f.unvouched {
			out = append(out, "no verified trust anchor is, or signed, "+name+": it admits nobody unless devices send the certificates up to one")
		}
		if f.disallowed != nil {
			out = append(out, name+", its key, or a CA above it is disallowed ("+f.disallowed.object()+"): it will be refused")
		}
		for _, h := range f.elsewhere {
			if c.Role.refers() {
				continue // an anchor may stand above many groups
			}
			if h.Enabled {
				out = append(out, name+" stands in "+h.Owner.String()+" too")
			} else {
				out = append(out, name+" is held by "+h.Owner.String()+", which is disabled: it will be refused")
			}
		}
		if !was.holds(c) {
			out = append(out, s.successorWarnings(c.Slot, name, was, overlap, now)...)
		}
	}
	return out, nil
}

// holds says whether a credential stands in a slot of the entry.
func (e Enrollment) holds(c Credential) bool {
	for _, mine := range e.Credentials {
		if mine.same(c) {
			return true
		}
	}
	return false
}

// successorWarnings are about a certificate that is new in a slot.
func (s entrySlots) successorWarnings(slot rotation.Slot, name string, was Enrollment, overlap time.Duration, now time.Time) (out []string) {
	link, cell := s.holds[slot].link, s.pair.Cell(slot)
	if link.Cert == nil {
		return nil
	}
	if !now.Before(cell.NotAfter) {
		out = append(out, name+" has ended already")
	}
	other := slot.Other()
	beside, there := s.entry.slot(s.entry.Role(), other)
	if !there || !was.holds(beside) {
		return out
	}
	if !cell.NotAfter.After(s.pair.Cell(other).NotAfter) {
		out = append(out, name+" ends no later than the one that it is to follow")
	}
	if cell.NotAfter.Sub(cell.NotBefore) <= overlap {
		out = append(out, name+" lives no longer than the overlap: it ends before the other one is taken out")
	}
	if link.KeyHash == s.holds[other].link.KeyHash {
		out = append(out, name+" has the key of the one that it is to follow")
	}
	return out
}

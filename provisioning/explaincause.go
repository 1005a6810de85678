package provisioning

import (
	"slices"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// explainCause puts a disallowance before the disabled entry that refuses first: the door need
// look no further, but the entry is disabled because of it, or enabling it would not help. chain is
// what the device is said to show; nil: what the record knows of it.
func (e *Engine) explainCause(tx Tx, chain verify.Chain, x *Explanation) error {
	if x.Refused == nil || x.Refused.Rule != "enrollment-disabled" {
		return nil
	}
	by, err := e.disallowedBehind(tx, chain, x.ID)
	if err != nil || by == nil {
		return err
	}
	consequence := "it is disabled as well"
	if by.Incident != "" {
		i, err := tx.Incident(by.Incident)
		if err != nil {
			return err
		}
		if n := slices.IndexFunc(i.Entries, func(effect EntryEffect) bool { return effect.Owner.String() == x.Refused.Object }); n >= 0 && i.Entries[n].Act == EntryShut {
			consequence = "it was disabled by that disallowance, because it holds what is disallowed in its " + i.Entries[n].Slot.String() + " slot"
		}
	}
	shut := x.Refused
	t := x.Trace[:len(x.Trace)-1]
	x.Refused = fault.As(t.refuse("disallowed", by.object(), by.sentence()))
	t.note(shut.Rule, shut.Object, consequence)
	x.Trace = t
	return nil
}

// disallowedBehind finds what is disallowed of a device whose entry is disabled: of what it shows,
// or rests on, or its own entry holds.
func (e *Engine) disallowedBehind(tx Tx, chain verify.Chain, id verify.RegistrationID) (*Disallowance, error) {
	d := &decision{query: FactsQuery{ID: id}, whole: true, own: chain == nil}
	for _, l := range chain {
		d.cover(l)
	}
	if err := e.readFacts(tx, d); err != nil {
		return nil, err
	}
	if individual, ok := d.facts.Individual(id); ok && d.own {
		s, err := readSlots(tx, individual)
		if err != nil {
			return nil, err
		}
		for _, h := range s.holds {
			if h.link.Cert != nil {
				d.cover(h.link)
			}
		}
		if err := e.readFacts(tx, d); err != nil {
			return nil, err
		}
	}
	if reg := d.facts.Registration; reg != nil && d.own {
		path, err := outsidePath(tx, *reg)
		if err != nil {
			return nil, err
		}
		d.rests = path
	}
	return e.refusal(d), nil
}

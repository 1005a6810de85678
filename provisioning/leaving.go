package provisioning

import (
	"context"
	"slices"
	"strings"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// Leaving is what the deletion of an entry leaves open: it refuses nobody by itself (scenarios I2,
// I6, I7).
type Leaving struct {
	Hubs       []HubCount // registrations that lose their owner, by the hub on which they stay
	WouldEnter []Owner    // enabled groups by which its devices would come in then
}

// Registrations counts those that lose their owner.
func (l Leaving) Registrations() (n int64) {
	for _, h := range l.Hubs {
		n += h.Devices
	}
	return n
}

// Leaving says what deleting an entry would leave open, and does nothing.
func (e *Engine) Leaving(ctx context.Context, o Owner) (l Leaving, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		entry, err := tx.Enrollment(o)
		if err != nil {
			return err
		}
		if l.Hubs, err = tx.CountRegistrations(RegistrationFilter{Owner: o}); err != nil {
			return err
		}
		l.WouldEnter, err = wouldEnter(tx, entry)
		return err
	})
	return l, err
}

// wouldEnter finds the groups that hold what an entry holds, or a CA above it; of an individual
// enrollment also what its device came with last.
func wouldEnter(tx Tx, entry Enrollment) (list []Owner, err error) {
	s, err := readSlots(tx, entry)
	if err != nil {
		return nil, err
	}
	var links []verify.Link
	for _, h := range s.holds {
		if h.link.Cert != nil {
			links = append(links, h.link)
		}
	}
	if entry.Kind == Individual {
		reg, err := tx.Registration(entry.ID)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return nil, err
		}
		came, err := outsidePath(tx, reg) // of the zero Registration nothing
		if err != nil {
			return nil, err
		}
		links = append(links, came...)
	}
	for _, link := range links {
		groups, open, err := holding(tx, link, entry.Owner)
		if err != nil {
			return nil, err
		}
		if !open {
			return nil, nil
		}
		over, err := above(tx, link, entry.Owner)
		if err != nil {
			return nil, err
		}
		list = append(list, append(groups, over...)...)
	}
	slices.SortFunc(list, func(a, b Owner) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(list), nil
}

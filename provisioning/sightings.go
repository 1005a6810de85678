package provisioning

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// sightings remembers what looks like a device that is two until it is written: a refusal
// writes nothing, and a registration no more than it does anyway. What a process forgets when
// it is killed is a few seconds' sightings. It decides nothing.
type sightings struct {
	saving sync.Mutex

	mu   sync.Mutex
	seen map[sightingKey]*sighting
	left map[leftChain]time.Time // chains that registrations were attested by no more, lately
}

const maxSightings = 4096 // of each

type sightingKey struct {
	id     verify.RegistrationID
	kind   TripwireKind
	period time.Time
	chains [2]ChainID
}

type sighting struct {
	Tripwire
	chains [2]ChainID // of two chains
}

type leftChain struct {
	id    verify.RegistrationID
	chain ChainID
}

func (s *sightings) add(x sighting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := sightingKey{x.Registration, x.Kind, x.Period, x.chains}
	if known := s.seen[key]; known != nil {
		x.ID, x.First, x.Count = known.ID, known.First, known.Count+x.Count
		*known = x
		return
	}
	if s.seen == nil {
		s.seen = make(map[sightingKey]*sighting)
	}
	if len(s.seen) < maxSightings {
		s.seen[key] = &x
	}
}

// take empties it, in an order that two processes share.
func (s *sightings) take() []*sighting {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.Collect(maps.Values(s.seen))
	s.seen = nil
	slices.SortFunc(list, func(a, b *sighting) int {
		return cmp.Or(strings.Compare(a.Registration.String(), b.Registration.String()), a.First.Compare(b.First))
	})
	return list
}

// alternates notes that a registration was attested by one chain after another, and says whether
// one of them was left and came back within the window: by this process or, as the record
// says what attested it last, by others.
func (s *sightings) alternates(id verify.RegistrationID, was, is ChainID, window time.Duration, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	back := func(c ChainID) bool {
		at, left := s.left[leftChain{id, c}]
		return left && now.Sub(at) <= window
	}
	alternates := back(was) || back(is)
	if len(s.left) >= maxSightings {
		maps.DeleteFunc(s.left, func(_ leftChain, at time.Time) bool { return now.Sub(at) > window })
	}
	if s.left == nil || len(s.left) >= maxSightings {
		s.left = make(map[leftChain]time.Time)
	}
	s.left[leftChain{id, was}] = now
	return alternates
}

// refused remembers a refusal for explain, and looks whether it trips a wire.
func (e *Engine) refused(a Attempt, d *decision, err error, now time.Time) {
	e.refusals.add(e.log, a, d.trace, err, now)
	if ours := d.old(a, now); ours != nil {
		t := e.tripwire(OldCertificate, a.ID, "certificate "+string(ours.Serial), "the certificate was shown again after its successor had been seen in use", now)
		t.Door, t.Address = a.Door, a.Address
		e.sightings.add(sighting{Tripwire: t})
	}
}

// denied remembers what an admitted device was refused: most often, its certificate request.
func (e *Engine) denied(a Attempt, d *decision, err error, now time.Time) {
	f := fault.As(err)
	if f == nil || f.Kind == fault.Unavailable || f.Kind == fault.Throttled {
		return
	}
	_ = d.trace.refused(f.Object, err)
	e.refusals.add(e.log, a, d.trace, err, now)
}

// Misread remembers for explain what a door could not read: the request decided nothing.
func (e *Engine) Misread(a Attempt, err error) {
	var t Trace
	_ = t.refused("", err)
	e.refusals.add(e.log, a, t, err, e.now())
}

// fallBack is for how long after the first use of its successor a device may still show an old
// certificate: the answer to that use may have been lost.
const fallBack = 10 * time.Minute

// old is the certificate that a device shows though a later one of its own has been seen in use
// and it stands no more; nil: it shows none. One that was revoked for more than
// having been superseded is known to be in other hands.
func (d *decision) old(a Attempt, now time.Time) *ca.Certificate {
	ours, reg := d.facts.Issued, d.facts.Registration
	if ours == nil || reg == nil || ours.RegistrationID != a.ID || !ours.RevokedAt.IsZero() && ours.Reason != ca.Superseded {
		return nil
	}
	ref := rotation.Ref(ours.Thumbprint)
	if reg.Pair.Standing(ref, now) {
		return nil
	}
	for _, slot := range []rotation.Slot{rotation.Primary, rotation.Secondary} {
		c := reg.Pair.Cell(slot)
		if c.State != rotation.Empty && c.Ref != ref && c.SeenAt.After(ours.Issued) && now.Sub(c.SeenAt) >= fallBack {
			return ours
		}
	}
	return nil
}

// changesChain notes what attested a registration that was committed, where it is another
// outside chain, and another key, than the time before.
func (e *Engine) changesChain(d *decision, next Registration) {
	was, now := d.facts.Registration, next.Updated
	if d.own || was == nil || was.Chain == 0 || next.Chain == 0 || was.Chain == next.Chain || was.LeafKey == next.LeafKey {
		return
	}
	if e.sightings.alternates(next.ID, was.Chain, next.Chain, e.tripwires.Window, now) {
		t := e.tripwire(TwoChains, next.ID, "certificate "+next.Leaf.String(), "two chains that have nothing in common attest the device in turn", now)
		t.Door, t.Address = d.door, d.address
		e.sightings.add(sighting{Tripwire: t, chains: [2]ChainID{was.Chain, next.Chain}})
	}
}

// sightingPage is how many sightings one transaction writes: devices wait for it.
const sightingPage = 64

// SaveTripwires puts on record what this process has seen: each calls it every few seconds, and
// before an orderly stop.
func (e *Engine) SaveTripwires(ctx context.Context, jobs Store) error {
	e.sightings.saving.Lock()
	defer e.sightings.saving.Unlock()
	for list := e.sightings.take(); len(list) > 0; {
		n := min(len(list), sightingPage)
		if err := e.saveSightings(ctx, jobs, list[:n]); err != nil {
			for _, x := range list {
				e.sightings.add(*x)
			}
			return err
		}
		list = list[n:]
	}
	return nil
}

func (e *Engine) saveSightings(ctx context.Context, jobs Store, page []*sighting) (err error) {
	now := e.now()
	var tripped []TripwireKind
	for range moves {
		err = jobs.Update(ctx, func(tx Tx) error {
			tripped = nil
			for _, x := range page {
				related, err := x.related(tx)
				if err != nil {
					return err
				}
				if related {
					continue
				}
				first, err := e.trip(tx, x.Tripwire, now)
				if err != nil {
					return err
				}
				if first {
					tripped = append(tripped, x.Kind)
				}
			}
			return nil
		})
		// The device came meanwhile, or another process saw the same.
		if !moved(err) && fault.RuleOf(err) != "tripwire-exists" {
			break
		}
	}
	if err == nil {
		e.observeTrips(tripped)
	}
	return err
}

func (e *Engine) observeTrips(kinds []TripwireKind) {
	for _, k := range kinds {
		e.observeTrip(k)
	}
}

// related says whether two chains have a certificate or a key in common.
func (x *sighting) related(tx Tx) (bool, error) {
	if x.Kind != TwoChains {
		return false, nil
	}
	was, err := recordedChain(tx, x.chains[0])
	if err != nil {
		return false, err
	}
	is, err := recordedChain(tx, x.chains[1])
	return slices.ContainsFunc(was, func(a verify.Link) bool {
		return slices.ContainsFunc(is, func(b verify.Link) bool { return a.Thumbprint == b.Thumbprint || a.KeyHash == b.KeyHash })
	}), err
}

package provisioning

import (
	"context"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// TripwireKind is a way in which a device looks like two.
type TripwireKind string

// The kinds.
const (
	OldCertificate TripwireKind = "old-certificate" // shown after its successor was in use, when it stands no more
	SharedKey      TripwireKind = "shared-key"      // one key under two registration ids
	TwoChains      TripwireKind = "two-chains"      // attested by two unrelated chains in turn
)

// TripwireKinds lists them.
func TripwireKinds() []TripwireKind { return []TripwireKind{OldCertificate, SharedKey, TwoChains} }

// TripwireRule says how tripwires are taken.
type TripwireRule struct {
	// Window is how long what is seen of a registration counts as one, and within how long two
	// chains have to come in turn.
	Window time.Duration
	Hold   []TripwireKind // of these the registration is held
}

// DefaultTripwireRule holds nobody.
func DefaultTripwireRule() TripwireRule { return TripwireRule{Window: 24 * time.Hour} }

// Tripwire is one that was tripped: the first sighting of a period made it, the others are
// counted in it.
type Tripwire struct {
	ID            string // in the order of time
	Registration  verify.RegistrationID
	Kind          TripwireKind
	Period        time.Time // its beginning
	First, Last   time.Time
	Count         int64
	Object        string // "certificate 0a…", "registration dev-2"
	Detail        string // one sentence
	Door, Address string // of the last sighting; "" of what a sweep found
	Held          bool   // the registration was held for it
}

// TripwireFilter narrows a list of tripwires, newest first. Zero values do not narrow.
type TripwireFilter struct {
	Before       string
	Limit        int
	Kind         TripwireKind
	Registration verify.RegistrationID
}

// TripwireTx is what is read and written of tripwires.
type TripwireTx interface {
	// Tripped says whether there is one of the same registration, kind and period. Where there is,
	// InsertTripwire is Conflict, rule "tripwire-exists", and CountTripwire adds to it.
	Tripped(Tripwire) (bool, error)
	InsertTripwire(Tripwire) error
	CountTripwire(Tripwire) error
	Tripwires(TripwireFilter) ([]Tripwire, error)

	// NewKeys lists the keys of what was registered and issued from one position to another that
	// are on record as nobody's, or as another registration's, in the order in which they were seen.
	NewKeys(from, upTo KeyPosition) ([]NewKey, error)
	// PutSeenKey writes whose a key is, over what there was.
	PutSeenKey(key verify.KeyHash, id verify.RegistrationID) error
	KeyPosition() (KeyPosition, error)
	// MoveKeyPosition is Conflict, rule "key-position-moved", unless the position is was.
	MoveKeyPosition(was, is KeyPosition) error
}

const jobTripwires = "job:tripwires"

// Tripwires lists those that were tripped, newest first.
func (e *Engine) Tripwires(ctx context.Context, f TripwireFilter) (list []Tripwire, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		list, err = tx.Tripwires(f)
		return err
	})
	return list, err
}

// trip puts a sighting on record: counted in what its period has already, or as the first of
// it, with its event and, where the rule says so, a hold. tripped says that it was the first.
func (e *Engine) trip(tx Tx, t Tripwire, now time.Time) (tripped bool, err error) {
	again, err := tx.Tripped(t)
	if err != nil {
		return false, err
	}
	if again {
		return false, tx.CountTripwire(t)
	}
	reg, err := tx.Registration(t.Registration)
	if fault.Is(err, fault.NotFound) {
		return false, nil // its record was deleted meanwhile
	}
	if err != nil {
		return false, err
	}
	body := map[string]any{"kind": string(t.Kind), "object": t.Object, "detail": t.Detail, "door": t.Door}
	if t.Held = slices.Contains(e.tripwires.Hold, t.Kind); t.Held {
		body["held"] = true
		if reg.HeldAt.IsZero() {
			reg.HeldAt = now
			err = putHeld(tx, &reg, audit.Event{At: now, Actor: jobTripwires, Action: audit.RegistrationHeld, Body: audit.Body(map[string]any{"hub": reg.Hub, "tripwire": string(t.Kind)})})
		}
	}
	return true, first(err, tx.InsertTripwire(t),
		tx.Append(audit.Event{At: now, Actor: jobTripwires, Action: audit.Tripped, Subject: "registration:" + t.Registration.String(), Body: audit.Body(body)}))
}

// tripwire is a sighting at a moment.
func (e *Engine) tripwire(kind TripwireKind, id verify.RegistrationID, object, detail string, at time.Time) Tripwire {
	return Tripwire{
		ID: timedID(at), Registration: id, Kind: kind, Period: at.Truncate(e.tripwires.Window), First: at, Last: at, Count: 1,
		Object: object, Detail: detail,
	}
}

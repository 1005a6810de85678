package provisioning

import (
	"context"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// KeyPosition is up to where it is known whose the keys are: in the ledger, for what attested
// devices, and among the certificates issued.
type KeyPosition struct{ Seq, Certificate int64 }

// NewKey is a key that a registration came with, or had a certificate issued for. Holder is
// whose it is on record; zero: nobody's.
type NewKey struct {
	Key    verify.KeyHash
	ID     verify.RegistrationID
	Holder verify.RegistrationID

	trip Tripwire // if it is one
}

// keyPage is how much of the ledger and of the certificates one step looks at.
const keyPage = 64

// SweepKeysInUse looks for one key under two registration ids, in what was registered and issued
// since it last did. Whose a key is stands in an index that this sweep keeps: to keep it in the
// registration would have each of them pay.
func (e *Engine) SweepKeysInUse(ctx context.Context, jobs Store) (more bool, err error) {
	var was KeyPosition
	err = jobs.View(ctx, func(tx Tx) error {
		was, err = tx.KeyPosition()
		return err
	})
	if err != nil {
		return false, err
	}
	upTo, err := e.keyHorizon(ctx)
	if err != nil {
		return false, err
	}
	is := KeyPosition{min(was.Seq+keyPage, upTo.Seq), min(was.Certificate+keyPage, upTo.Certificate)}
	if is == was {
		return false, nil
	}
	var keys []NewKey
	err = jobs.View(ctx, func(tx Tx) error {
		keys, err = tx.NewKeys(was, is)
		return err
	})
	if err != nil {
		return false, err
	}
	now := e.now()
	for i := range keys {
		keys[i].trip = e.tripwire(SharedKey, keys[i].ID, "", "a key that the device uses is that of another one, too", now)
	}
	err = e.saveKeys(ctx, jobs, keys, was, is, now)
	if fault.RuleOf(err) == "key-position-moved" {
		return false, nil // another process is at it
	}
	return err == nil && is != upTo, err
}

func (e *Engine) keyHorizon(ctx context.Context) (p KeyPosition, err error) {
	if p.Seq, err = e.ledger.Horizon(ctx); err == nil {
		p.Certificate, err = e.ledger.LastPosition(ctx)
	}
	return p, err
}

func (e *Engine) saveKeys(ctx context.Context, jobs Store, keys []NewKey, was, is KeyPosition, now time.Time) (err error) {
	var tripped []TripwireKind
	for range moves {
		err = jobs.Update(ctx, func(tx Tx) error {
			tripped = nil
			if err := tx.MoveKeyPosition(was, is); err != nil {
				return err
			}
			holders := map[verify.KeyHash]verify.RegistrationID{}
			for _, k := range keys {
				if known, seen := holders[k.Key]; seen {
					k.Holder = known
				}
				first, err := e.saveKey(tx, &k, now)
				if err != nil {
					return err
				}
				if first {
					tripped = append(tripped, SharedKey)
				}
				holders[k.Key] = k.Holder
			}
			return nil
		})
		if !moved(err) && fault.RuleOf(err) != "tripwire-exists" {
			break
		}
	}
	if err == nil {
		e.observeTrips(tripped)
	}
	return err
}

// saveKey makes a key a registration's, or trips where another one still uses it. Who is not on
// record any more, or goes by another key now, does not: a device was named anew, or took
// over what another one was taken apart for.
func (e *Engine) saveKey(tx Tx, k *NewKey, now time.Time) (tripped bool, err error) {
	if k.Holder == k.ID {
		return false, nil
	}
	if !k.Holder.IsZero() {
		used, err := usesKey(tx, k.Holder, k.Key, now)
		if err != nil {
			return false, err
		}
		if used {
			k.trip.Object = "registration " + k.Holder.String()
			return e.trip(tx, k.trip, now)
		}
	}
	k.Holder = k.ID
	return false, tx.PutSeenKey(k.Key, k.ID)
}

func usesKey(tx Tx, id verify.RegistrationID, key verify.KeyHash, now time.Time) (bool, error) {
	reg, err := tx.Registration(id)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	switch r, err := tx.Retirement(id); {
	case err == nil && !r.Returned:
		return false, nil // it is out of service
	case err != nil && !fault.Is(err, fault.NotFound):
		return false, err
	}
	if reg.LeafKey == key && (!reg.Leaf.IsZero() || reg.Mechanism == verify.MechanismTPM) {
		return true, nil
	}
	good, err := tx.GoodCertificates(id, now)
	for _, c := range good {
		if c.KeyHash == key {
			return true, nil
		}
	}
	return false, err
}

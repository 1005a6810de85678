package provisioning

import (
	"context"
	"strconv"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// KeySlot is one of the two symmetric keys of an entry, without the key.
type KeySlot struct {
	Slot     rotation.Slot
	State    rotation.State
	Since    time.Time // when it came into the slot
	SeenAt   time.Time // when it came into use, as far as the sweep has noticed; zero: not noted
	RetireAt time.Time // of a retiring one: when it may be made anew
	Devices  int64     // that came with it last
	Unknown  int64     // devices of the entry of which it is not on record what they came with
}

// KeySlots says how the keys of an entry stand, and how many devices would be refused
// without each. Its cost grows with the group. Conflict, rule "no-symmetric-key".
func (e *Engine) KeySlots(ctx context.Context, o Owner) (list []KeySlot, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		en, err := keyEntry(tx, o)
		if err != nil {
			return err
		}
		list = nil
		for _, c := range en.Credentials {
			s, err := e.keySlot(tx, en.Owner, c)
			if err != nil {
				return err
			}
			list = append(list, s)
		}
		return nil
	})
	return list, err
}

func (e *Engine) keySlot(tx Tx, o Owner, c Credential) (KeySlot, error) {
	s := KeySlot{Slot: c.Slot, State: c.State, Since: c.Since, SeenAt: c.SeenAt, RetireAt: c.RetireAt}
	hash, err := e.keyHash(o, c)
	if err != nil {
		return s, err
	}
	if s.Devices, err = tx.KeyDevices(o, hash, false, maxCount); err != nil {
		return s, err
	}
	s.Unknown, err = tx.KeyDevices(o, verify.KeyHash{}, false, maxCount)
	return s, err
}

// maxCount is as far as devices are counted for an operator.
const maxCount = 10_000_000

func keyEntry(tx Tx, o Owner) (Enrollment, error) {
	en, err := tx.Enrollment(o)
	if err == nil && en.Role() != RoleKey {
		return en, fault.New(fault.Conflict, "no-symmetric-key", "the entry attests with certificates").About(o.String())
	}
	return en, err
}

// RegenerateKey puts a new random key of 64 bytes into a slot, staged; the former one is
// refused from the commit on, and so are the keys derived from it. If that was the key in
// use, the other one takes over. Without force it is refused while devices came last with
// the former key: Conflict, rule "key-in-use". They are counted ahead of the commit.
//
// Errors: NotFound, PreconditionFailed, PreconditionRequired, Conflict "no-symmetric-key".
func (e *Engine) RegenerateKey(ctx context.Context, actor string, o Owner, slot rotation.Slot, force bool, pre Precondition) (Enrollment, error) {
	made, err := newKeys()
	if err != nil {
		return Enrollment{}, err
	}
	devices, err := e.refusedWithout(ctx, o, slot)
	if err != nil {
		return Enrollment{}, err
	}
	if devices > 0 && !force {
		return Enrollment{}, fault.New(fault.Conflict, "key-in-use", "%s came last with this key, or may have, and would be refused until they have another: force it if that is meant", counted(devices)).About(o.String())
	}
	return e.changeKeys(ctx, actor, o, pre, func(m *keyMoves) error {
		return m.renew(slot, made[0], keyByOperator, devices)
	})
}

func counted(devices int64) string {
	if devices == 1 {
		return "1 device"
	}
	return strconv.FormatInt(devices, 10) + " devices"
}

// refusedWithout counts who came last with the key of a slot, or may have.
func (e *Engine) refusedWithout(ctx context.Context, o Owner, slot rotation.Slot) (n int64, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		en, err := keyEntry(tx, o)
		c, there := en.slot(RoleKey, slot)
		if err != nil || !there {
			return err
		}
		hash, err := e.keyHash(o, c)
		if err == nil {
			n, err = tx.KeyDevices(o, hash, true, maxCount)
		}
		return err
	})
	return n, err
}

// SwitchKey makes the staged key of a slot the one in use, on an operator's word: what the
// sweep does by itself when a device comes with it. Both keys go on admitting. Conflict,
// rule "not-staged" or "no-symmetric-key".
func (e *Engine) SwitchKey(ctx context.Context, actor string, o Owner, slot rotation.Slot, pre Precondition) (Enrollment, error) {
	return e.changeKeys(ctx, actor, o, pre, func(m *keyMoves) error {
		if c, there := m.entry.slot(RoleKey, slot); !there || c.State != rotation.Staged {
			return fault.New(fault.Conflict, "not-staged", "only what is staged can be promoted").About(o.String())
		}
		return m.promote(slot, keyByOperator, keyOverlap(nil))
	})
}

func (e *Engine) changeKeys(ctx context.Context, actor string, o Owner, pre Precondition, move func(*keyMoves) error) (Enrollment, error) {
	now := e.now()
	var is Enrollment
	err := e.store.UpdateTrust(ctx, func(tx Tx) error {
		en, err := keyEntry(tx, o)
		if err != nil {
			return err
		}
		if pre != (Precondition{}) {
			if err := pre.check(en.Version); err != nil {
				return err
			}
		}
		m := e.moveKeys(en, actor, now)
		if err := move(m); err != nil {
			return err
		}
		err = m.commit(tx)
		is = m.changing(m.entry)
		return err
	})
	return is, err
}

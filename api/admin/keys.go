package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
)

// keySlot is a symmetric key of an entry, without the key itself.
type keySlot struct {
	Slot     string     `json:"slot" enum:"primary,secondary"`
	State    string     `json:"state" enum:"staged,active,retiring" doc:"Both keys admit, whatever their state."`
	Since    *time.Time `json:"since,omitempty" doc:"When it came into the slot."`
	SeenAt   *time.Time `json:"seenAt,omitempty" doc:"When a device was found to have gone over to it."`
	RetireAt *time.Time `json:"retireAt,omitempty" doc:"Of a retiring one: a plan makes it anew from then on, once no device hangs on it."`
	Devices  int64      `json:"devices" doc:"That came with it last: they would be refused without it."`
	Unknown  int64      `json:"unknown,omitempty" doc:"Devices of the entry of which it is not on record what they came with."`
}

func keySlotOf(s provisioning.KeySlot) keySlot {
	return keySlot{
		Slot: s.Slot.String(), State: s.State.String(), Since: instant(s.Since), SeenAt: instant(s.SeenAt), RetireAt: instant(s.RetireAt),
		Devices: s.Devices, Unknown: s.Unknown,
	}
}

// EntryKey is a slot of an entry in a path.
type EntryKey struct {
	EntryID
	Slot string `path:"slot" enum:"primary,secondary"`
}

func (k EntryKey) slot() rotation.Slot {
	if k.Slot == rotation.Secondary.String() {
		return rotation.Secondary
	}
	return rotation.Primary
}

type (
	keyAct struct {
		EntryKey
		Conditions
		Body *struct {
			Force bool `json:"force,omitempty" doc:"Even while devices came last with the former key: they are refused until they have another."`
		}
	}
	keySwitch struct {
		EntryKey
		Conditions
	}
	keyList struct {
		Body struct {
			Items []keySlot `json:"items" nullable:"false"`
		}
	}
)

// addKeys adds the roll of the symmetric keys of enrollments or groups.
func addKeys[T any](r entries[T]) {
	keys, tag := r.path+"/{id}/keys", r.path[1:]
	add(r.door, route{"list-" + r.noun + "-keys", http.MethodGet, keys, policies.ScopeRead, tag, "See where the symmetric keys stand in their roll, and how many devices hang on each", false}, r.keySlots)
	add(r.door, route{"regenerate-" + r.noun + "-key", http.MethodPost, keys + "/{slot}/regenerate", policies.ScopeEnroll, tag, "Put a new random key into a slot; refused while devices hang on the former one, unless forced", false}, r.regenerateKey)
	add(r.door, route{"switch-" + r.noun + "-key", http.MethodPost, keys + "/{slot}/switch", policies.ScopeEnroll, tag, "Take the staged key for the one in use, without a device that was seen with it", false}, r.switchKey)
}

func (r entries[T]) keySlots(ctx context.Context, in *EntryID) (*keyList, error) {
	o, err := r.owner(in.ID)
	if err != nil {
		return nil, err
	}
	list, err := r.Engine.KeySlots(ctx, o)
	if err != nil {
		return nil, err
	}
	out := &keyList{}
	out.Body.Items = []keySlot{}
	for _, s := range list {
		out.Body.Items = append(out.Body.Items, keySlotOf(s))
	}
	return out, nil
}

func (r entries[T]) regenerateKey(ctx context.Context, in *keyAct) (*found[T], error) {
	return r.changeKeys(in.EntryKey, in.Conditions, func(o provisioning.Owner, pre provisioning.Precondition) (provisioning.Enrollment, error) {
		return r.Engine.RegenerateKey(ctx, actor(ctx), o, in.slot(), in.Body != nil && in.Body.Force, pre)
	})
}

func (r entries[T]) switchKey(ctx context.Context, in *keySwitch) (*found[T], error) {
	return r.changeKeys(in.EntryKey, in.Conditions, func(o provisioning.Owner, pre provisioning.Precondition) (provisioning.Enrollment, error) {
		return r.Engine.SwitchKey(ctx, actor(ctx), o, in.slot(), pre)
	})
}

func (r entries[T]) changeKeys(k EntryKey, c Conditions, change func(provisioning.Owner, provisioning.Precondition) (provisioning.Enrollment, error)) (*found[T], error) {
	o, err := r.owner(k.ID)
	if err != nil {
		return nil, err
	}
	pre, err := c.precondition()
	if err != nil {
		return nil, err
	}
	e, err := change(o, pre)
	if err != nil {
		return nil, err
	}
	body, err := r.view(e, nil)
	return &found[T]{ETag: etag(e.Version), Body: body}, err
}

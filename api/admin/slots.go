package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
)

// SlotRoll is where the credential of a slot stands in its entry's roll.
type SlotRoll struct {
	Slot     string     `json:"slot" enum:"primary,secondary"`
	State    string     `json:"state" enum:"staged,active,retiring" doc:"Whatever it is, what stands in a slot admits."`
	Since    *time.Time `json:"since,omitempty" doc:"When it came into the slot."`
	SeenAt   *time.Time `json:"seenAt,omitempty" doc:"When a device was first admitted by it."`
	RetireAt *time.Time `json:"retireAt,omitempty" doc:"Of a retiring one: from then on it is taken out, once no device hangs on it."`
}

// slotBody is a slot with what it holds and who hangs on it.
type slotBody struct {
	SlotRoll
	SHA256Thumbprint string     `json:"sha256Thumbprint,omitempty" doc:"Of its certificate, or its trust anchor's; a key has none."`
	CAReference      string     `json:"caReference,omitempty" doc:"The trust anchor that it names."`
	SubjectName      string     `json:"subjectName,omitempty"`
	NotBeforeUtc     *time.Time `json:"notBeforeUtc,omitempty"`
	NotAfterUtc      *time.Time `json:"notAfterUtc,omitempty"`
	Devices          *int64     `json:"devices,omitempty" doc:"Devices last attested by it that the other slot would not admit. Keys are not counted."`
	LockedOut        *int64     `json:"lockedOut,omitempty" doc:"Those of them without a good certificate issued here: without the slot they would be refused."`
	Problem          string     `json:"problem,omitempty" doc:"Why the roll does not go on by itself: not-cut-over, renewal-late, expired, stragglers, never-used, successor-not-good, plan-paused, window-closed."`
}

// straggler is a device that hangs on a slot.
type straggler struct {
	RegistrationID string     `json:"registrationId"`
	Status         string     `json:"status" enum:"unassigned,assigning,assigned,failed"`
	AssignedHub    string     `json:"assignedHub,omitempty"`
	LastSeen       *time.Time `json:"lastSeen,omitempty" doc:"When it last registered."`
	LockedOut      bool       `json:"lockedOut" doc:"Without the slot it would be refused: it has no good certificate issued here."`
}

type (
	slotsBody struct {
		Items []slotBody `json:"items" nullable:"false"`
	}
	stragglerList struct {
		EntryID
		Paging
		Slot string `query:"slot" enum:"primary,secondary" doc:"The one that is retiring, unless given."`
	}
	staging struct {
		EntryID
		Conditions
		Body struct {
			Certificate string `json:"certificate,omitempty" doc:"PEM, or base64 of PEM or DER."`
			CAReference string `json:"caReference,omitempty" doc:"Of a group: a verified trust anchor."`
			SameKey     bool   `json:"sameKey,omitempty" doc:"It may have the key of the certificate that it follows."`
		}
	}
	slotRetirement struct {
		EntryID
		Conditions
		Body *struct {
			Slot  string `json:"slot,omitempty" enum:"primary,secondary" doc:"The one that is retiring, unless given."`
			Force bool   `json:"force,omitempty" doc:"Even when the other one was not seen in use, or devices are locked out."`
		}
	}
)

// addSlots adds what enrollments and groups have in common of the roll of their credentials.
func addSlots[T any](r entries[T]) {
	one, tag := r.path+"/{id}", r.path[1:]
	add(r.door, route{"get-" + r.noun + "-slots", http.MethodGet, one + "/slots", policies.ScopeRead, tag, "Show where its slots stand in their roll, and how many devices hang on each", false}, r.slots)
	if r.kind == provisioning.Group {
		add(r.door, route{"list-" + r.noun + "-stragglers", http.MethodGet, one + "/stragglers", policies.ScopeRead, tag, "List the devices that hang on a slot", false}, r.stragglers)
	}
	add(r.door, route{"stage-" + r.noun, http.MethodPost, one + "/stage", policies.ScopeEnroll, tag, "Put the next certificate or trust anchor into the empty slot, beside the one in use", false}, r.stage)
	add(r.door, route{"promote-" + r.noun, http.MethodPost, one + "/promote", policies.ScopeEnroll, tag, "Make what is staged the active one, although no device was seen using it", false}, r.promote)
	add(r.door, route{"retire-" + r.noun, http.MethodPost, one + "/retire", policies.ScopeEnroll, tag, "Take a credential out of its slot early", false}, r.retire)
}

// rollsOf are the slots of an entry, as far as the entry itself tells.
func rollsOf(e provisioning.Enrollment) []SlotRoll {
	out := make([]SlotRoll, 0, len(e.Credentials))
	for _, c := range e.Credentials {
		out = append(out, slotRollOf(c))
	}
	return out
}

func slotRollOf(c provisioning.Credential) SlotRoll {
	return SlotRoll{Slot: c.Slot.String(), State: c.State.String(), Since: instant(c.Since), SeenAt: instant(c.SeenAt), RetireAt: instant(c.RetireAt)}
}

// slotNamed reads a slot; nil for none.
func slotNamed(name string) *rotation.Slot {
	for _, slot := range []rotation.Slot{rotation.Primary, rotation.Secondary} {
		if slot.String() == name {
			return &slot
		}
	}
	return nil
}

func (r entries[T]) slots(ctx context.Context, in *EntryID) (*struct{ Body slotsBody }, error) {
	o, err := r.owner(in.ID)
	if err != nil {
		return nil, err
	}
	list, err := r.Engine.Slots(ctx, o)
	if err != nil {
		return nil, err
	}
	out := &struct{ Body slotsBody }{slotsBody{Items: make([]slotBody, 0, len(list))}}
	for _, v := range list {
		b := slotBody{
			SlotRoll: slotRollOf(v.Credential), CAReference: v.Anchor, SubjectName: v.Subject,
			NotBeforeUtc: instant(v.NotBefore), NotAfterUtc: instant(v.NotAfter), Problem: string(v.Problem),
		}
		if !v.Thumbprint.IsZero() {
			b.SHA256Thumbprint, b.Devices, b.LockedOut = v.Thumbprint.String(), &v.Devices, &v.Locked
		}
		out.Body.Items = append(out.Body.Items, b)
	}
	return out, nil
}

func (r entries[T]) stragglers(ctx context.Context, in *stragglerList) (*listed[straggler], error) {
	o, err := r.owner(in.ID)
	if err != nil {
		return nil, err
	}
	name := r.path + "/" + o.ID.String() + "/stragglers " + in.Slot
	after, err := in.afterID(r.Engine, name)
	if err != nil {
		return nil, err
	}
	rows, err := r.Engine.Stragglers(ctx, o, slotNamed(in.Slot), after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	return pageOf(r.Engine, rows, in.Limit, name,
		func(s provisioning.Straggler) string { return s.ID.String() },
		func(s provisioning.Straggler) (straggler, error) {
			return straggler{RegistrationID: s.Spelled, Status: string(s.State), AssignedHub: s.Hub, LastSeen: instant(s.Operation.At), LockedOut: !s.Renews}, nil
		})
}

func (r entries[T]) stage(ctx context.Context, in *staging) (*found[T], error) {
	return r.rolled(in.EntryID, in.Conditions, func(o provisioning.Owner, pre provisioning.Precondition) (provisioning.Enrollment, []string, error) {
		next := provisioning.Staging{Certificate: []byte(in.Body.Certificate), Anchor: in.Body.CAReference, SameKey: in.Body.SameKey}
		return r.Engine.StageCredential(ctx, actor(ctx), o, next, pre)
	})
}

func (r entries[T]) promote(ctx context.Context, in *entryAct) (*found[T], error) {
	return r.rolled(in.EntryID, in.Conditions, func(o provisioning.Owner, pre provisioning.Precondition) (provisioning.Enrollment, []string, error) {
		e, err := r.Engine.PromoteCredential(ctx, actor(ctx), o, pre)
		return e, nil, err
	})
}

func (r entries[T]) retire(ctx context.Context, in *slotRetirement) (*found[T], error) {
	var what provisioning.Retiring
	if in.Body != nil {
		what = provisioning.Retiring{Slot: slotNamed(in.Body.Slot), Force: in.Body.Force}
	}
	return r.rolled(in.EntryID, in.Conditions, func(o provisioning.Owner, pre provisioning.Precondition) (provisioning.Enrollment, []string, error) {
		e, err := r.Engine.RetireCredential(ctx, actor(ctx), o, what, pre)
		return e, nil, err
	})
}

// rolled makes one move of an entry's slots and answers with the entry.
func (r entries[T]) rolled(id EntryID, c Conditions, move func(provisioning.Owner, provisioning.Precondition) (provisioning.Enrollment, []string, error)) (*found[T], error) {
	o, err := r.owner(id.ID)
	if err != nil {
		return nil, err
	}
	pre, err := c.precondition()
	if err != nil {
		return nil, err
	}
	e, warnings, err := move(o, pre)
	if err != nil {
		return nil, err
	}
	body, err := r.view(e, warnings)
	return &found[T]{ETag: etag(e.Version), Body: body}, err
}

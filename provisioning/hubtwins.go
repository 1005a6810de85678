package provisioning

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// Sizes of the parts of a twin at its hub, in bytes of JSON (Azure's).
const (
	maxTwinTags    = 8 << 10
	maxTwinDesired = 32 << 10
)

// ruleTwinChanged is the rule word of a twin that was written since it was read.
const ruleTwinChanged = "twin-changed"

// twinTries is how often a change of a twin is tried that names no version: each time
// somebody else changed it meanwhile.
const twinTries = 4

// TwinDraft changes a twin. Its parts are JSON objects, merged into what there is (RFC
// 7396: null removes); nil leaves a part alone. With Replace they take its place, and nil
// empties it. Top-level keys of Desired that begin with "$" are metadata that clients
// send back, and are passed over.
type TwinDraft struct {
	Hub     string
	ID      verify.RegistrationID
	Tags    []byte
	Desired []byte
	Replace bool
}

// ChangeTwin changes the twin of a device on a built-in hub; an empty pre changes whatever
// is there.
//
// Errors: Malformed, NotFound, PreconditionFailed.
func (e *Engine) ChangeTwin(ctx context.Context, actor string, draft TwinDraft, pre Precondition) (d HubDevice, err error) {
	now := e.now()
	tries := twinTries
	if pre.Version != 0 {
		tries = 1
	}
	err = e.writeTwin(ctx, tries, func(tx Tx) error {
		d, err = e.changeTwin(tx, actor, draft, pre, now)
		return err
	})
	return d, err
}

// writeTwin is an update that writes a twin, tried again when somebody wrote it meanwhile.
func (e *Engine) writeTwin(ctx context.Context, tries int, f func(Tx) error) (err error) {
	for range tries {
		if err = e.store.Update(ctx, f); fault.RuleOf(err) != ruleTwinChanged {
			break
		}
	}
	return err
}

func (e *Engine) changeTwin(tx Tx, actor string, draft TwinDraft, pre Precondition, now time.Time) (HubDevice, error) {
	rec, err := tx.HubRecord(draft.Hub, draft.ID)
	if err != nil {
		return HubDevice{}, err
	}
	stored := rec.twin()
	reading := e.readingHub(tx, draft.Hub, false)
	d, err := reading.device(rec)
	if err != nil {
		return d, err
	}
	if pre != (Precondition{}) {
		if err := pre.check(d.TwinVersion); err != nil {
			return d, err
		}
	}
	next, err := draft.apply(d.Twin)
	if err != nil {
		return d, err
	}
	next.Version++
	if !bytes.Equal(next.Desired, d.Twin.Desired) {
		next.DesiredVersion++
	}
	if next.Updated = now; !now.After(d.Twin.Updated) {
		next.Updated = d.Twin.Updated.Add(time.Microsecond) // the ETag must change
	}
	if rec.Registration == nil {
		err = tx.PutHubTwin(draft.Hub, draft.ID, next, writtenVersion(stored))
	} else {
		err = tx.UpdateTwin(rec.Registration.ID, next, writtenVersion(rec.Twin))
	}
	if err != nil {
		return d, err
	}
	d.Twin, d.TwinVersion = twinOf(&next, d.Created)
	return d, tx.Append(audit.Event{At: now, Actor: actor, Action: audit.TwinUpdated, Subject: hubSubject(draft.Hub, draft.ID),
		Body: audit.Body(map[string]any{
			"version": next.Version, "tags": verify.ThumbprintOf(next.Tags).String(), "desired": verify.ThumbprintOf(next.Desired).String(),
		})})
}

// writtenVersion is the version of a twin on record, 0 of none.
func writtenVersion(t *Twin) int64 {
	if t == nil {
		return 0
	}
	return t.Version
}

func (draft TwinDraft) apply(was Twin) (next Twin, err error) {
	next = was
	if next.Tags, err = draft.part("/tags", was.Tags, draft.Tags, maxTwinTags); err != nil {
		return next, err
	}
	next.Desired, err = draft.part("/properties/desired", was.Desired, draft.Desired, maxTwinDesired)
	return next, err
}

// part merges one part of a twin.
func (draft TwinDraft) part(at string, was, change []byte, limit int) ([]byte, error) {
	bad := func(rule, detail string) ([]byte, error) {
		return nil, fault.New(fault.Malformed, rule, "%s", detail).At(at)
	}
	if change == nil && !draft.Replace {
		return was, nil
	}
	if draft.Replace || len(was) == 0 {
		was = emptyObject
	}
	patch, ok := object(change)
	if !given(change) {
		patch, was = map[string]any{}, emptyObject
	} else if !ok {
		return bad("twin-part", "Tags and desired properties are JSON objects.")
	}
	for key := range patch {
		if strings.HasPrefix(key, "$") {
			delete(patch, key)
		}
	}
	if key := badKey(patch); key != "" {
		return bad("twin-key", "A property may not be named "+strings.ToValidUTF8(key, "?")+".")
	}
	base, _ := object(was)
	merged, err := json.Marshal(merge(base, patch))
	if err != nil {
		return nil, err
	}
	if len(merged) > limit {
		return bad("twin-size", "This part of the twin is too large: tags may take 8 KB, desired properties 32 KB.")
	}
	return merged, nil
}

// object reads a JSON object; numbers keep the digits they were written with.
func object(text []byte) (map[string]any, bool) {
	if !json.Valid(text) {
		return nil, false
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var v map[string]any
	err := decoder.Decode(&v)
	return v, err == nil && v != nil
}

// merge is RFC 7396 for objects; base may be nil and is changed.
func merge(base, patch map[string]any) map[string]any {
	if base == nil {
		base = make(map[string]any, len(patch))
	}
	for key, value := range patch {
		switch value := value.(type) {
		case nil:
			delete(base, key)
		case map[string]any:
			inner, _ := base[key].(map[string]any)
			base[key] = merge(inner, value)
		default:
			base[key] = value
		}
	}
	return base
}

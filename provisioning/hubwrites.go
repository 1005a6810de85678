package provisioning

import (
	"context"
	"crypto/rand"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// Sizes of what the door of a built-in hub takes.
const (
	maxStatusReason = 128 // characters
	maxHubBulk      = 100 // acts
	madeKeySize     = 32
)

// HubDraft is a device as somebody wants it at a built-in hub. What is nil or empty stays
// as it is; of a new device it is enabled, with two keys made for it.
type HubDraft struct {
	Hub     string
	ID      verify.RegistrationID
	Spelled string
	Enabled *bool
	Reason  *string
	IoTEdge *bool
	Auth    *HubAuth
}

// HubAct is one act of a bulk. Remove deletes the device; Upsert creates it or replaces
// what there is; otherwise Pre decides, as in PutHubDevice.
type HubAct struct {
	Draft  HubDraft
	Remove bool
	Upsert bool
	Pre    Precondition
}

// PutHubDevice creates or changes a device of a built-in hub. A device that was
// registered keeps what its registration says where the draft says the same.
//
// Errors: Malformed; PreconditionRequired when there is such a device and pre is empty,
// NotFound when there is none and pre is not, PreconditionFailed.
func (e *Engine) PutHubDevice(ctx context.Context, actor string, draft HubDraft, pre Precondition) (d HubDevice, err error) {
	w := e.hubWriting(actor, 1)
	// UpdateTrust, so that no registration comes to or leaves this hub meanwhile.
	err = e.store.UpdateTrust(ctx, func(tx Tx) error {
		d, err = w.put(tx, draft, pre, w.made[0])
		return err
	})
	return d, err
}

// DeleteHubDevice removes a device and its twin from a built-in hub. A registration of it
// stays, assigned to no hub: the device comes back, new, when it registers again
// (scenarios J2). An empty pre deletes whatever is there.
func (e *Engine) DeleteHubDevice(ctx context.Context, actor, hub string, id verify.RegistrationID, pre Precondition) error {
	w := e.hubWriting(actor, 0)
	return e.store.UpdateTrust(ctx, func(tx Tx) error { return w.remove(tx, hub, id, pre) })
}

// ChangeHubDevices carries out up to 100 acts in order and in one commit. Each has its own
// refusal, nil when it was done; what one refuses does not undo the others.
func (e *Engine) ChangeHubDevices(ctx context.Context, actor string, acts []HubAct) ([]error, error) {
	if len(acts) == 0 || len(acts) > maxHubBulk {
		return nil, fault.New(fault.Malformed, "bulk-size", "A bulk has 1 to %d devices.", maxHubBulk)
	}
	w := e.hubWriting(actor, len(acts))
	refused := make([]error, len(acts))
	err := e.store.UpdateTrust(ctx, func(tx Tx) error {
		for i, act := range acts {
			err := w.act(tx, act, w.made[i])
			if kind := fault.KindOf(err); err != nil && (kind == fault.Internal || kind == fault.Unavailable) {
				return err
			}
			refused[i] = err
		}
		return nil
	})
	return refused, err
}

// hubWriting is one caller's writes. Its keys are made before the transaction, which may
// run again.
type hubWriting struct {
	*Engine
	actor string
	at    time.Time
	made  [][2]verify.Secret
}

func (e *Engine) hubWriting(actor string, devices int) hubWriting {
	w := hubWriting{Engine: e, actor: actor, at: e.now(), made: make([][2]verify.Secret, devices)}
	for i := range w.made {
		for slot := range w.made[i] {
			var key [madeKeySize]byte
			_, _ = rand.Read(key[:]) // never fails (crypto/rand)
			w.made[i][slot] = verify.NewSecret(key[:])
		}
	}
	return w
}

func (w hubWriting) act(tx Tx, a HubAct, made [2]verify.Secret) error {
	if a.Remove {
		return w.remove(tx, a.Draft.Hub, a.Draft.ID, a.Pre)
	}
	pre := a.Pre
	if a.Upsert {
		switch _, err := tx.HubRecord(a.Draft.Hub, a.Draft.ID); {
		case err == nil:
			pre = Precondition{Any: true}
		case !fault.Is(err, fault.NotFound):
			return err
		}
	}
	_, err := w.put(tx, a.Draft, pre, made)
	return err
}

// put checks everything before it writes: in a bulk a refusal must leave nothing behind.
func (w hubWriting) put(tx Tx, draft HubDraft, pre Precondition, made [2]verify.Secret) (HubDevice, error) {
	rec, err := tx.HubRecord(draft.Hub, draft.ID)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return HubDevice{}, err
	}
	isNew := err != nil
	reading := w.readingHub(tx, draft.Hub, true)
	var was HubDevice
	if isNew {
		if pre != (Precondition{}) {
			return HubDevice{}, errNoHubDevice()
		}
		rec = HubRecord{Device: draft.ID}
	} else if was, err = reading.device(rec); err != nil {
		return HubDevice{}, err
	} else if err := pre.check(was.Version); err != nil {
		return HubDevice{}, err
	}
	change, err := w.change(rec, was, draft, made)
	if err != nil {
		return HubDevice{}, err
	}
	action := audit.HubDeviceUpdated
	switch {
	case isNew:
		action = audit.HubDeviceCreated
	case was.Enabled && !change.Enabled:
		action = audit.HubDeviceDisabled
	case !was.Enabled && change.Enabled:
		action = audit.HubDeviceEnabled
	}
	if err := rec.write(tx, change); err != nil {
		return HubDevice{}, err
	}
	rec.Change = &change
	d, err := reading.device(rec)
	if err != nil {
		return d, err
	}
	return d, tx.Append(w.event(action, d))
}

// change is what the draft makes of a device as it was.
func (w hubWriting) change(rec HubRecord, was HubDevice, draft HubDraft, made [2]verify.Secret) (HubChange, error) {
	c := HubChange{Hub: draft.Hub, Device: draft.ID, Spelled: draft.Spelled, Enabled: true, StatusAt: w.at, Created: w.at, Version: firstVersion(w.at)}
	if rec.Change != nil {
		c = *rec.Change
		c.Version++
	} else if reg := rec.Registration; reg != nil {
		c.Spelled, c.Registration, c.StatusAt = reg.DeviceID, reg.ID, reg.Created
	}
	c.Updated = w.at
	if draft.Enabled != nil && *draft.Enabled != c.Enabled {
		c.Enabled, c.StatusBy, c.StatusAt, c.Reason = *draft.Enabled, w.actor, w.at, ""
	}
	if draft.Reason != nil {
		c.Reason = *draft.Reason
	}
	if err := checkStatusReason(c.Reason); err != nil {
		return c, err
	}
	if draft.IoTEdge != nil && *draft.IoTEdge != was.IoTEdge {
		c.IoTEdge = draft.IoTEdge
	}
	auth, err := draft.auth(was.Auth, made)
	if err != nil {
		return c, err
	}
	switch {
	case !auth.equal(was.Auth):
		c.Auth = w.seal(c.Hub, c.Device, auth)
		if rec.Registration != nil {
			c.Operation = rec.Registration.Operation.ID
		}
	case !rec.authChanged(): // what stood here was rewritten by a later registration
		c.Auth, c.Operation = SealedAuth{}, ""
	}
	return c, nil
}

func checkStatusReason(text string) error {
	if utf8.RuneCountInString(text) > maxStatusReason || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return fault.New(fault.Malformed, "status-reason", "A status reason has at most %d characters, none of them a control character.", maxStatusReason).At("/statusReason")
	}
	return nil
}

func (w hubWriting) remove(tx Tx, hub string, id verify.RegistrationID, pre Precondition) error {
	rec, err := tx.HubRecord(hub, id)
	if err != nil {
		return err
	}
	d, err := w.readingHub(tx, hub, false).device(rec)
	if err != nil {
		return err
	}
	if pre != (Precondition{}) {
		if err := pre.check(d.Version); err != nil {
			return err
		}
	}
	if err := tx.ForgetHubChange(hub, id); err != nil {
		return err
	}
	if rec.Registration != nil {
		if err := w.unassign(tx, *rec.Registration); err != nil {
			return err
		}
	}
	return tx.Append(w.event(audit.HubDeviceDeleted, d))
}

// unassign takes a registration off its hub. Its certificates go on standing: the device
// may register with them. What its last operation was answered with is not repeated.
func (w hubWriting) unassign(tx Tx, reg Registration) error {
	reg = offHub(reg)
	reg.Updated = w.at
	reg.Version++
	return first(tx.DeleteTwin(reg.ID), tx.PutRegistration(reg))
}

// offHub is a registration that is on no hub any more.
func offHub(reg Registration) Registration {
	if reg.State == Assigned || reg.State == Assigning {
		reg.State = Unassigned
	}
	reg.Substatus, reg.Hub, reg.DeviceID = "", "", ""
	reg.Operation.Digest, reg.Returned = [32]byte{}, nil
	return reg
}

// event tells what a device is after a change; of keys only that there are some.
func (w hubWriting) event(action audit.Action, d HubDevice) audit.Event {
	facts := map[string]any{"enabled": d.Enabled, "authentication": string(d.Auth.Type), "version": d.Version}
	for name, value := range map[string]string{
		"reason": d.StatusReason, "registration": d.Registration.String(), "primaryThumbprint": d.Auth.Thumbprints[rotation.Primary],
		"secondaryThumbprint": d.Auth.Thumbprints[rotation.Secondary],
	} {
		if value != "" {
			facts[name] = value
		}
	}
	if d.IoTEdge {
		facts["iotEdge"] = true
	}
	return audit.Event{At: w.at, Actor: w.actor, Action: action, Subject: hubSubject(d.Hub, d.ID), Body: audit.Body(facts)}
}

func hubSubject(hub string, device verify.RegistrationID) string {
	return "hub-device:" + hub + "/" + device.String()
}

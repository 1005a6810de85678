package provisioning

import (
	"encoding/hex"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// HubDevice is a device's identity on a built-in hub: its registration, and over it what
// was changed at the hub's door.
type HubDevice struct {
	Hub          string
	ID           verify.RegistrationID
	DeviceID     string                // as first written
	Registration verify.RegistrationID // zero: it has none
	Enabled      bool
	Disallowed   bool // what attested it is; then it is not enabled either
	StatusReason string
	StatusBy     string // the actor who set the status; "" when nobody did
	StatusAt     time.Time
	Auth         HubAuth
	IoTEdge      bool
	Twin         Twin // an empty one when none was written
	Created      time.Time
	Version      int64 // the ETag: it grows with the registration and with each change
	TwinVersion  int64 // the twin's ETag
}

// HubAuth is how a device proves itself to its hub. Keys are zero when they are not
// known (the entry they came from was deleted) or were not asked for.
type HubAuth struct {
	Type        HubAuthType
	Keys        [2]verify.Secret // by rotation.Slot
	Thumbprints [2]string        // as in SealedAuth
}

func (a HubAuth) equal(b HubAuth) bool {
	for i := range a.Keys {
		if !a.Keys[i].Equal(b.Keys[i]) && !(a.Keys[i].IsZero() && b.Keys[i].IsZero()) {
			return false
		}
	}
	return a.Type == b.Type && a.Thumbprints == b.Thumbprints
}

// hubReading makes devices of records within one transaction. It keeps the entries it
// met: most devices of a page have the same one.
type hubReading struct {
	*Engine
	tx      Tx
	hub     string
	keys    bool
	at      time.Time
	entries map[Owner]Enrollment
	bars    bars
}

func (e *Engine) readingHub(tx Tx, hub string, keys bool) *hubReading {
	return &hubReading{Engine: e, tx: tx, hub: hub, keys: keys, at: e.now(), entries: map[Owner]Enrollment{}, bars: bars{tx: tx}}
}

// device lays a change over its registration.
func (r *hubReading) device(rec HubRecord) (d HubDevice, err error) {
	d = HubDevice{Hub: r.hub, ID: rec.Device, Enabled: true, IoTEdge: rec.IoTEdge}
	if reg := rec.Registration; reg != nil {
		d.Registration, d.DeviceID, d.Created, d.StatusAt, d.Version = reg.ID, reg.DeviceID, reg.Created, reg.Created, reg.Version
	}
	if c := rec.Change; c != nil {
		d.Enabled, d.StatusReason, d.StatusBy, d.StatusAt = c.Enabled, c.Reason, c.StatusBy, c.StatusAt
		d.Version += c.Version
		if c.IoTEdge != nil {
			d.IoTEdge = *c.IoTEdge
		}
		if rec.Registration == nil {
			d.DeviceID, d.Created = c.Spelled, c.Created
		}
	}
	if reg := rec.Registration; reg != nil {
		shut, err := r.bars.shuts(*reg)
		if err != nil {
			return d, err
		}
		if shut {
			d.Enabled, d.Disallowed, d.StatusReason = false, reg.HeldAt.IsZero(), "what attested the device is disallowed"
		}
		if !reg.HeldAt.IsZero() {
			d.StatusReason = "the registration is held"
		}
	}
	stored := rec.twin()
	d.Twin, d.TwinVersion = twinOf(stored, d.Created)
	if rec.authChanged() {
		d.Auth, err = r.changedAuth(*rec.Change)
	} else if rec.Registration != nil {
		d.Auth, err = r.registeredAuth(*rec.Registration)
	}
	return d, err
}

// authChanged says whether the credentials set at the door are those that count: a later
// registration rewrites them with what the device has just presented (contract §6.5).
func (rec HubRecord) authChanged() bool {
	c, reg := rec.Change, rec.Registration
	if c == nil || c.Auth.Type == "" {
		return false
	}
	return reg == nil || reg.State != Assigned || reg.Operation.ID == c.Operation
}

// twin is the twin on record, the registration's before one that was made at the door.
func (rec HubRecord) twin() *Twin {
	if rec.Twin == nil && rec.Change != nil {
		return rec.Change.Twin
	}
	return rec.Twin
}

// twinOf is a twin and its ETag. Where none was written it is as old as its device.
func twinOf(stored *Twin, created time.Time) (Twin, int64) {
	t := Twin{Tags: emptyObject, Desired: emptyObject, Updated: created, Version: 1, DesiredVersion: 1}
	if stored != nil {
		t = *stored
	}
	return t, t.Updated.UnixMicro()
}

func (r *hubReading) changedAuth(c HubChange) (HubAuth, error) {
	a := HubAuth{Type: c.Auth.Type}
	var err error
	if a.Thumbprints, err = withoutLost(r.tx, c.Auth.Thumbprints); err != nil || !r.keys {
		return a, err
	}
	for slot, sealed := range c.Auth.SealedKeys {
		if len(sealed) == 0 {
			continue
		}
		key, err := r.box.Open(hubKeyPurpose(c.Hub, c.Device, rotation.Slot(slot)), sealed)
		if err != nil {
			return a, err
		}
		a.Keys[slot] = verify.NewSecret(key)
	}
	return a, nil
}

// registeredAuth is what the device attested with (contract §6.6). The certificates
// issued to it that stand in its pair come first, both through an overlap (scenarios
// H5); without any it is the leaf that it presented, and what its own enrollment pins beside it.
func (r *hubReading) registeredAuth(reg Registration) (HubAuth, error) {
	if reg.Mechanism == verify.MechanismSymmetricKey {
		keys, err := r.attestedKeys(reg)
		return HubAuth{Type: HubSAS, Keys: keys}, err
	}
	if reg.Mechanism == verify.MechanismTPM {
		keys, err := r.tpmKeys(reg)
		return HubAuth{Type: HubSAS, Keys: keys}, err
	}
	a := HubAuth{Type: HubSelfSigned}
	good, err := live(r.tx, reg.Pair, r.at)
	if err != nil {
		return a, err
	}
	for i, cell := range good {
		a.Thumbprints[i] = thumbprintText(cell.Ref[:])
	}
	if len(good) > 0 || reg.Leaf.IsZero() {
		return a, nil
	}
	entry, err := r.entry(reg.Owner)
	a.Thumbprints = entry.pinned(reg.Leaf)
	return a, err
}

// pinned are the certificates by which a device that presented leaf may come: those that its
// own enrollment holds, both while they roll, and not one that was taken out. Without such
// an enrollment it is the leaf.
func (e Enrollment) pinned(leaf verify.Thumbprint) (list [2]string) {
	if e.Role() != RoleClient {
		return [2]string{thumbprintText(leaf[:])}
	}
	for i, c := range e.Credentials {
		x := verify.ThumbprintOf(c.Certificate)
		list[i] = thumbprintText(x[:])
	}
	if list[1] == thumbprintText(leaf[:]) {
		list[0], list[1] = list[1], list[0]
	}
	return list
}

// entry reads an entry once for all devices that it owns; an empty one if it is gone.
func (r *hubReading) entry(o Owner) (Enrollment, error) {
	entry, known := r.entries[o]
	if known || o.IsZero() {
		return entry, nil
	}
	entry, err := r.tx.Enrollment(o)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return entry, err
	}
	r.entries[o] = entry
	return entry, nil
}

func thumbprintText(digest []byte) string { return strings.ToUpper(hex.EncodeToString(digest)) }

// attestedKeys are the keys that the device attests with: its own enrollment's, or those
// derived from its group's for the registration id as the device first spelled it.
func (r *hubReading) attestedKeys(reg Registration) (keys [2]verify.Secret, err error) {
	if !r.keys || reg.Owner.IsZero() {
		return keys, nil
	}
	entry, err := r.entry(reg.Owner)
	if err != nil {
		return keys, err
	}
	for _, c := range entry.Credentials {
		if c.Role != RoleKey {
			continue
		}
		raw, err := r.box.Open(keyPurpose(reg.Owner, c.Slot), c.SealedKey)
		if err != nil {
			return keys, err
		}
		keys[c.Slot] = verify.NewSecret(raw)
		if reg.Owner.Kind == Group {
			keys[c.Slot] = verify.DeriveKey(keys[c.Slot], reg.Spelled)
		}
	}
	return keys, nil
}

func hubKeyPurpose(hub string, device verify.RegistrationID, slot rotation.Slot) string {
	return "hub_devices|" + hub + "|" + device.String() + "|" + slot.String()
}

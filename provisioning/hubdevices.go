package provisioning

import (
	"context"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// HubRecord is what is on record of one device on a built-in hub. Device ids have the
// grammar of registration ids (INV-P3) and are compared without regard to case.
type HubRecord struct {
	Device       verify.RegistrationID // the device id
	Registration *Registration         // nil: the device is one of its own
	Change       *HubChange            // nil: the device is as its registration has it
	Twin         *Twin                 // of the registration; nil: none was written
	IoTEdge      bool                  // what the registration's entry says
}

// HubChange is what the door of a built-in hub made or changed of one device. With a
// Registration it lies over that registration's device; without, it is the device: made at
// the door, or left when the registration's record was deleted.
type HubChange struct {
	Hub          string
	Device       verify.RegistrationID
	Spelled      string // the device id as first written
	Registration verify.RegistrationID
	Enabled      bool
	Reason       string // of the status, free text
	StatusBy     string // the actor who set the status last; "" when nobody did
	StatusAt     time.Time
	Auth         SealedAuth // Type "": as registered
	Operation    string     // the registration's last operation when Auth was set
	IoTEdge      *bool      // nil: as the entry says
	Twin         *Twin      // of a device without a registration; nil: none was written
	Created      time.Time
	Updated      time.Time
	Version      int64
}

// HubAuthType is how a device proves itself to its hub, in the words of the wire
// (contract §8).
type HubAuthType string

// The types.
const (
	HubSAS                  HubAuthType = "sas"
	HubSelfSigned           HubAuthType = "selfSigned"
	HubCertificateAuthority HubAuthType = "certificateAuthority"
	HubNoAuth               HubAuthType = "none"
)

// SealedAuth is how a device proves itself to its hub, as it is stored.
type SealedAuth struct {
	Type        HubAuthType
	SealedKeys  [2][]byte // by rotation.Slot, each sealed for this very row and slot
	Thumbprints [2]string // upper-case hex of a SHA-1 (40 digits) or SHA-256 (64)
}

// HubDeviceTx is what provisioning reads and writes of the devices on built-in hubs.
type HubDeviceTx interface {
	HubRecord(hub string, device verify.RegistrationID) (HubRecord, error)
	// HubRecords lists by device id.
	HubRecords(hub string, after verify.RegistrationID, limit int) ([]HubRecord, error)
	// HubCount counts all devices of a hub, and those that are disabled.
	HubCount(hub string) (total, disabled int64, err error)
	// InsertHubChange and UpdateHubChange leave the twin alone.
	InsertHubChange(HubChange) error
	UpdateHubChange(c HubChange, was int64) error
	// ForgetHubChange removes a change, if there is one; a twin that stands with it
	// becomes the registration's, unless that has one.
	ForgetHubChange(hub string, device verify.RegistrationID) error
	// SettleHubChange makes a device of its own, if there is one, that of a registration.
	SettleHubChange(hub string, device, registration verify.RegistrationID) error
	// DropHubThumbprint takes a certificate, by its thumbprint in SealedAuth's form, from
	// every device that stands with it in a change.
	DropHubThumbprint(thumbprint string, at time.Time) error
	// PutHubTwin writes the twin of a device without a registration over one of that
	// version (0: none).
	PutHubTwin(hub string, device verify.RegistrationID, t Twin, was int64) error
	// UpdateTwin writes a registration's twin over one of that version (0: none).
	UpdateTwin(id verify.RegistrationID, t Twin, was int64) error
}

// HubPage asks for devices of a built-in hub, by device id.
type HubPage struct {
	Hub   string
	After verify.RegistrationID // exclusive
	Limit int                   // at most 1000
	// RevealTo is the actor who is shown symmetric keys; "" = they are not shown.
	RevealTo string
}

// HubDevice reads one device of a built-in hub. Its symmetric keys are shown to the actor
// revealTo, if there is one; that is audited, and nothing is shown before it is (INV-K5).
func (e *Engine) HubDevice(ctx context.Context, hub string, id verify.RegistrationID, revealTo string) (d HubDevice, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		rec, err := tx.HubRecord(hub, id)
		if err != nil {
			return err
		}
		d, err = e.readingHub(tx, hub, revealTo != "").device(rec)
		return err
	})
	if err == nil {
		err = e.revealed(ctx, revealTo, hubSubject(hub, id), d)
	}
	if err != nil {
		return HubDevice{}, err
	}
	return d, nil
}

// HubDevices lists the devices of a built-in hub. Showing keys is audited once for a page.
func (e *Engine) HubDevices(ctx context.Context, p HubPage) (list []HubDevice, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		recs, err := tx.HubRecords(p.Hub, p.After, p.Limit)
		if err != nil {
			return err
		}
		reading := e.readingHub(tx, p.Hub, p.RevealTo != "")
		list = make([]HubDevice, len(recs))
		for i, rec := range recs {
			if list[i], err = reading.device(rec); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = e.revealed(ctx, p.RevealTo, "hub:"+p.Hub, list...)
	}
	if err != nil {
		return nil, err
	}
	return list, nil
}

// revealed puts on record that an actor is shown keys, if there are any among the devices.
func (e *Engine) revealed(ctx context.Context, actor, subject string, devices ...HubDevice) error {
	shown := 0
	for _, d := range devices {
		if !d.Auth.Keys[0].IsZero() || !d.Auth.Keys[1].IsZero() {
			shown++
		}
	}
	if actor == "" || shown == 0 {
		return nil
	}
	now := e.now()
	return e.store.Update(ctx, func(tx Tx) error {
		return tx.Append(audit.Event{At: now, Actor: actor, Action: audit.KeysRead, Subject: subject, Body: audit.Body(map[string]any{"devices": shown})})
	})
}

// HubCount counts the devices of a built-in hub, and those of them that are disabled.
func (e *Engine) HubCount(ctx context.Context, hub string) (total, disabled int64, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		total, disabled, err = tx.HubCount(hub)
		return err
	})
	return total, disabled, err
}

// settleHub brings the changes made at the doors of built-in hubs along when a
// registration comes to a hub or leaves one: status and credentials set there belong to
// the device on that hub, and end with it. A device of its own that has the same
// name becomes the registration's, its status with it: who registers does not enable
// itself.
func settleHub(tx Tx, was *Registration, next Registration) error {
	var old Registration
	if was != nil {
		old = *was
	}
	if old.Hub == next.Hub && old.hubDeviceID() == next.hubDeviceID() {
		return nil
	}
	if old.Hub != "" {
		if err := tx.ForgetHubChange(old.Hub, old.hubDeviceID()); err != nil {
			return err
		}
	}
	if next.Hub == "" {
		return nil
	}
	return tx.SettleHubChange(next.Hub, next.hubDeviceID(), next.ID)
}

// hubDeviceID is the device id in its canonical form; that of an id on record always has one.
func (r Registration) hubDeviceID() verify.RegistrationID {
	if r.DeviceID == "" || r.ID.Matches(r.DeviceID) {
		return r.ID
	}
	id, err := verify.ParseRegistrationID(r.DeviceID)
	if err != nil {
		return r.ID
	}
	return id
}

func errNoHubDevice() error {
	return fault.New(fault.NotFound, "device-not-found", "There is no such device on this hub.")
}

package provisioning

import (
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/rotation"
)

// leave ends Muster's part in a registration's device when the record goes. A hub that lives
// elsewhere is told to remove it: nobody would tell it of the device any more. On the built-in
// one it stays, unless it is to go there too.
func (w hubWriting) leave(tx Tx, reg Registration, fromHub bool) error {
	elsewhere, err := livesElsewhere(tx, reg.place())
	switch {
	case err != nil:
		return err
	case elsewhere:
		return tx.StepHubIdentity(reg.place(), w.at)
	case fromHub:
		return w.takeOff(tx, reg)
	}
	return w.keep(tx, reg)
}

// livesElsewhere says that a device is on a hub that is told of it.
func livesElsewhere(tx Tx, at HubPlace) (bool, error) {
	_, err := tx.HubIdentity(at)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// takeOff removes a registration's device from the built-in hub; its twin goes with the record.
func (w hubWriting) takeOff(tx Tx, reg Registration) error {
	if reg.Hub == "" {
		return nil
	}
	rec, err := tx.HubRecord(reg.Hub, reg.hubDeviceID())
	if err != nil {
		return err
	}
	d, err := w.readingHub(tx, reg.Hub, false).device(rec)
	return first(err, tx.ForgetHubChange(reg.Hub, reg.hubDeviceID()), tx.Append(w.event(audit.HubDeviceDeleted, d)))
}

// keep leaves a registration's device on its hub when the record goes (contract §4.4): from
// then on it is a device of its own, with the status, credentials, capabilities and twin
// that it has.
func (w hubWriting) keep(tx Tx, reg Registration) error {
	if reg.Hub == "" {
		return nil
	}
	rec, err := tx.HubRecord(reg.Hub, reg.hubDeviceID())
	if err != nil {
		return err
	}
	rec.Registration.Pair = lasting(rec.Registration.Pair)
	d, err := w.readingHub(tx, reg.Hub, true).device(rec)
	if err != nil {
		return err
	}
	d.Version++
	kept := HubChange{
		Hub: d.Hub, Device: d.ID, Spelled: d.DeviceID,
		Enabled: d.Enabled, Reason: d.StatusReason, StatusBy: d.StatusBy, StatusAt: d.StatusAt,
		Auth: w.seal(d.Hub, d.ID, d.Auth), Created: d.Created, Updated: w.at, Version: d.Version,
	}
	var door *Twin // what the door wrote before the registration took the device
	if rec.Change != nil {
		kept.IoTEdge, door = rec.Change.IoTEdge, rec.Change.Twin
	}
	if kept.IoTEdge == nil && d.IoTEdge {
		kept.IoTEdge = &d.IoTEdge
	}
	if err := rec.write(tx, kept); err != nil {
		return err
	}
	if rec.Twin != nil {
		if err := tx.PutHubTwin(d.Hub, d.ID, *rec.Twin, writtenVersion(door)); err != nil {
			return err
		}
	}
	return tx.Append(w.event(audit.HubDeviceKept, d))
}

// lasting is a pair without what stands only until its overlap ends: with the record goes
// whoever would end it.
func lasting(p rotation.Pair) rotation.Pair {
	for _, slot := range []rotation.Slot{rotation.Primary, rotation.Secondary} {
		if cell := p.Cell(slot); cell.State == rotation.Retiring {
			p = p.Drop(cell.Ref)
		}
	}
	return p
}

// write puts a change in the place of the one on record.
func (rec HubRecord) write(tx Tx, c HubChange) error {
	if rec.Change == nil {
		return tx.InsertHubChange(c)
	}
	return tx.UpdateHubChange(c, rec.Change.Version)
}

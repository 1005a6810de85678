package store

import (
	"slices"
	"strings"
	"time"

	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

var (
	hubDeviceColumns = cols("t hub, t device, t spelled, t registration, i enabled, t reason, t status_by, i status_at, " +
		"t auth, b primary_key, b secondary_key, t primary_thumbprint, t secondary_thumbprint, t operation, i iot_edge, " +
		"i created, i updated, i version")
	hubTwinColumns = cols("b tags, b desired, i twin_updated, i twin_version, i desired_version")
	twinColumns    = cols("b tags, b desired, i updated, i version, i desired_version")
)

// deviceKey is the device id of a registration r in lower case, as the index registrations_device has it.
const deviceKey = "(CASE WHEN r.alias = '' THEN r.id ELSE r.alias END)"

// Devices with a registration stand in registrations, those without in hub_devices. Each
// is asked by an index of its own, and the two orders are merged here.
var (
	registeredDevices = "SELECT " + registrationColumns.list("r.") + ", " + twinColumns.list("t.") + ", COALESCE(e.iot_edge, 0), " + deviceKey + ", " +
		hubDeviceColumns.list("h.") + ", " + hubTwinColumns.list("h.") + " FROM registrations r " +
		"LEFT JOIN twins t ON t.registration_id = r.id LEFT JOIN entries e ON e.kind = r.owner_kind AND e.id = r.owner_id " +
		"LEFT JOIN hub_devices h ON h.hub = r.hub AND h.device = " + deviceKey + " WHERE r.hub = ? AND " + deviceKey
	ownDevices = "SELECT " + hubDeviceColumns.list("") + ", " + hubTwinColumns.list("") + " FROM hub_devices WHERE registration = '' AND hub = ? AND device"

	selectRegisteredDevice = statement(registeredDevices + " = ?")
	selectOwnDevice        = statement(ownDevices + " = ?")
	listRegisteredDevices  = statement(registeredDevices + " > ? ORDER BY " + deviceKey + " LIMIT ?")
	listOwnDevices         = statement(ownDevices + " > ? ORDER BY device LIMIT ?")

	countDevices = statement("SELECT (SELECT count(*) FROM registrations WHERE hub = ?) + (SELECT count(*) FROM hub_devices WHERE registration = '' AND hub = ?), " +
		"(SELECT count(*) FROM hub_devices WHERE hub = ? AND enabled = 0)")

	insertHubDevice = statement("INSERT INTO hub_devices (" + hubDeviceColumns.list("") + ", twin_updated, twin_version, desired_version) VALUES (" +
		marks(len(hubDeviceColumns)) + ", 0, 0, 0)").unique(exists("device"))
	updateHubDevice = statement("UPDATE hub_devices SET " + set(hubDeviceColumns, "hub", "device") + " WHERE hub = ? AND device = ? AND version = ?").
			missed(stale("device"))
	deleteHubDevice = statement("DELETE FROM hub_devices WHERE hub = ? AND device = ?")
	dropPrimary     = statement(dropThumbprint("primary_thumbprint"))
	dropSecondary   = statement(dropThumbprint("secondary_thumbprint"))
	settleHubDevice = statement("UPDATE hub_devices SET registration = ? WHERE hub = ? AND device = ? AND registration = ''")
	carryHubTwin    = statement("INSERT INTO twins (registration_id, tags, desired, updated, version, desired_version) " +
		"SELECT registration, tags, desired, twin_updated, twin_version, desired_version FROM hub_devices " +
		"WHERE hub = ? AND device = ? AND registration <> '' AND tags IS NOT NULL ON CONFLICT (registration_id) DO NOTHING")
	updateHubTwin = statement("UPDATE hub_devices SET " + set(hubTwinColumns) + " WHERE hub = ? AND device = ? AND registration = '' AND twin_version = ?").
			missed(stale("twin"))
)

// dropThumbprint repeats the condition of the column's index, which is not used without.
func dropThumbprint(column string) string {
	return "UPDATE hub_devices SET " + column + " = '', updated = ?, version = version + 1 WHERE " + column + " = ? AND " + column + " <> ''"
}

func scanHubDevice(r *row) provisioning.HubChange {
	c := provisioning.HubChange{
		Hub: r.text(), Device: r.id(), Spelled: r.text(), Registration: r.id(),
		Enabled: r.bool(), Reason: r.text(), StatusBy: r.text(), StatusAt: r.time(),
		Auth: provisioning.SealedAuth{
			Type: provisioning.HubAuthType(r.text()), SealedKeys: [2][]byte{r.blob(), r.blob()}, Thumbprints: [2]string{r.text(), r.text()},
		},
		Operation: r.text(),
	}
	if edge := r.int(); edge >= 0 {
		on := edge != 0
		c.IoTEdge = &on
	}
	c.Created, c.Updated, c.Version = r.time(), r.time(), r.int()
	c.Twin = scanTwinIfAny(r)
	return c
}

// scanTwinIfAny reads twinColumns or hubTwinColumns of a row that may have none.
func scanTwinIfAny(r *row) *provisioning.Twin {
	none := r.values[r.next] == nil
	twin := scanTwin(r)
	if none {
		return nil
	}
	return &twin
}

func hubDeviceArgs(c provisioning.HubChange) []any {
	edge := int64(-1)
	if c.IoTEdge != nil {
		edge = flag(*c.IoTEdge)
	}
	return []any{
		c.Hub, c.Device.String(), c.Spelled, c.Registration.String(), flag(c.Enabled), c.Reason, c.StatusBy, micros(c.StatusAt),
		string(c.Auth.Type), orNull(c.Auth.SealedKeys[0]), orNull(c.Auth.SealedKeys[1]), c.Auth.Thumbprints[0], c.Auth.Thumbprints[1],
		c.Operation, edge, micros(c.Created), micros(c.Updated), c.Version,
	}
}

func scanRegisteredDevice(r *row) provisioning.HubRecord {
	reg := scanRegistration(r)
	rec := provisioning.HubRecord{Registration: &reg, Twin: scanTwinIfAny(r), IoTEdge: r.bool(), Device: r.id()}
	if r.values[r.next] != nil {
		c := scanHubDevice(r)
		rec.Change = &c
	}
	return rec
}

func scanOwnDevice(r *row) provisioning.HubRecord {
	c := scanHubDevice(r)
	return provisioning.HubRecord{Device: c.Device, Change: &c}
}

func (t *tx) HubRecord(hub string, device verify.RegistrationID) (provisioning.HubRecord, error) {
	for _, from := range []struct {
		s    *Stmt
		scan func(*row) provisioning.HubRecord
	}{{selectRegisteredDevice, scanRegisteredDevice}, {selectOwnDevice, scanOwnDevice}} {
		found, err := all(t, from.s, from.scan, hub, device.String())
		if err != nil || len(found) > 0 {
			return append(found, provisioning.HubRecord{})[0], err
		}
	}
	return provisioning.HubRecord{}, notFound("device")
}

func (t *tx) HubRecords(hub string, after verify.RegistrationID, limit int) ([]provisioning.HubRecord, error) {
	list, err := all(t, listRegisteredDevices, scanRegisteredDevice, hub, after.String(), atMost(limit))
	if err != nil {
		return nil, err
	}
	own, err := all(t, listOwnDevices, scanOwnDevice, hub, after.String(), atMost(limit))
	if err != nil {
		return nil, err
	}
	if len(own) > 0 {
		list = append(list, own...)
		slices.SortFunc(list, func(a, b provisioning.HubRecord) int { return strings.Compare(a.Device.String(), b.Device.String()) })
	}
	return list[:min(len(list), int(atMost(limit)))], nil
}

func (t *tx) HubCount(hub string) (total, disabled int64, err error) {
	err = t.query(countDevices, func(r *row) error {
		total, disabled = r.int(), r.int()
		return nil
	}, hub, hub, hub)
	return total, disabled, err
}

func (t *tx) InsertHubChange(c provisioning.HubChange) error {
	return t.exec(insertHubDevice, hubDeviceArgs(c)...)
}

func (t *tx) UpdateHubChange(c provisioning.HubChange, was int64) error {
	return t.exec(updateHubDevice, append(hubDeviceArgs(c)[2:], c.Hub, c.Device.String(), was)...)
}

func (t *tx) ForgetHubChange(hub string, device verify.RegistrationID) error {
	if err := t.exec(carryHubTwin, hub, device.String()); err != nil {
		return err
	}
	return t.exec(deleteHubDevice, hub, device.String())
}

func (t *tx) SettleHubChange(hub string, device, registration verify.RegistrationID) error {
	return t.exec(settleHubDevice, registration.String(), hub, device.String())
}

func (t *tx) DropHubThumbprint(thumbprint string, at time.Time) error {
	if err := t.exec(dropPrimary, micros(at), thumbprint); err != nil {
		return err
	}
	return t.exec(dropSecondary, micros(at), thumbprint)
}

func (t *tx) PutHubTwin(hub string, device verify.RegistrationID, twin provisioning.Twin, was int64) error {
	return t.exec(updateHubTwin, octets(twin.Tags), octets(twin.Desired), micros(twin.Updated), twin.Version, twin.DesiredVersion,
		hub, device.String(), was)
}

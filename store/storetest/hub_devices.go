package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

const hubA, hubB = "a.example", "b.example"

func hubDevices(t *testing.T, open Open) {
	t.Run("a change keeps every field and obeys its version", wholeHubChange(open))
	t.Run("a device is found under its name on its hub, whoever made it", foundHubDevices(open))
	t.Run("devices are listed and counted, registered ones and others in one order", listedHubDevices(open))
	t.Run("a change ends when its registration leaves the hub", forgottenHubChanges(open))
	t.Run("a device made at the door becomes that of the registration that takes its name", settledHubDevices(open))
	t.Run("a device goes on when the record of its registration goes", keptHubDevices(open))
	t.Run("a thumbprint is taken from every device that has it", droppedThumbprints(open))
	t.Run("a twin is written over the version it was read at, and over no other", twinVersions(open))
}

// hubDevice is a device made at the door, with its ledger row.
func (w *world) hubDevice(hub, device string) provisioning.HubChange {
	w.Helper()
	c := provisioning.HubChange{
		Hub: hub, Device: w.id(device), Spelled: device, Enabled: true, StatusAt: w.now,
		Auth: provisioning.SealedAuth{Type: provisioning.HubNoAuth}, Created: w.now, Updated: w.now, Version: 1,
	}
	w.changeHub(c)
	return c
}

func (w *world) changeHub(c provisioning.HubChange) {
	w.Helper()
	w.update(func(tx provisioning.Tx) error {
		if err := tx.InsertHubChange(c); err != nil {
			return err
		}
		return tx.Append(w.note(audit.HubDeviceCreated, "hub-device:"+c.Hub+"/"+c.Device.String()))
	})
}

func (w *world) hubRecord(hub, device string) provisioning.HubRecord {
	w.Helper()
	return view(w, func(tx provisioning.Tx) (provisioning.HubRecord, error) { return tx.HubRecord(hub, w.id(device)) })
}

func (w *world) noHubRecord(hub, device string) {
	w.Helper()
	absent(w, func(tx provisioning.Tx) (provisioning.HubRecord, error) { return tx.HubRecord(hub, w.id(device)) })
}

func wholeHubChange(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		on, off := true, false
		first := provisioning.HubChange{
			Hub: hubA, Device: w.id("pump"), Spelled: "Pump", Enabled: true, StatusAt: w.now,
			Auth:    provisioning.SealedAuth{Type: provisioning.HubSAS, SealedKeys: [2][]byte{[]byte("one"), []byte("two")}},
			IoTEdge: &on, Created: w.now, Updated: w.now, Version: 7,
		}
		second := first
		second.Enabled, second.Reason, second.StatusBy, second.StatusAt = false, "stolen", "policy:x", w.now.Add(time.Second)
		second.Auth = provisioning.SealedAuth{Type: provisioning.HubSelfSigned, Thumbprints: [2]string{strings.Repeat("A", 40), strings.Repeat("B", 64)}}
		second.Operation, second.IoTEdge, second.Updated, second.Version = "op", &off, w.now.Add(time.Second), 8
		w.noHubRecord(hubA, "pump")
		w.refused(fault.PreconditionFailed, "", func(tx provisioning.Tx) error { return tx.UpdateHubChange(first, 7) })
		w.changeHub(first)
		same(w, *w.hubRecord(hubA, "PUMP").Change, first)
		w.refused(fault.Conflict, "device-exists", func(tx provisioning.Tx) error { return tx.InsertHubChange(second) })
		w.refused(fault.PreconditionFailed, "device-changed", func(tx provisioning.Tx) error { return tx.UpdateHubChange(second, 6) })
		same(w, *w.hubRecord(hubA, "pump").Change, first)
		w.update(func(tx provisioning.Tx) error { return tx.UpdateHubChange(second, 7) })
		same(w, *w.hubRecord(hubA, "pump").Change, second)
		third := second
		third.IoTEdge, third.Version = nil, 9
		w.update(func(tx provisioning.Tx) error { return tx.UpdateHubChange(third, 8) })
		same(w, *w.hubRecord(hubA, "pump").Change, third)
		for range 2 {
			w.update(func(tx provisioning.Tx) error { return tx.ForgetHubChange(hubA, third.Device) })
			w.noHubRecord(hubA, "pump")
		}
		Check(t, w.db)
	}
}

func foundHubDevices(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		edge := w.entry(w.individual("dev-1"), key("k", rotation.Primary))
		edge.IoTEdge = true
		w.enroll(edge)
		plain, named := w.assigned("dev-1", hubA, "Dev-1", edge.Owner), w.assigned("dev-2", hubA, "Pump", provisioning.Owner{})
		w.put(plain)
		w.put(named)
		w.put(w.registration("dev-3", provisioning.Owner{}))
		own := w.hubDevice(hubA, "Own")
		twin := provisioning.Twin{Tags: []byte(`{}`), Desired: []byte(`{"a":1}`), Updated: w.now, Version: 1, DesiredVersion: 1}
		w.update(func(tx provisioning.Tx) error { return tx.PutTwin(plain.ID, twin) })

		same(w, w.hubRecord(hubA, "dev-1"), provisioning.HubRecord{Device: plain.ID, Registration: &plain, Twin: &twin, IoTEdge: true})
		same(w, w.hubRecord(hubA, "pump"), provisioning.HubRecord{Device: w.id("pump"), Registration: &named})
		same(w, w.hubRecord(hubA, "own"), provisioning.HubRecord{Device: own.Device, Change: &own})
		over := own
		over.Device, over.Registration, over.Enabled, over.Auth = w.id("pump"), named.ID, false, provisioning.SealedAuth{}
		w.changeHub(over)
		same(w, w.hubRecord(hubA, "pump"), provisioning.HubRecord{Device: over.Device, Registration: &named, Change: &over})
		for _, absent := range [][2]string{{hubB, "dev-1"}, {hubA, "dev-2"}, {hubA, "dev-3"}, {hubB, "own"}} {
			w.noHubRecord(absent[0], absent[1])
		}
		Check(t, w.db)
	}
}

func listedHubDevices(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		for i := range 4 {
			w.put(w.assigned(fmt.Sprintf("dev-%d", i), hubA, fmt.Sprintf("dev-%d", i), provisioning.Owner{}))
		}
		w.put(w.assigned("other", hubB, "other", provisioning.Owner{}))
		w.put(w.assigned("zebra", hubA, "Dev-11", provisioning.Owner{}))
		w.hubDevice(hubA, "Dev-12")
		off := w.hubDevice(hubA, "aaa")
		off.Enabled, off.Version = false, 2
		w.update(func(tx provisioning.Tx) error { return tx.UpdateHubChange(off, 1) })
		w.hubDevice(hubB, "bbb")

		want := []string{"aaa", "dev-0", "dev-1", "dev-11", "dev-12", "dev-2", "dev-3"}
		names := func(hub, after string, limit int) (out []string) {
			from := verify.RegistrationID{}
			if after != "" {
				from = w.id(after)
			}
			for _, r := range view(w, func(tx provisioning.Tx) ([]provisioning.HubRecord, error) { return tx.HubRecords(hub, from, limit) }) {
				out = append(out, r.Device.String())
			}
			return out
		}
		same(w, names(hubA, "", 0), want)
		same(w, names(hubB, "", 0), []string{"bbb", "other"})
		same(w, names("c.example", "", 0), nil)
		for size := 1; size <= len(want); size++ {
			var got []string
			for after := ""; ; after = got[len(got)-1] {
				page := names(hubA, after, size)
				if got = append(got, page...); len(page) < size {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("in pages of %d: %v, want %v", size, got, want)
			}
		}
		for hub, counts := range map[string][2]int64{hubA: {7, 1}, hubB: {2, 0}, "c.example": {0, 0}} {
			got := view(w, func(tx provisioning.Tx) (n [2]int64, err error) {
				n[0], n[1], err = tx.HubCount(hub)
				return n, err
			})
			same(w, got, counts)
		}
		if _, devices, err := hubUse(w, hubA); err != nil || devices != 7 {
			t.Errorf("%d devices use the hub (%v), want 7", devices, err)
		}
		Check(t, w.db)
	}
}

func hubUse(w *world, hub string) (entries, devices int64, err error) {
	err = w.store.View(bg, func(tx provisioning.Tx) error {
		entries, devices, err = tx.HubUse(hub)
		return err
	})
	return entries, devices, err
}

func forgottenHubChanges(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		reg := w.assigned("dev-1", hubA, "dev-1", provisioning.Owner{})
		w.put(reg)
		w.changeHub(provisioning.HubChange{Hub: hubA, Device: reg.ID, Spelled: "dev-1", Registration: reg.ID, StatusAt: w.now, Created: w.now, Updated: w.now, Version: 1})
		w.update(func(tx provisioning.Tx) error {
			moved, err := tx.Registration(reg.ID)
			if err != nil {
				return err
			}
			moved.Hub, moved.Version = hubB, 2
			if err := tx.ForgetHubChange(hubA, reg.ID); err != nil {
				return err
			}
			return tx.PutRegistration(moved)
		})
		w.noHubRecord(hubA, "dev-1")
		if rec := w.hubRecord(hubB, "dev-1"); rec.Change != nil || rec.Registration.Hub != hubB {
			t.Errorf("on the new hub: %+v", rec)
		}
		Check(t, w.db)
	}
}

func settledHubDevices(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		twin := provisioning.Twin{Tags: []byte(`{"a":1}`), Desired: []byte(`{}`), Updated: w.now, Version: 1, DesiredVersion: 1}
		for _, device := range []string{"dev-1", "dev-2", "dev-3"} {
			c := w.hubDevice(hubA, device)
			w.update(func(tx provisioning.Tx) error { return tx.PutHubTwin(hubA, c.Device, twin, 0) })
		}
		registered := twin
		registered.Desired = []byte(`{"b":2}`)
		for _, device := range []string{"dev-1", "dev-2"} {
			w.update(func(tx provisioning.Tx) error {
				if err := tx.SettleHubChange(hubA, w.id(device), w.id(device)); err != nil {
					return err
				}
				return tx.PutRegistration(w.assigned(device, hubA, device, provisioning.Owner{}))
			})
		}
		w.update(func(tx provisioning.Tx) error { return tx.SettleHubChange(hubB, w.id("dev-3"), w.id("dev-3")) })
		w.update(func(tx provisioning.Tx) error { return tx.PutTwin(w.id("dev-2"), registered) })
		same(w, w.hubRecord(hubA, "dev-1").Change.Twin, &twin)
		if c := w.hubRecord(hubA, "dev-3").Change; !c.Registration.IsZero() {
			t.Errorf("dev-3 was settled on another hub: %+v", c)
		}
		Check(t, w.db)
		w.refused(fault.PreconditionFailed, "twin-changed", func(tx provisioning.Tx) error { return tx.PutHubTwin(hubA, w.id("dev-1"), twin, 1) })
		for device, want := range map[string]provisioning.Twin{"dev-1": twin, "dev-2": registered} {
			w.update(func(tx provisioning.Tx) error { return tx.ForgetHubChange(hubA, w.id(device)) })
			same(w, view(w, func(tx provisioning.Tx) (provisioning.Twin, error) { return tx.Twin(w.id(device)) }), want)
		}
		w.update(func(tx provisioning.Tx) error { return tx.ForgetHubChange(hubA, w.id("dev-3")) })
		absent(w, func(tx provisioning.Tx) (provisioning.Twin, error) { return tx.Twin(w.id("dev-3")) })
	}
}

func keptHubDevices(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		reg := w.assigned("dev-1", hubA, "Pump", provisioning.Owner{})
		w.put(reg)
		over := provisioning.HubChange{
			Hub: hubA, Device: w.id("pump"), Spelled: "Pump", Registration: reg.ID, StatusAt: w.now, Created: w.now, Updated: w.now, Version: 1,
		}
		w.changeHub(over)
		first := provisioning.Twin{Tags: []byte(`{"a":1}`), Desired: []byte(`{}`), Updated: w.now, Version: 1, DesiredVersion: 1}
		w.update(func(tx provisioning.Tx) error { return tx.PutTwin(reg.ID, first) })
		kept := over
		kept.Registration, kept.Auth, kept.Version = verify.RegistrationID{}, provisioning.SealedAuth{Type: provisioning.HubSAS}, 9
		w.update(func(tx provisioning.Tx) error {
			for _, err := range []error{
				tx.UpdateHubChange(kept, 1), tx.PutHubTwin(hubA, kept.Device, first, 0), tx.DeleteTwin(reg.ID), tx.DeleteRegistration(reg.ID, reg.Version),
			} {
				if err != nil {
					return err
				}
			}
			return tx.Append(w.note(audit.HubDeviceKept, "hub-device:"+hubA+"/pump"))
		})
		kept.Twin = &first
		same(w, w.hubRecord(hubA, "pump"), provisioning.HubRecord{Device: kept.Device, Change: &kept})
		if _, devices, err := hubUse(w, hubA); err != nil || devices != 1 {
			t.Errorf("%d devices use the hub (%v), want 1", devices, err)
		}
		Check(t, w.db)
	}
}

func droppedThumbprints(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		ours, other := strings.Repeat("A", 64), strings.Repeat("B", 64)
		for device, has := range map[string][2]string{
			"first": {ours, other}, "second": {other, ours}, "both": {ours, ours}, "neither": {other}, "none": {},
		} {
			w.changeHub(provisioning.HubChange{
				Hub: hubA, Device: w.id(device), Spelled: device, Enabled: true, StatusAt: w.now, Created: w.now, Updated: w.now, Version: 1,
				Auth: provisioning.SealedAuth{Type: provisioning.HubSelfSigned, Thumbprints: has},
			})
		}
		later := w.now.Add(time.Second)
		w.update(func(tx provisioning.Tx) error { return tx.DropHubThumbprint(ours, later) })
		for device, want := range map[string][2]string{
			"first": {"", other}, "second": {other, ""}, "both": {}, "neither": {other}, "none": {},
		} {
			c := w.hubRecord(hubA, device).Change
			if touched := device != "neither" && device != "none"; c.Auth.Thumbprints != want || touched != (c.Version > 1) || touched != c.Updated.Equal(later) {
				t.Errorf("%s has %v, version %d of %s", device, c.Auth.Thumbprints, c.Version, c.Updated)
			}
		}
		Check(t, w.db)
	}
}

func twinVersions(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		own := w.hubDevice(hubA, "own")
		for name, home := range map[string]struct {
			write func(provisioning.Tx, provisioning.Twin, int64) error
			read  func(provisioning.Tx) (provisioning.Twin, error)
		}{
			"of a registration": {
				func(tx provisioning.Tx, twin provisioning.Twin, was int64) error {
					return tx.UpdateTwin(w.id("dev-1"), twin, was)
				},
				func(tx provisioning.Tx) (provisioning.Twin, error) { return tx.Twin(w.id("dev-1")) },
			},
			"of a device made at the door": {
				func(tx provisioning.Tx, twin provisioning.Twin, was int64) error {
					return tx.PutHubTwin(hubA, own.Device, twin, was)
				},
				func(tx provisioning.Tx) (provisioning.Twin, error) {
					rec, err := tx.HubRecord(hubA, own.Device)
					if err != nil {
						return provisioning.Twin{}, err
					}
					return *rec.Change.Twin, nil
				},
			},
		} {
			t.Log(name)
			first := provisioning.Twin{Tags: []byte(`{}`), Desired: []byte(`{"a":1}`), Updated: w.now, Version: 1, DesiredVersion: 1}
			second := provisioning.Twin{Tags: []byte(`{"b":1}`), Desired: []byte(`{}`), Updated: w.now.Add(time.Second), Version: 2, DesiredVersion: 2}
			w.refused(fault.PreconditionFailed, "twin-changed", func(tx provisioning.Tx) error { return home.write(tx, second, 1) })
			w.update(func(tx provisioning.Tx) error { return home.write(tx, first, 0) })
			same(w, view(w, home.read), first)
			w.refused(fault.PreconditionFailed, "twin-changed", func(tx provisioning.Tx) error { return home.write(tx, second, 0) })
			w.refused(fault.PreconditionFailed, "twin-changed", func(tx provisioning.Tx) error { return home.write(tx, second, 2) })
			same(w, view(w, home.read), first)
			w.update(func(tx provisioning.Tx) error { return home.write(tx, second, 1) })
			same(w, view(w, home.read), second)
		}
		if rec := w.hubRecord(hubA, "own"); rec.Change.Version != own.Version {
			t.Errorf("a twin changed the version of its device to %d", rec.Change.Version)
		}
	}
}

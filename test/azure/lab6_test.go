package azure_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/passmuster/muster/internal/testkit"
)

const (
	byCertificate = "register: certificate of a group, with its intermediates"
	disabled      = "refused: disabled"
)

// lab6 is five devices of a CA and their group, from the upload of the CA to their end
// of life, with certificates as a sample script makes them.
func (w *world) lab6(t *testing.T, transport string, s shape) {
	f := newFactory(t, s)
	ca, group := "lab6-"+transport, "grp-thl-"+transport
	var ids []string
	devices := map[string]object{}
	for n := range 5 {
		id := fmt.Sprintf("sensor-thl-200%d-%s", n, transport)
		ids = append(ids, id)
		devices[id] = f.device(t, id)
	}
	assigned := func(id string) {
		t.Helper()
		var got state
		w.device(t, transport, byCertificate, devices[id]).gives(&got)
		if got.Status != "assigned" || got.DeviceID != id {
			t.Fatalf("%s was told %+v", id, got)
		}
	}
	refused := func(id string) {
		t.Helper()
		w.turnsAway(t, transport, disabled, devices[id])
	}
	members := func() []string {
		t.Helper()
		var pages [][]state
		w.service(t, "createEnrollmentGroupDeviceRegistrationStateQuery", object{"query": "SELECT * FROM registrations"}, group, 2).gives(&pages)
		return registered(pages)
	}
	enrollment := object{
		"enrollmentGroupId": group, "initialTwin": initialTwin("1"),
		"attestation": object{"type": "x509", "x509": object{"caReferences": object{"primary": ca}}},
	}
	read := func() (entry object) {
		t.Helper()
		w.service(t, groups.get, group).gives(&entry)
		return entry
	}

	// A CA vouches for nothing until its owner has proved to be the owner.
	w.turnsAway(t, transport, "refused: certificate of a CA that is not verified", devices[ids[0]])
	w.service(t, groups.put, enrollment).fails(400, "ArgumentError")
	uploaded := w.prove(t, ca, f)
	w.service(t, groups.put, enrollment).gives(nil)

	// Members are found, not listed.
	if got := members(); len(got) != 0 {
		t.Errorf("the group has %v", got)
	}
	for _, id := range ids {
		assigned(id)
	}
	if got := members(); !slices.Equal(got, ids) {
		t.Errorf("the group has %v, want %v", got, ids)
	}
	var twin hubTwin
	w.registry(t, "getTwin", ids[0]).gives(&twin)
	wantDelay(t, twin, "1")

	// One of them is shut out, with its certificate at hand and without; it comes back
	// when the entry that says so goes.
	attestations := []object{clientCertificate(devices[ids[0]]["cert"].(string)), {"type": "symmetricKey"}}
	for n, a := range attestations {
		w.service(t, individuals.put, object{"registrationId": ids[n], "attestation": a, "provisioningStatus": "disabled"}).gives(nil)
		refused(ids[n])
		assigned(ids[2])
		w.registry(t, "delete", ids[n]).gives(nil)
		refused(ids[n])
		w.service(t, individuals.remove, ids[n]).gives(nil)
		assigned(ids[n])
	}

	// The group is shut out, and let in again.
	w.service(t, groups.put, with(read(), "provisioningStatus", "disabled")).gives(nil)
	for _, id := range ids[:2] {
		refused(id)
	}
	w.service(t, groups.put, with(read(), "provisioningStatus", "enabled")).gives(nil)
	assigned(ids[0])

	// Deprovisioned: the group goes, the hub's devices and the records do not by themselves.
	w.service(t, groups.remove, group).gives(nil)
	w.turnsAway(t, transport, "refused: certificate of a CA without a group", devices[ids[0]])
	var gone []object
	for _, id := range ids {
		w.registry(t, "get", id).gives(nil)
		gone = append(gone, object{"deviceId": id})
	}
	w.registry(t, "removeDevices", gone, true).gives(nil)
	w.registry(t, "getTwin", ids[0]).fails(404, "DeviceNotFoundError")
	for _, id := range ids {
		w.service(t, "getDeviceRegistrationState", id).gives(nil)
		w.service(t, "deleteDeviceRegistrationState", id).gives(nil)
		w.service(t, "getDeviceRegistrationState", id).fails(404, "Error")
	}
	w.certificates(t, "delete", resourceGroup, uploaded.ETag, serviceName, ca).gives(nil)
}

// nearest is what lab 6 says of groups above each other: the one nearest the device
// decides, and when it is deleted the next one does.
func (w *world) nearest(t *testing.T, transport string) {
	name := func(s string) string { return s + "-" + transport }
	chain := testkit.Chain(t, name("corp")+" > "+name("east")+" > "+name("rack"))
	d := identityOf(t, chain.Get(name("rack")))
	w.admit(t, name("corp"), authorityOf(t, chain.Get(name("corp"))))
	w.device(t, transport, byCertificate, d).gives(nil)
	near := object{"enrollmentGroupId": name("east"), "attestation": signingCertificate(string(chain.Get(name("east")).PEM()))}
	w.service(t, groups.put, with(near, "provisioningStatus", "disabled")).gives(nil)
	w.turnsAway(t, transport, disabled, d)
	w.service(t, groups.remove, name("east")).gives(nil)
	w.device(t, transport, byCertificate, d).gives(nil)
}

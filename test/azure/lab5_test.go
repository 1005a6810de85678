package azure_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/passmuster/muster/internal/testkit"
)

// lab5 is one device with an enrollment of its own, from its enrollment to its end of
// life, as its owner does it with the service client, the device client and the registry.
func (w *world) lab5(t *testing.T, transport string) {
	id := "sensor-thl-1000-" + transport
	read := func() (enrollment object) {
		t.Helper()
		w.service(t, individuals.get, id).gives(&enrollment)
		return enrollment
	}
	twin := func() (twin hubTwin) {
		t.Helper()
		w.registry(t, "getTwin", id).gives(&twin)
		return twin
	}
	enroll := func(edge bool) (enrollment object, keys [2]string) {
		t.Helper()
		w.service(t, individuals.put, object{
			"registrationId": id, "deviceId": id, "attestation": object{"type": "symmetricKey"}, "capabilities": object{"iotEdge": edge},
			"initialTwin": initialTwin("2"),
		}).gives(&enrollment)
		return enrollment, w.keysOf(t, individuals, id)
	}
	register := func(key string) call {
		t.Helper()
		return w.device(t, transport, "register: symmetric key of an enrollment", object{"registrationId": id, "key": key})
	}
	refused := func(key string) {
		t.Helper()
		w.turnsAway(t, transport, "refused: another key", object{"registrationId": id, "key": key})
	}
	assigned := func(key, substatus string) {
		t.Helper()
		var s state
		register(key).gives(&s)
		if s.Status != "assigned" || s.DeviceID != id || s.Substatus != substatus {
			t.Fatalf("it was told %+v, want %s", s, substatus)
		}
	}

	// An enrollment is a record of what may register, and nothing else yet.
	enrollment, keys := enroll(false)
	if enrollment["allocationPolicy"] != "hashed" || enrollment["registrationState"] != nil {
		t.Errorf("enrolled %v", enrollment)
	}
	w.service(t, "getDeviceRegistrationState", id).fails(404, "Error")
	w.registry(t, "get", id).fails(404, "DeviceNotFoundError")

	// The device knows the address, the id scope and its key.
	refused(base64.StdEncoding.EncodeToString(ownKey))
	assigned(keys[0], "initialAssignment")
	var device hubDevice
	w.registry(t, "get", id).gives(&device)
	if device.Status != "enabled" || device.Capabilities.IotEdge || device.Authentication.SymmetricKey.PrimaryKey != keys[0] {
		t.Errorf("at the hub it is %+v", device)
	}
	wantDelay(t, twin(), "2")
	if read()["registrationState"] == nil {
		t.Error("the enrollment does not show its registration")
	}

	// What is changed at the hub stays there; what is changed here is for newcomers.
	w.registry(t, "updateTwin", id, object{"properties": object{"desired": object{"telemetryDelay": "5"}}}, twin().ETag).gives(nil)
	assigned(keys[1], "reprovisionedToInitialAssignment")
	wantDelay(t, twin(), "5")
	w.service(t, individuals.put, with(read(), "initialTwin", initialTwin("9"))).gives(nil)
	wantDelay(t, twin(), "5")
	if got := w.keysOf(t, individuals, id); got != keys {
		t.Errorf("the keys changed from %v to %v", keys, got)
	}

	// A second enrollment may not take its place at the hub.
	w.service(t, individuals.put, object{"registrationId": id + "-2", "deviceId": id, "attestation": symmetric(ownKey, spareKey)}).gives(nil)
	w.takesNoOthersPlace(t, transport, withKey(id+"-2", ownKey))
	w.service(t, individuals.remove, id+"-2").gives(nil)
	wantDelay(t, twin(), "5")

	// Disabled, it can register no more; at the hub it goes on.
	w.service(t, individuals.put, with(read(), "provisioningStatus", "disabled")).gives(nil)
	refused(keys[0])
	w.registry(t, "get", id).gives(&device)
	if device.Status != "enabled" {
		t.Errorf("at the hub it is %+v", device)
	}
	w.service(t, individuals.put, with(read(), "provisioningStatus", "enabled")).gives(nil)

	// Deleted at the hub alone, it comes back.
	w.registry(t, "delete", id).gives(nil)
	register(keys[0]).gives(nil)
	w.registry(t, "get", id).gives(nil)

	// Deprovisioned: out of the enrollments, and out of the hub.
	w.service(t, individuals.remove, id).gives(nil)
	w.registry(t, "delete", id).gives(nil)
	refused(keys[0])
	w.registry(t, "getTwin", id).fails(404, "DeviceNotFoundError")

	// The same id begins anew, and nothing of the old one is left.
	_, again := enroll(true)
	if again[0] == keys[0] {
		t.Error("the new enrollment has the old key")
	}
	refused(keys[0])
	assigned(again[0], "initialAssignment")
	wantDelay(t, twin(), "2")
	w.registry(t, "get", id).gives(&device)
	if !device.Capabilities.IotEdge {
		t.Errorf("at the hub it is %+v", device)
	}
	w.service(t, individuals.remove, id).gives(nil)
	w.registry(t, "delete", id).gives(nil)
	w.service(t, "deleteDeviceRegistrationState", id).gives(nil)
}

// roll is a device that gets a new certificate: it keeps its hub and its twin, and the hub
// knows the new one.
func (w *world) roll(t *testing.T, transport string) {
	id := "sensor-thl-1001-" + transport
	before, after := testkit.SelfSigned(t, id), testkit.SelfSigned(t, id)
	first := object{"certificate": string(before.PEM())}
	attested := func(secondary any) object {
		slots := object{"primary": first}
		if secondary != nil {
			slots["secondary"] = secondary
		}
		return object{"type": "x509", "x509": object{"clientCertificates": slots}}
	}
	register := func(as *testkit.Entity, substatus string) {
		t.Helper()
		var s state
		w.device(t, transport, "register: self-signed certificate of an enrollment", identityOf(t, as)).gives(&s)
		var d hubDevice
		w.registry(t, "get", id).gives(&d)
		if want := fmt.Sprintf("%X", sha256.Sum256(as.Cert.Raw)); s.Substatus != substatus || d.Authentication.X509Thumbprint.Primary != want {
			t.Errorf("it was told %+v, and its hub knows %+v, want %s and %s", s, d.Authentication, substatus, want)
		}
	}
	var enrollment object
	w.service(t, individuals.put, object{"registrationId": id, "attestation": attested(nil), "initialTwin": initialTwin("2")}).gives(&enrollment)
	register(before, "initialAssignment")
	w.service(t, individuals.put, with(enrollment, "attestation", attested(object{"certificate": string(after.PEM())}))).gives(nil)
	register(after, "reprovisionedToInitialAssignment")
	var twin hubTwin
	w.registry(t, "getTwin", id).gives(&twin)
	wantDelay(t, twin, "2")
}

func initialTwin(delay string) object {
	return object{"tags": object{"lab": true}, "properties": object{"desired": object{"telemetryDelay": delay}}}
}

func wantDelay(t *testing.T, twin hubTwin, want string) {
	t.Helper()
	if twin.Properties.Desired["telemetryDelay"] != want || twin.Tags["lab"] != true {
		t.Errorf("the twin is %+v, want a delay of %s", twin, want)
	}
}

// turnsAway wants a device to be refused as every device is.
func (w *world) turnsAway(t *testing.T, transport, what string, d object) {
	t.Helper()
	want := unauthorized
	if transport != "https" {
		want = notConnected
	}
	w.device(t, transport, what, d).fails(want.status, want.as)
}

// takesNoOthersPlace wants a device to be told that its registration failed.
func (w *world) takesNoOthersPlace(t *testing.T, transport string, d object) {
	t.Helper()
	w.device(t, transport, "failed: its device id belongs to another", d).fails(202, "ProvisioningRegistrationFailedError")
}

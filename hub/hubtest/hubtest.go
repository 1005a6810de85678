// Package hubtest holds every driver of hubs to the same behaviour, and has small real hubs: a
// receiver of webhooks and an IoT Hub.
//
// It is test support: only _test.go files import it.
package hubtest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// Hub is a hub under test, as its own operator sees it.
type Hub interface {
	// Access is how it is reached.
	Access() provisioning.HubAccess
	// Device is what it holds of a device; false: nothing.
	Device(id string) (Device, bool)
}

// Keyless is a [Hub] that takes no symmetric keys: a device that comes with some is refused,
// and what it came with before is shut out.
type Keyless interface{ Keyless() }

// Device is what a hub holds. Credentials are in the order of the slots, in the forms of
// the wire: keys in base64, thumbprints in hex.
type Device struct {
	Enabled     bool
	IoTEdge     bool
	Type        provisioning.HubAuthType
	Keys        [2]string
	Thumbprints [2]string
}

// Memory is what a kind of hub knows of a device that was removed.
type Memory bool

// The memories.
const (
	RemembersRemoved Memory = true  // what comes late brings nothing back
	ForgetsRemoved   Memory = false // what comes late brings it back, as the hub has no place for a generation
)

// Run is the conformance suite of a driver. Each call of open makes an empty hub.
func Run(t *testing.T, driver provisioning.HubDriver, memory Memory, open func(testing.TB) Hub) {
	id, err := verify.ParseRegistrationID("press-01")
	if err != nil {
		t.Fatal(err)
	}
	const name = "Press-01"
	a, b := thumbprint('A'), thumbprint('B')
	first := provisioning.HubIdentity{
		Hub: "hub-1.example.net", DeviceID: name, RegistrationID: id, Generation: 1_700_000_000_000, Present: true, Enabled: true,
		Auth: provisioning.HubAuth{Type: provisioning.HubSelfSigned, Thumbprints: [2]string{a, ""}},
	}
	at := func(step int64, edits ...func(*provisioning.HubIdentity)) provisioning.HubIdentity {
		want := first
		want.Generation += step
		for _, edit := range edits {
			edit(&want)
		}
		return want
	}
	both := func(i *provisioning.HubIdentity) { i.Auth.Thumbprints = [2]string{a, b} }
	disabled := func(i *provisioning.HubIdentity) { i.Enabled = false }
	edge := func(i *provisioning.HubIdentity) { i.IoTEdge = true }
	keys := func(i *provisioning.HubIdentity) {
		i.Auth = provisioning.HubAuth{Type: provisioning.HubSAS, Keys: [2]verify.Secret{rotation.Primary: verify.NewSecret([]byte("sixteen octets 1")), rotation.Secondary: verify.NewSecret([]byte("sixteen octets 2"))}}
	}
	unknown := func(i *provisioning.HubIdentity) { i.Auth = provisioning.HubAuth{Type: provisioning.HubSAS} }
	gone := func(i *provisioning.HubIdentity) {
		*i = provisioning.HubIdentity{Hub: i.Hub, DeviceID: i.DeviceID, RegistrationID: i.RegistrationID, Generation: i.Generation}
	}

	selfSigned := func(primary, secondary string) *Device {
		return &Device{Enabled: true, Type: provisioning.HubSelfSigned, Thumbprints: [2]string{primary, secondary}}
	}
	keyed := &Device{Enabled: true, Type: provisioning.HubSAS, Keys: [2]string{"c2l4dGVlbiBvY3RldHMgMQ==", "c2l4dGVlbiBvY3RldHMgMg=="}}
	off, edged := selfSigned(a, ""), selfSigned(a, "")
	off.Enabled, edged.IoTEdge = false, true
	var late *Device
	if memory == ForgetsRemoved {
		late = selfSigned(a, b)
	}

	for _, c := range []struct {
		name string
		says []provisioning.HubIdentity
		want *Device // nil: there is none
	}{
		{"a device comes", []provisioning.HubIdentity{at(0)}, selfSigned(a, "")},
		{"said again it is the same", []provisioning.HubIdentity{at(0), at(0), at(1)}, selfSigned(a, "")},
		{"both certificates stand through a roll", []provisioning.HubIdentity{at(0), at(1, both)}, selfSigned(a, b)},
		{"a certificate that is retired goes", []provisioning.HubIdentity{at(0), at(1, both), at(2)}, selfSigned(a, "")},
		{"a device is disabled", []provisioning.HubIdentity{at(0), at(1, disabled)}, off},
		{"a device is enabled again", []provisioning.HubIdentity{at(0), at(1, disabled), at(2)}, selfSigned(a, "")},
		{"a device is an edge device", []provisioning.HubIdentity{at(0), at(1, edge)}, edged},
		{"keys take the place of certificates", []provisioning.HubIdentity{at(0), at(1, keys)}, keyed},
		{"keys that are not known here stay", []provisioning.HubIdentity{at(0, keys), at(1, unknown)}, keyed},
		{"a device goes", []provisioning.HubIdentity{at(0), at(1, gone)}, nil},
		{"a device that is not there goes", []provisioning.HubIdentity{at(0, gone), at(1, gone)}, nil},
		{"a device comes back", []provisioning.HubIdentity{at(0), at(1, gone), at(2, both)}, selfSigned(a, b)},
		{"what comes late changes nothing", []provisioning.HubIdentity{at(2, both), at(1), at(0, gone)}, selfSigned(a, b)},
		{"what comes late behind a removal", []provisioning.HubIdentity{at(0), at(2, gone), at(1, both)}, late},
	} {
		t.Run(c.name, func(t *testing.T) {
			hub := open(t)
			if _, keyless := hub.(Keyless); keyless && c.want == keyed {
				shutsOut(t, driver, hub, c.says)
				return
			}
			if err := driver.Test(t.Context(), hub.Access()); err != nil {
				t.Fatal(err)
			}
			for _, want := range c.says {
				if err := errors.Join(driver.Apply(t.Context(), hub.Access(), []provisioning.HubIdentity{want})...); err != nil {
					t.Fatal(err)
				}
			}
			holds(t, hub, name, c.want)
		})
	}

	t.Run("many devices at once", func(t *testing.T) {
		hub := open(t)
		as := func(name string, step int64, edits ...func(*provisioning.HubIdentity)) provisioning.HubIdentity {
			want := at(step, edits...)
			want.DeviceID = name
			if want.RegistrationID, err = verify.ParseRegistrationID(name); err != nil {
				t.Fatal(err)
			}
			return want
		}
		var all []provisioning.HubIdentity
		for i := range 7 {
			all = append(all, as(fmt.Sprintf("Press-1%d", i), 0))
		}
		tellAll(t, driver, hub, all)
		tells := []provisioning.HubIdentity{
			as("Press-10", 1, disabled), as("Press-11", 1, gone), as("Press-12", -1, gone), as("Press-13", 1, keys), as("Press-14", -1, disabled),
			as("Press-15", 0), as("Press-16", 1, both), as("Press-17", 0, edge), as("Press-18", 0, gone), as("Press-19", 0, keys),
		}
		wants, count := map[string]*Device{
			"Press-10": off, "Press-11": nil, "Press-12": selfSigned(a, ""), "Press-13": keyed, "Press-14": selfSigned(a, ""),
			"Press-15": selfSigned(a, ""), "Press-16": selfSigned(a, b), "Press-17": edged, "Press-18": nil, "Press-19": keyed,
		}, 8
		if _, keyless := hub.(Keyless); keyless {
			tells = slices.DeleteFunc(tells, func(i provisioning.HubIdentity) bool { return i.Auth.Type == provisioning.HubSAS })
			wants["Press-13"], wants["Press-19"], count = selfSigned(a, ""), nil, 7
		}
		tellAll(t, driver, hub, tells)
		for name, want := range wants {
			holds(t, hub, name, want)
		}
		if reader, is := driver.(provisioning.HubReader); is {
			readsAll(t, reader, hub, count)
		}
	})
}

// holds wants a hub to have a device so; nil: not to have it.
func holds(t *testing.T, hub Hub, name string, want *Device) {
	t.Helper()
	got, there := hub.Device(name)
	if there != (want != nil) {
		t.Fatalf("%s is there: %v", name, there)
	}
	if there {
		if d := cmp.Diff(*want, got); d != "" {
			t.Error(name, d)
		}
	}
}

func tellAll(t *testing.T, driver provisioning.HubDriver, hub Hub, list []provisioning.HubIdentity) {
	t.Helper()
	for batch := range slices.Chunk(list, driver.Traits().Batch) {
		answers := driver.Apply(t.Context(), hub.Access(), batch)
		if err := errors.Join(answers...); err != nil || len(answers) != len(batch) {
			t.Fatalf("%d answers for %d devices: %v", len(answers), len(batch), err)
		}
	}
}

// readsAll wants a reader to find so many devices, each as its hub has it but for the keys.
func readsAll(t *testing.T, reader provisioning.HubReader, hub Hub, count int) {
	t.Helper()
	err := reader.Devices(t.Context(), hub.Access(), func(page []provisioning.HubFound) error {
		count -= len(page)
		for _, found := range page {
			has, _ := hub.Device(found.DeviceID)
			has.Keys = [2]string{}
			if d := cmp.Diff(has, Device{Enabled: found.Enabled, IoTEdge: found.IoTEdge, Type: found.Auth.Type, Thumbprints: found.Auth.Thumbprints}); d != "" {
				t.Error(found.DeviceID, d)
			}
		}
		return nil
	})
	if err != nil || count != 0 {
		t.Errorf("%d devices were not read, %v", count, err)
	}
}

// shutsOut expects that keys are refused, and that no certificate is let in any more.
func shutsOut(t *testing.T, driver provisioning.HubDriver, hub Hub, says []provisioning.HubIdentity) {
	for _, want := range says {
		err := errors.Join(driver.Apply(t.Context(), hub.Access(), []provisioning.HubIdentity{want})...)
		if keys := want.Auth.Type == provisioning.HubSAS; keys != (fault.RuleOf(err) == provisioning.RuleHubRefused) || !keys && err != nil {
			t.Errorf("%s: %v", want.Auth.Type, err)
		}
	}
	if d, there := hub.Device(says[0].DeviceID); there && d.Enabled {
		t.Errorf("a device that was refused is let in: %+v", d)
	}
}

func thumbprint(digit byte) string {
	var text [64]byte
	for i := range text {
		text[i] = digit
	}
	return string(text[:])
}

// Package hubtest holds every driver of hubs to the same behaviour, and has a small real hub
// for the one that posts.
//
// It is test support: only _test.go files import it.
package hubtest

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

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

// Device is what a hub holds. Credentials are in the order of the slots, in the forms of
// the wire: keys in base64, thumbprints in hex.
type Device struct {
	Enabled     bool
	IoTEdge     bool
	Type        provisioning.HubAuthType
	Keys        [2]string
	Thumbprints [2]string
}

// Run is the conformance suite of a driver. Each call of open makes an empty hub.
func Run(t *testing.T, driver provisioning.HubDriver, open func(testing.TB) Hub) {
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
		{"what comes late brings nothing back", []provisioning.HubIdentity{at(0), at(2, gone), at(1, both)}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			hub := open(t)
			if err := driver.Test(t.Context(), hub.Access()); err != nil {
				t.Fatal(err)
			}
			for _, want := range c.says {
				if err := errors.Join(driver.Apply(t.Context(), hub.Access(), []provisioning.HubIdentity{want})...); err != nil {
					t.Fatal(err)
				}
			}
			got, there := hub.Device(name)
			if there != (c.want != nil) {
				t.Fatalf("there: %v", there)
			}
			if there {
				if d := cmp.Diff(*c.want, got); d != "" {
					t.Error(d)
				}
			}
		})
	}
}

func thumbprint(digit byte) string {
	var text [64]byte
	for i := range text {
		text[i] = digit
	}
	return string(text[:])
}

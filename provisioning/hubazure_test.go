package provisioning_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/hub/azure"
	"github.com/passmuster/muster/hub/hubtest"
	"github.com/passmuster/muster/internal/callout"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
)

// linkedIoTHub links an Azure IoT Hub that is throttled by the world's clock.
func (w *world) linkedIoTHub(name string, perMinute int) *hubtest.IoTHub {
	w.t.Helper()
	hub := hubtest.NewIoTHub(w.t)
	hub.Throttled(perMinute, w.now)
	w.azure = azure.New(callout.Options{Networks: loopback.Networks, Roots: hub.Roots()})
	w.restart()
	linked, key, err := w.engine.LinkHub(w.ctx, "operator:test", provisioning.Hub{Name: name, Driver: azure.Name, Weight: 1}, hub.Connection("iothubowner"), provisioning.Precondition{})
	w.must(err)
	if key != nil || linked.Endpoint != hub.URL {
		w.t.Fatalf("linked at %q, with a key of %d octets", linked.Endpoint, len(key))
	}
	return hub
}

// More devices than one page has, on a hub that takes three calls a minute: each round does a
// part, nothing is said to be done before it is, and all of it is in the end.
func TestAThrottledIoTHubIsToldInRounds(t *testing.T) {
	t.Parallel()
	const devices = 120
	w := newWorld(t)
	hub := w.linkedIoTHub(elsewhere, 3)
	f := testkit.Chain(t, "root > mid > any")
	w.anchor(f.Get("root"), true)
	w.group("g", f.Get("mid"), livingOn(elsewhere))
	names := make([]string, devices)
	for i := range names {
		names[i] = fmt.Sprintf("D-%d", i) // spelled as the hub shall have it
		_, err := w.register(w.presenting(names[i], f.Get("mid").Issue(t, names[i]).Chain()...))
		w.must(err)
	}
	holding := func(enabled bool) (n int) {
		for _, name := range names {
			if d, there := hub.Device(name); there && d.Enabled == enabled {
				n++
			}
		}
		return n
	}
	// rounds goes on until the hub has all devices so, and counts how many it took.
	rounds := func(enabled bool, each func(done int)) (n int) {
		t.Helper()
		for ; holding(enabled) < devices; n++ {
			if n > 30 {
				linked, err := w.engine.LinkedHub(w.ctx, elsewhere)
				t.Fatalf("%d of %d after %d rounds: %+v, %v", holding(enabled), devices, n, linked, err)
			}
			w.follow()
			w.sweepHubs()
			each(holding(enabled))
			w.pass(time.Minute)
		}
		w.follow()
		return n
	}

	if n := rounds(true, func(done int) {
		if assigned := w.assignedOf(names); assigned != done {
			t.Fatalf("%d devices are assigned, and the hub has %d", assigned, done)
		}
	}); n < 2 {
		t.Errorf("the hub was told in %d rounds", n)
	}

	i := w.disallow(provisioning.DisallowRequest{Certificate: f.Get("mid").Cert.Raw})
	if n := rounds(false, func(done int) {
		r := w.incident(i.ID)
		if done < devices && (!r.Done.IsZero() || r.Pending() == 0) {
			t.Fatalf("the hub has shut out %d, and the report says %+v", done, r)
		}
	}); n < 2 {
		t.Errorf("the hub was told in %d rounds", n)
	}
	if r := w.isDone(i.ID); r.Devices != devices {
		t.Errorf("the report says %+v", r)
	}
	if reason := hub.Reason("D-7"); !strings.HasPrefix(reason, "Muster ") || !strings.HasSuffix(reason, ": what attested the device is disallowed") {
		t.Errorf("the hub says %q", reason)
	}

	_, err := w.engine.LiftDisallowance(w.ctx, ann, i.ID)
	w.must(err)
	rounds(true, func(int) {})
	if got := hub.Calls("POST /devices"); got < 6 {
		t.Errorf("it took %d bulks", got)
	}
}

func (w *world) assignedOf(names []string) int {
	w.t.Helper()
	list := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return w.registration(name).State != provisioning.Assigned })
	return len(list)
}

// Through a roll the hub knows both certificates, and then the new one alone; a device that moves is
// on its new hub before it leaves this one.
func TestAnIoTHubFollowsItsDevices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.linkedIoTHub(elsewhere, 1000)
	f := testkit.Chain(t, "root > mid > d1")
	w.anchor(f.Get("root"), true)
	g := w.group("g", f.Get("mid"), livingOn(elsewhere))
	device := w.presenting("d1", f.Get("d1").Chain()...)
	first, err := w.enroll(device)
	w.must(err)
	w.isIn("d1", provisioning.Assigning)
	w.sweepHubs()
	w.isIn("d1", provisioning.Assigned)
	w.pass(60 * 24 * time.Hour)
	second, err := w.enroll(w.presenting("d1", first))
	w.must(err)
	w.sweepHubs()
	got, _ := hub.Device("d1")
	want := hexOf(first.Raw, second.Raw)
	slices.Sort(got.Thumbprints[:])
	slices.Sort(want[:])
	if got.Thumbprints != want {
		t.Errorf("the hub has %s, want %s", got.Thumbprints, want)
	}
	w.put(provisioning.Group, "g", provisioning.Attestation{Role: provisioning.RoleSigning, Slots: slots(f.Get("mid"))}, livingOn(builtIn))
	if _, there := hub.Device("d1"); !there {
		t.Error("it left before it came back")
	}
	_, err = w.register(w.presenting("d1", second))
	w.must(err)
	w.sweepHubs()
	if _, there := hub.Device("d1"); there {
		t.Error("it is still there")
	}
	if home := w.registration("d1"); home.Hub != builtIn || g.Owner != home.Owner {
		t.Errorf("it lives on %s", home.Hub)
	}
}

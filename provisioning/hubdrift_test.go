package provisioning_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/hub/hubtest"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/verify"
)

// checks looks up what a hub holds.
func (w *world) checks(hub string) provisioning.HubCheck {
	w.t.Helper()
	w.pass(time.Second) // what is told in the moment of a check is not judged
	c, err := w.engine.BeginHubCheck(w.ctx, ann, hub)
	w.must(err)
	w.sweepChecks()
	c, err = w.engine.HubCheck(w.ctx, hub, c.ID)
	w.must(err)
	w.check()
	return c
}

func (w *world) sweepChecks() {
	w.t.Helper()
	_, err := w.engine.SweepHubChecks(w.ctx, w.db.ProvisioningJobs())
	w.must(err)
}

// repairs has a hub told of what a check found.
func (w *world) repairs(c provisioning.HubCheck, removes bool) {
	w.t.Helper()
	_, err := w.engine.RepairHub(w.ctx, ann, c.Hub, c.ID, removes)
	w.must(err)
	for more := true; more; {
		more, err = w.engine.SweepHubRepairs(w.ctx, w.db.ProvisioningJobs())
		w.must(err)
	}
	w.check()
}

// drift is what a check lists, as text.
func (w *world) drift(c provisioning.HubCheck) (out []string) {
	w.t.Helper()
	list, err := w.engine.HubDrifts(w.ctx, c.Hub, c.ID, "", 0)
	w.must(err)
	for _, d := range list {
		out = append(out, string(d.Kind)+" "+d.Spelled)
	}
	return out
}

func (w *world) finds(hub string, want ...string) provisioning.HubCheck {
	w.t.Helper()
	c := w.checks(hub)
	if got := w.drift(c); !c.Good() || !slices.Equal(got, want) {
		w.t.Fatalf("the check %+v found %q, want %q", c, got, want)
	}
	return c
}

func switchedOff(d *provisioning.HubFound) { d.Enabled = false }
func switchedOn(d *provisioning.HubFound)  { d.Enabled = true }

// readable is a world with a hub that can be read, and a factory whose devices go to it.
func readable(t *testing.T, database store.Engine, devices ...string) (*world, *hubtest.Registry, *testkit.Family) {
	w := newWorldOn(t, database, newBox(t))
	hub := w.inMemory(provisioning.HubTraits{Batch: 1}, elsewhere)[0]
	f := testkit.Chain(t, "root > mid > "+strings.Join(devices, "; mid > "))
	w.anchor(f.Get("root"), true)
	w.group("g", f.Get("mid"), livingOn(elsewhere))
	for _, name := range devices {
		_, err := w.register(w.presenting(name, f.Get(name).Chain()...))
		w.must(err)
	}
	w.sweepHubs()
	return w, hub, f
}

// M9: what a hub holds otherwise is found, the most dangerous first; a repair has it told of that,
// and of nothing else; what is not ours goes only when that is asked for.
func TestDriftIsFoundAndRepaired(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w, hub, f := readable(t, database, "Well", "Missing", "Off", "Thumb", "Edge", "Stolen")
		w.disallow(provisioning.DisallowRequest{Certificate: f.Get("Stolen").Cert.Raw})
		w.follow()
		w.sweepHubs()
		if d, _ := hub.Device("stolen"); d.Enabled {
			t.Fatal("the hub lets in what is disallowed")
		}
		w.finds(elsewhere)

		hub.Change("Stolen", switchedOn)
		hub.Change("Thumb", func(d *provisioning.HubFound) { d.Auth.Thumbprints[1] = strings.Repeat("AB", 32) })
		hub.Change("Edge", func(d *provisioning.HubFound) { d.IoTEdge = true })
		hub.Change("Off", switchedOff)
		hub.Remove("Missing")
		hub.Change("Stranger", switchedOn)
		hub.Change("not ours+", switchedOn)
		calls := len(hub.Calls())
		c := w.finds(elsewhere, "enabled-there Stolen", "credentials-differ Thumb", "unknown-there Stranger", "missing-there Missing", "disabled-there Off", "kind-differs Edge")
		if c.Held != 7 || c.Unnamed != 1 || c.Untold != 0 || len(c.Drift) != 6 || len(hub.Calls()) != calls {
			t.Errorf("%+v", c)
		}
		w.sweepHubs()
		if len(hub.Calls()) != calls {
			t.Error("a check had the hub told of something")
		}

		w.repairs(c, false)
		w.sweepHubs()
		if told := len(hub.Calls()) - calls; told != 5 {
			t.Errorf("the hub was told of %d devices", told)
		}
		c = w.finds(elsewhere, "unknown-there Stranger")
		if _, there := hub.Device("Stranger"); !there {
			t.Fatal("a device that is not ours was removed, and nobody had asked")
		}
		w.repairs(c, true)
		w.sweepHubs()
		w.finds(elsewhere)
		if n := w.events("hub:" + elsewhere); n[audit.HubDrifted] != 2 || n[audit.HubRepaired] != 2 {
			t.Errorf("the ledger has %v", n)
		}
	})
}

func TestAHubThatSaysYesAndDidNothingIsFound(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w, hub, f := readable(t, database, "d1", "d2")
		hub.Lies(true)
		d3 := f.Get("mid").Issue(t, "d3")
		_, err := w.register(w.presenting("d3", d3.Chain()...))
		w.must(err)
		i := w.disallow(provisioning.DisallowRequest{Certificate: f.Get("d1").Cert.Raw})
		w.settles()
		w.isDone(i.ID) // as far as anybody was told
		w.isIn("d3", provisioning.Assigned)
		c := w.finds(elsewhere, "enabled-there d1", "missing-there d3")
		w.repairs(c, false)
		w.sweepHubs()
		w.finds(elsewhere, "enabled-there d1", "missing-there d3") // it lies again
		hub.Lies(false)
		w.repairs(w.finds(elsewhere, "enabled-there d1", "missing-there d3"), false)
		w.sweepHubs()
		w.finds(elsewhere)
	})
}

// What a hub is still to be told of is no drift, nor what is told while it is being read.
func TestWhatIsOnItsWayIsNoDrift(t *testing.T) {
	t.Parallel()
	w, hub, f := readable(t, newFile(t), "d1", "d2", "d3")
	first, err := w.enroll(w.presenting("d1", f.Get("d1").Chain()...))
	w.must(err)
	w.sweepHubs()
	w.finds(elsewhere)

	t.Run("a certificate that the hub has not been told of", func(t *testing.T) {
		_, err = w.enroll(w.presenting("d1", first))
		w.must(err)
		if c := w.finds(elsewhere); c.Untold != 1 {
			t.Errorf("%+v", c)
		}
		w.sweepHubs()
		if c := w.finds(elsewhere); c.Untold != 0 {
			t.Errorf("%+v", c)
		}
	})
	t.Run("an overlap that is over, and not swept yet", func(t *testing.T) {
		second, err := w.enroll(w.presenting("d1", first))
		w.must(err)
		w.sweepHubs()
		w.assigned(w.presenting("d1", second)) // the cut-over
		w.sweepHubs()
		w.pass(3 * oneDay)
		if c := w.finds(elsewhere); c.Untold != 1 {
			t.Errorf("%+v", c)
		}
	})
	t.Run("a disallowance that spreads", func(t *testing.T) {
		w.disallow(provisioning.DisallowRequest{Certificate: f.Get("d2").Cert.Raw})
		if c := w.finds(elsewhere); c.Untold != 2 { // with that of d1
			t.Errorf("%+v", c)
		}
		w.follow()
		w.sweepHubs()
		w.finds(elsewhere)
	})
	t.Run("a device that is told while the hub is read", func(t *testing.T) {
		w.group("g", f.Get("mid"), livingOn(elsewhere), func(d *provisioning.Draft) { d.IoTEdge = true })
		if c := w.finds(elsewhere); c.Untold != 3 {
			t.Errorf("%+v", c)
		}
		reading := &meanwhile{HubDriver: w.drivers[inMemory], after: func() { w.pass(time.Second); w.sweepHubs() }}
		w.drivers = map[string]provisioning.HubDriver{inMemory: reading}
		w.restart()
		if c := w.finds(elsewhere); c.Untold != 3 || c.Held != 3 {
			t.Errorf("%+v", c)
		}
		reading.after = func() {}
		if c := w.finds(elsewhere); c.Untold != 0 {
			t.Errorf("%+v", c)
		}
	})
	if d, _ := hub.Device("d3"); !d.IoTEdge {
		t.Errorf("%+v", d)
	}
}

// meanwhile lets something happen between reading and comparing.
type meanwhile struct {
	provisioning.HubDriver
	after func()
}

func (m *meanwhile) Devices(ctx context.Context, to provisioning.HubAccess, each func([]provisioning.HubFound) error) error {
	var all []provisioning.HubFound
	err := m.HubDriver.(provisioning.HubReader).Devices(ctx, to, func(page []provisioning.HubFound) error { all = append(all, page...); return nil })
	m.after()
	return errors.Join(err, each(all))
}

func TestKeysThatWereChangedAtTheHubAreFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.inMemory(provisioning.HubTraits{Batch: 1}, elsewhere)[0]
	w.crowd("line", elsewhere, 3)
	w.sweepHubs()
	w.finds(elsewhere)
	hub.Change("line-0", func(d *provisioning.HubFound) {
		d.Auth.Keys[0] = verify.NewSecret([]byte("another key of thirty-two octets"))
	})
	hub.Change("line-1", func(d *provisioning.HubFound) { d.Auth.Keys = [2]verify.Secret{} })                 // it does not show them
	hub.Change("line-2", func(d *provisioning.HubFound) { d.Auth, d.IoTEdge = provisioning.HubAuth{}, true }) // nor anything of them
	w.repairs(w.finds(elsewhere, "credentials-differ line-0"), false)
	w.sweepHubs()
	w.finds(elsewhere)
}

func TestARepairIsOfWhatWasShown(t *testing.T) {
	t.Parallel()
	w, hub, f := readable(t, newFile(t), "d1", "d2")
	refused := func(rule string, c provisioning.HubCheck) {
		t.Helper()
		if _, err := w.engine.RepairHub(w.ctx, ann, elsewhere, c.ID, true); fault.RuleOf(err) != rule {
			t.Errorf("%v, want %s", err, rule)
		}
	}
	hub.Change("d1", switchedOff)
	hub.Change("New", switchedOn)
	first := w.finds(elsewhere, "unknown-there New", "disabled-there d1")
	hub.Change("d2", switchedOff) // came since
	next := w.checks(elsewhere)
	refused("hub-check-not-found", first) // another took its place
	refused("hub-check-not-found", provisioning.HubCheck{ID: "none"})
	open, err := w.engine.BeginHubCheck(w.ctx, ann, elsewhere)
	w.must(err)
	refused("hub-check-unfinished", open)

	// What was told since, and became ours since, is passed over.
	d := f.Get("mid").Issue(t, "New")
	_, err = w.enroll(w.presenting("d2", f.Get("d2").Chain()...))
	w.must(err)
	_, err = w.register(w.presenting("New", d.Chain()...))
	w.must(err)
	w.sweepHubs()
	calls := len(hub.Calls())
	w.repairs(next, true)
	w.sweepHubs()
	if told := len(hub.Calls()) - calls; told != 1 {
		t.Errorf("the hub was told of %d devices", told)
	}
	if _, there := hub.Device("New"); !there {
		t.Error("a device that became ours was removed")
	}
	refused("hub-repaired", next)
	w.finds(elsewhere)
}

func TestHubsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	w, hub, _ := readable(t, newFile(t), "d1")
	w.linked("posted.example.net")
	if _, err := w.engine.BeginHubCheck(w.ctx, ann, "posted.example.net"); fault.RuleOf(err) != "hub-cannot-be-read" {
		t.Error(err)
	}
	if _, err := w.engine.BeginHubCheck(w.ctx, ann, "gone"); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	hub.Change("d1", switchedOff)
	good := w.finds(elsewhere, "disabled-there d1")
	hub.Away(true)
	failed := w.checks(elsewhere)
	if failed.Good() || failed.Problem != "the hub answered 503" || failed.Ended.IsZero() {
		t.Errorf("%+v", failed)
	}
	if _, err := w.engine.RepairHub(w.ctx, ann, elsewhere, failed.ID, false); fault.RuleOf(err) != "hub-check-unfinished" {
		t.Error(err)
	}
	list, err := w.engine.HubChecks(w.ctx, elsewhere)
	w.must(err)
	if len(list) != 2 || list[0].ID != failed.ID || list[1].ID != good.ID {
		t.Errorf("on record: %+v", list)
	}
	w.repairs(good, false) // it is known all the same what is to be repaired
	hub.Away(false)
	w.sweepHubs()
	w.finds(elsewhere)
	if list, err = w.engine.HubChecks(w.ctx, elsewhere); err != nil || len(list) != 1 {
		t.Errorf("on record: %+v, %v", list, err)
	}
}

// The built-in hub is in step; what is shown is what its own door has changed.
func TestTheBuiltInHubShowsWhatItsDoorHasChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.crowd("line", builtIn, 3)
	w.finds(builtIn)
	enabled := false
	_, err := w.engine.PutHubDevice(w.ctx, ann, provisioning.HubDraft{Hub: builtIn, ID: id(w, "line-1"), Enabled: &enabled}, provisioning.Precondition{Any: true})
	w.must(err)
	c := w.finds(builtIn, "disabled-there line-1")
	if _, err := w.engine.RepairHub(w.ctx, ann, builtIn, c.ID, false); fault.RuleOf(err) != "hub-built-in" {
		t.Error(err)
	}
}

// Hubs are checked by themselves, sooner when that failed, and when what was repaired is told.
func TestHubsAreCheckedByThemselves(t *testing.T) {
	t.Parallel()
	w, hub, _ := readable(t, newFile(t), "d1")
	w.checkEvery = 24 * time.Hour
	w.restart()
	newest := func() provisioning.HubCheck {
		t.Helper()
		w.sweepChecks()
		list, err := w.engine.HubChecks(w.ctx, elsewhere)
		w.must(err)
		return list[0]
	}
	w.pass(time.Second)
	first := newest()
	if !first.Good() || first.Actor != "job:hubs" {
		t.Fatalf("%+v", first)
	}
	w.pass(23 * time.Hour)
	if newest().ID != first.ID {
		t.Error("it was checked again before its time")
	}
	hub.Away(true)
	w.pass(time.Hour)
	second := newest()
	if second.ID == first.ID || second.Good() {
		t.Fatalf("%+v", second)
	}
	hub.Away(false)
	hub.Change("d1", switchedOff)
	w.pass(time.Hour)
	third := newest()
	if !third.Good() || third.Drift[provisioning.DriftDisabled] != 1 {
		t.Fatalf("%+v", third)
	}
	w.repairs(third, false)
	if newest().ID != third.ID {
		t.Error("it was checked before the hub was told")
	}
	w.sweepHubs()
	w.pass(time.Second)
	if last := newest(); last.ID == third.ID || !last.Good() || len(last.Drift) != 0 {
		t.Errorf("%+v", last)
	}
}

// A process ends at each write of a check, and of a repair: the next one begins the check anew, or
// goes on with the repair, and the result is the same.
func TestAChecksProcessMayEnd(t *testing.T) {
	t.Parallel()
	w, hub, _ := readable(t, newFile(t), "d1", "d2", "d3")
	hub.Change("d1", switchedOff)
	hub.Remove("d2")
	want := []string{"missing-there d2", "disabled-there d1"}
	for after := range 5 {
		w.pass(time.Minute)
		c, err := w.engine.BeginHubCheck(w.ctx, ann, elsewhere)
		w.must(err)
		_, err = w.engine.SweepHubChecks(w.ctx, &cutOff{Store: w.db.ProvisioningJobs(), after: after})
		if errors.Is(err, errCut) != (after < 4) {
			t.Fatalf("after %d writes: %v", after, err)
		}
		w.sweepChecks() // it is left to whoever has it
		if c, err = w.engine.HubCheck(w.ctx, elsewhere, c.ID); err != nil || (after > 0 && after < 4) == c.Good() {
			t.Fatalf("after %d writes: %+v, %v", after, c, err)
		}
		w.pass(10 * time.Minute)
		w.sweepChecks()
		c, err = w.engine.HubCheck(w.ctx, elsewhere, c.ID)
		w.must(err)
		if got := w.drift(c); !c.Good() || !slices.Equal(got, want) || c.Held != 2 {
			t.Errorf("after %d writes: %q, %+v", after, got, c)
		}
	}
}

// A hub of many devices is compared page by page, and repaired so.
func TestAHubOfManyDevicesIsCheckedInPages(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		hub := w.inMemory(provisioning.HubTraits{Batch: 100}, elsewhere)[0]
		const devices = 700
		w.crowd("line", elsewhere, devices)
		w.sweepHubs()
		want := map[provisioning.HubDriftKind]int64{}
		for n := range devices {
			name := fmt.Sprintf("line-%d", n)
			switch n % 3 {
			case 0:
				hub.Remove(name)
				want[provisioning.DriftMissing]++
			case 1:
				hub.Change(name, switchedOff)
				want[provisioning.DriftDisabled]++
			}
			hub.Change("stray-"+name, switchedOn)
			want[provisioning.DriftUnknown]++
		}
		c := w.checks(elsewhere)
		if !c.Good() || !maps.Equal(c.Drift, want) {
			t.Fatalf("%+v, want %v", c, want)
		}
		listed, after := 0, ""
		for {
			list, err := w.engine.HubDrifts(w.ctx, elsewhere, c.ID, after, 100)
			w.must(err)
			if len(list) == 0 {
				break
			}
			listed, after = listed+len(list), list[len(list)-1].Key()
		}
		if sum := want[provisioning.DriftMissing] + want[provisioning.DriftDisabled] + want[provisioning.DriftUnknown]; int64(listed) != sum {
			t.Errorf("%d are listed of %d", listed, sum)
		}
		w.repairs(c, true)
		w.sweepHubs()
		w.finds(elsewhere)
		if hub.Count() != devices {
			t.Errorf("the hub has %d devices", hub.Count())
		}
	})
}

// A device that its hub refuses, or that is held back, stays ahead for good.
func TestAHubIsCheckedThoughADeviceStaysAhead(t *testing.T) {
	t.Parallel()
	w, hub, _ := readable(t, newFile(t), "d1", "d2")
	w.checkEvery = 24 * time.Hour
	w.gated().answers = func(_ context.Context, _ provisioning.HubAccess, want []provisioning.HubIdentity) []error {
		if want[0].DeviceID == "d2" {
			return []error{fault.New(fault.Conflict, provisioning.RuleHubRefused, "not this one")}
		}
		return nil
	}
	hub.Change("d1", switchedOff)
	hub.Change("d2", switchedOff)
	first := w.finds(elsewhere, "disabled-there d1", "disabled-there d2")
	w.repairs(first, false)
	newest := func() provisioning.HubCheck {
		t.Helper()
		w.sweepHubs()
		w.sweepChecks()
		list, err := w.engine.HubChecks(w.ctx, elsewhere)
		w.must(err)
		return list[0]
	}
	w.pass(23 * time.Hour)
	if newest().ID != first.ID {
		t.Error("it was checked before all that was repaired was told, and before its time")
	}
	w.pass(2 * time.Hour)
	if c := newest(); c.ID == first.ID || !c.Good() || c.Untold != 1 {
		t.Errorf("%+v", c)
	}
}

func TestTheBuiltInHubShowsKeysThatItsDoorHasSet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.crowd("line", builtIn, 3)
	w.putOnHub(draft(w, "line-1", auth(provisioning.HubAuth{Type: provisioning.HubSAS, Keys: [2]verify.Secret{verify.NewSecret([]byte("another key of thirty-two octets"))}})))
	w.putOnHub(draft(w, "line-2", auth(w.onHub("line-2").Auth))) // the same
	w.finds(builtIn, "credentials-differ line-1")
}

// What is removed as not ours goes on record as removed, whoever has such a name elsewhere; and it
// is nothing that a retirement waits for.
func TestARemovedStrangerIsNobodysRegistration(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		const far = "far.example.net"
		hubs := w.inMemory(provisioning.HubTraits{Batch: 1}, elsewhere, far)
		w.crowd("line", elsewhere, 2)
		w.sweepHubs()
		refuses := true
		w.gated().answers = func(_ context.Context, to provisioning.HubAccess, want []provisioning.HubIdentity) []error {
			if refuses && to.Hub == elsewhere {
				return []error{fault.New(fault.Unavailable, "hub-unavailable", "the hub answered 503")}
			}
			return nil
		}
		w.retires("line-0", false)
		hubs[1].Change("line-0", switchedOn)
		hubs[1].Change("line-1", switchedOn)
		w.repairs(w.finds(far, "unknown-there line-0", "unknown-there line-1"), true)
		waits := func(want int64) {
			t.Helper()
			r, err := w.engine.Retirement(w.ctx, id(w, "line-0"))
			w.must(err)
			if r.Awaited != want || r.Confirmed.IsZero() != (want > 0) {
				t.Errorf("it waits for %d hubs, want %d, and is confirmed at %s", r.Awaited, want, r.Confirmed)
			}
		}
		waits(1)
		w.sweepHubs()
		for _, name := range []string{"line-0", "line-1"} {
			if _, there := hubs[1].Device(name); there {
				t.Errorf("%s is still there", name)
			}
			if n := w.events("hub-device:" + far + "/" + name); n[audit.HubDeviceDeleted] != 1 {
				t.Errorf("the ledger has of %s: %v", name, n)
			}
		}
		waits(1)
		refuses = false
		w.pass(time.Hour)
		w.sweepHubs()
		waits(0)
	})
}

package provisioning_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/hub/hubtest"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
)

// retires takes a device out of service and insists on what the preview said of it.
func (w *world) retires(name string, deleteRecord bool) provisioning.Retirement {
	w.t.Helper()
	w.pass(time.Second)
	plan, err := w.engine.PreviewRetire(w.ctx, id(w, name))
	w.must(err)
	done, err := w.engine.Retire(w.ctx, "operator:ann", id(w, name), deleteRecord)
	w.must(err)
	w.check()
	if got, want := fmt.Sprintf("%+v", done.RetirePlan), fmt.Sprintf("%+v", plan); got != want {
		w.t.Errorf("done was %s, foreseen %s", got, want)
	}
	return done
}

// ceased wants every certificate of a device to be revoked as no longer in use.
func (w *world) ceased(name string, n int) {
	w.t.Helper()
	list, err := w.engine.Certificates(w.ctx, provisioning.CertificateFilter{RegistrationID: id(w, name)})
	w.must(err)
	for _, c := range list {
		if c.RevokedAt.IsZero() || c.Reason != ca.CessationOfOperation {
			w.t.Errorf("certificate %s is revoked at %v as %q", c.Serial, c.RevokedAt, c.Reason)
		}
	}
	if len(list) != n {
		w.t.Errorf("%d certificates, want %d", len(list), n)
	}
}

func TestARetiredDeviceOfAGroupComesInByNoGroup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > d1; mid > d2")
	w.anchor(f.Get("root"), true)
	w.group("line", f.Get("mid"))
	w.reference("plant", f.Get("root"))
	device := w.presenting("d1", f.Get("d1").Chain()...)
	leaf, err := w.enroll(device)
	w.must(err)
	w.assigned(w.presenting("d2", f.Get("d2").Chain()...))
	group, err := w.engine.Enrollment(w.ctx, provisioning.Owner{Kind: provisioning.Group, ID: id(w, "line")})
	w.must(err)

	done := w.retires("d1", false)
	if done.Entry != provisioning.FateException || done.Certificates != 1 || done.Hub != builtIn || done.Elsewhere || done.Confirmed.IsZero() ||
		!slices.Equal(done.Open, []string{provisioning.OpenOutsideCertificate}) || done.Deleted {
		t.Errorf("%+v", done)
	}
	w.ceased("d1", 1)
	w.refused(device, "enrollment-disabled")
	w.refused(w.presenting("d1", leaf), "enrollment-disabled")
	if _, err := w.engine.HubDevice(w.ctx, builtIn, id(w, "d1"), ""); !fault.Is(err, fault.NotFound) {
		t.Errorf("it is still on its hub (%v)", err)
	}
	reg := w.registration("d1")
	if reg.State != provisioning.Unassigned || reg.Hub != "" || len(reg.Pair.Live(w.now())) != 0 || reg.Owner != (provisioning.Owner{ID: id(w, "d1")}) {
		t.Errorf("its record is %+v", reg)
	}
	if e := w.latest(); e.Action != audit.DeviceRetired || e.Actor != "operator:ann" || e.Subject != "registration:d1" {
		t.Errorf("the ledger ends with %+v", e)
	}
	w.assigned(w.presenting("d2", f.Get("d2").Chain()...)) // quiet: nobody else's business
	if is, err := w.engine.Enrollment(w.ctx, group.Owner); err != nil || is.Version != group.Version {
		t.Errorf("the group is at version %d, was at %d (%v)", is.Version, group.Version, err)
	}
}

func TestARetirementIsDoneOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.assigned(w.signing("d1", w.keyed(provisioning.Individual, "d1")))
	first := w.retires("d1", false)
	if first.Entry != provisioning.FateDisabled {
		t.Errorf("its enrollment: %s", first.Entry)
	}
	rows := w.rows()
	again, err := w.engine.Retire(w.ctx, "operator:bob", id(w, "d1"), false)
	w.must(err)
	if fmt.Sprintf("%+v", again) != fmt.Sprintf("%+v", first) || w.rows() != rows {
		t.Errorf("the second time it is %+v, was %+v", again, first)
	}
	gone := w.retires("d1", true) // what is more is done
	if !gone.Deleted || gone.Entry != provisioning.FateWasDisabled {
		t.Errorf("%+v", gone)
	}
	if _, err := w.engine.Device(w.ctx, id(w, "d1")); !fault.Is(err, fault.NotFound) {
		t.Errorf("its record is there (%v)", err)
	}
}

func TestARetirementIsConfirmedByEachHubThatKnowsTheDevice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hubs := map[string]*hubtest.Receiver{"a.example.net": w.linked("a.example.net"), "b.example.net": w.linked("b.example.net")}
	key := w.keyed(provisioning.Individual, "d1", livingOn("a.example.net"))
	_, err := w.register(w.signing("d1", key))
	w.must(err)
	w.sweepHubs()
	w.put(provisioning.Individual, "d1", provisioning.Attestation{Role: provisioning.RoleKey}, livingOn("b.example.net"))
	w.pass(time.Minute)
	_, err = w.register(w.signing("d1", key)) // it moves, and is on neither for good
	w.must(err)
	hubs["a.example.net"].Answers(down)

	done := w.retires("d1", false)
	if done.Awaited != 2 || !done.Confirmed.IsZero() || !done.Elsewhere || done.Hub != "b.example.net" {
		t.Fatalf("%+v", done)
	}
	w.sweepHubs()
	pending := func(want int64) provisioning.Retirement {
		t.Helper()
		r, err := w.engine.Retirement(w.ctx, id(w, "d1"))
		w.must(err)
		list, err := w.engine.Retirements(w.ctx, provisioning.RetirementFilter{Pending: true})
		w.must(err)
		n, err := w.engine.PendingRetirements(w.ctx)
		w.must(err)
		if r.Awaited != want || r.Confirmed.IsZero() != (want > 0) || int64(len(list)) != min(want, 1) || n != min(want, 1) {
			t.Fatalf("%d hubs have not confirmed (%v; %d listed, %d counted), want %d", r.Awaited, r.Confirmed, len(list), n, want)
		}
		return r
	}
	pending(1)
	if _, there := hubs["b.example.net"].Device("d1"); there {
		t.Error("the hub that it was to come to has it")
	}
	hubs["a.example.net"].Answers(nil)
	w.pass(time.Minute)
	w.sweepHubs()
	pending(0)
	if _, there := hubs["a.example.net"].Device("d1"); there {
		t.Error("its old hub has it")
	}
}

// J7: what was retired is used again when an operator says so, and is new.
func TestARetiredDeviceComesBackWhenItsExceptionIsDeleted(t *testing.T) {
	t.Parallel()
	w, hub, device := elsewhereFactory(t)
	_, err := w.enroll(device)
	w.must(err)
	w.sweepHubs()
	hub.Answers(down)
	w.retires("d1", false)
	w.leave("d1")
	w.pass(time.Minute)
	leaf, err := w.enroll(device)
	w.must(err)
	hub.Answers(nil)
	w.sweepHubs()
	w.holds(hub, "d1", leaf.Raw)
	w.isIn("d1", provisioning.Assigned)
	r, err := w.engine.Retirement(w.ctx, id(w, "d1"))
	w.must(err)
	if n, err := w.engine.PendingRetirements(w.ctx); err != nil || n != 0 || !r.Returned {
		t.Errorf("%d wait, returned %v (%v)", n, r.Returned, err)
	}
}

func TestADeviceThatNeverRegisteredIsRetired(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > d1")
	w.individual("d1", f.Get("d1"), nil)
	if done := w.retires("d1", true); done.Entry != provisioning.FateDisabled || done.Deleted || done.Hub != "" {
		t.Errorf("%+v", done)
	}
	w.refused(w.presenting("d1", f.Get("d1").Chain()...), "enrollment-disabled")
	if _, err := w.engine.Retire(w.ctx, "operator:ann", id(w, "d9"), false); fault.RuleOf(err) != "device-unknown" {
		t.Errorf("nobody was retired: %v", err)
	}
}

func TestARetirementSaysThatTheHubKeepsADeviceOfThisName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.assigned(w.signing("d1", w.keyed(provisioning.Individual, "d1")))
	w.forget("d1")
	if done := w.retires("d1", false); !slices.Equal(done.Open, []string{provisioning.OpenHubDevice}) {
		t.Errorf("%v stay open", done.Open)
	}
}

// waits wants a retirement to wait for so many hubs, wherever that is said.
func (w *world) waits(name string, want int64) provisioning.Retirement {
	w.t.Helper()
	r, err := w.engine.Retirement(w.ctx, id(w, name))
	w.must(err)
	list, err := w.engine.Retirements(w.ctx, provisioning.RetirementFilter{Pending: true})
	w.must(err)
	n, err := w.engine.PendingRetirements(w.ctx)
	w.must(err)
	if r.Awaited != want || r.Confirmed.IsZero() != (want > 0) || int64(len(list)) != min(want, 1) || n != min(want, 1) {
		w.t.Fatalf("%d hubs have not confirmed (%v; %d listed, %d counted), want %d", r.Awaited, r.Confirmed, len(list), n, want)
	}
	return r
}

// A hub that is given up confirms nothing, and is waited for no more.
func TestARetirementDoesNotWaitForAHubThatIsGivenUp(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		one, two := w.linked("one.example.net"), w.linked("two.example.net")
		key := w.keyed(provisioning.Individual, "d1", livingOn("one.example.net"))
		_, err := w.register(w.signing("d1", key))
		w.must(err)
		w.sweepHubs()
		w.put(provisioning.Individual, "d1", provisioning.Attestation{Role: provisioning.RoleKey}, livingOn("two.example.net"))
		w.pass(time.Minute)
		_, err = w.register(w.signing("d1", key))
		w.must(err)
		one.Answers(down)
		two.Answers(down)
		if done := w.retires("d1", false); done.Awaited != 2 {
			t.Fatalf("%+v", done)
		}
		w.sweepHubs()
		w.waits("d1", 2)
		w.put(provisioning.Individual, "d1", provisioning.Attestation{Role: provisioning.RoleKey}, disabled, livingOn(builtIn)) // names no hub that goes
		abandon := func(name string) {
			t.Helper()
			w.pass(time.Minute)
			w.must(w.engine.AbandonHub(w.ctx, ann, name, provisioning.Precondition{Any: true}))
			w.sweepHubs()
		}
		abandon("one.example.net")
		w.waits("d1", 1)
		abandon("two.example.net")
		if r := w.waits("d1", 0); r.Confirmed != w.now() || r.State() != provisioning.RetirementDone {
			t.Errorf("%s, confirmed at %s", r.State(), r.Confirmed)
		}
	})
}

// The place on the hub is another device's before the hub has heard that this one leaves.
func TestARetirementEndsWhenItsPlaceIsAnothers(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		hub := w.linked(elsewhere)
		pump := func(d *provisioning.Draft) { d.DeviceID, d.Hubs = "pump", []string{elsewhere} }
		_, err := w.register(w.signing("d1", w.keyed(provisioning.Individual, "d1", pump)))
		w.must(err)
		w.sweepHubs()
		hub.Answers(down)
		w.retires("d1", false)
		w.sweepHubs()
		if r := w.waits("d1", 1); r.State() != provisioning.RetirementPending {
			t.Errorf("%s", r.State())
		}
		w.pass(time.Minute)
		_, err = w.register(w.signing("d2", w.keyed(provisioning.Individual, "d2", pump)))
		w.must(err)
		w.sweepOnce()
		w.waits("d1", 0) // nothing tells the hub of d1 any more
		hub.Answers(nil)
		w.pass(time.Hour)
		w.sweepHubs()
		w.isIn("d2", provisioning.Assigned)
		if _, there := hub.Device("pump"); !there {
			t.Error("the device that came is not there")
		}
	})
}

// A device that was retired, came back and moves on is done with what was before.
func TestAMoveAfterwardsIsNoAffairOfARetirement(t *testing.T) {
	t.Parallel()
	w, hub, device := elsewhereFactory(t)
	_, err := w.enroll(device)
	w.must(err)
	w.sweepHubs()
	w.retires("d1", false)
	w.sweepHubs()
	was := w.waits("d1", 0)
	w.leave("d1")
	w.pass(time.Minute)
	_, err = w.enroll(device)
	w.must(err)
	w.sweepHubs()
	hub.Answers(down)
	w.pass(time.Minute)
	w.must(w.engine.DeleteRegistration(w.ctx, ann, id(w, "d1"), provisioning.Precondition{Any: true}))
	w.sweepHubs()
	if r := w.waits("d1", 0); r.Confirmed != was.Confirmed || r.State() != provisioning.RetirementDone {
		t.Errorf("%s, confirmed at %s, was at %s", r.State(), r.Confirmed, was.Confirmed)
	}
}

// One act tells a hub one thing.
func TestARetirementStepsTheHubOnce(t *testing.T) {
	t.Parallel()
	for _, deleteRecord := range []bool{false, true} {
		w, hub, device := elsewhereFactory(t)
		_, err := w.enroll(device)
		w.must(err)
		w.sweepHubs()
		was := w.identity(elsewhere, "d1")
		w.retires("d1", deleteRecord)
		if is := w.identity(elsewhere, "d1"); is.Generation != was.Generation+1 {
			t.Errorf("generation %d after %d, record deleted %v", is.Generation, was.Generation, deleteRecord)
		}
		w.sweepHubs()
		if _, there := hub.Device("d1"); there {
			t.Error("it is still there")
		}
	}
}

// What was done at first stays on the receipt when the rest is done, until the device has been back.
func TestAReceiptKeepsWhatWasDoneAtFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > d1")
	w.anchor(f.Get("root"), true)
	line := w.group("line", f.Get("mid"))
	device := w.presenting("d1", f.Get("d1").Chain()...)
	_, err := w.enroll(device)
	w.must(err)
	first := w.retires("d1", false)
	w.retires("d1", true)
	is := w.waits("d1", 0)
	if is.Entry != provisioning.FateException || is.HubPlace != first.HubPlace || is.Certificates != 1 || is.Owner != line.Owner ||
		!slices.Equal(is.Open, first.Open) || !is.Deleted || is.At != w.now() {
		t.Errorf("on record is %+v, at first %+v", is, first)
	}

	w.leave("d1")
	w.pass(time.Minute)
	w.assigned(device)
	next := w.retires("d1", false)
	if is := w.waits("d1", 0); fmt.Sprintf("%+v", is) != fmt.Sprintf("%+v", next) || is.Certificates != 0 || is.Deleted {
		t.Errorf("on record is %+v, done was %+v", is, next)
	}
}

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

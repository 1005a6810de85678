package provisioning_test

import (
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

// latest is the newest entry of the ledger.
func (w *world) latest() audit.Entry {
	w.t.Helper()
	entries, err := w.engine.Ledger(w.ctx, provisioning.LedgerFilter{Limit: 1})
	w.must(err)
	return entries[0]
}

func TestAHubRemovesADeviceWhoseRecordIsDeleted(t *testing.T) {
	t.Parallel()
	w, hub, device := elsewhereFactory(t)
	leaf, err := w.enroll(device)
	w.must(err)
	w.sweepHubs()
	w.holds(hub, "d1", leaf.Raw)
	hub.Answers(down)
	w.forget("d1")
	w.sweepHubs()
	w.holds(hub, "d1", leaf.Raw)
	if linked, err := w.engine.LinkedHub(w.ctx, elsewhere); err != nil || linked.Ahead != 1 {
		t.Fatalf("the hub is to be told of %d devices (%v), want 1", linked.Ahead, err)
	}
	if err := w.engine.DeleteHub(w.ctx, "operator:test", elsewhere, provisioning.Precondition{Any: true}); fault.RuleOf(err) != "hub-in-use" {
		t.Errorf("unlinking a hub that is still to remove a device: %v", err)
	}

	hub.Answers(nil)
	w.pass(time.Minute)
	w.sweepHubs()
	w.holds(hub, "d1")
	if receipts := w.events("hub-device:" + elsewhere + "/d1"); receipts[audit.HubDeviceDeleted] != 1 {
		t.Errorf("the ledger has %v", receipts)
	}
	seen := w.rows()
	w.sweepHubs()
	if w.rows() != seen {
		t.Error("a receipt was written twice")
	}
}

func TestADeviceThatComesBackBeforeItsHubHasRemovedItStays(t *testing.T) {
	t.Parallel()
	w, hub, device := elsewhereFactory(t)
	_, err := w.enroll(device)
	w.must(err)
	w.sweepHubs()
	w.forget("d1")
	again, err := w.enroll(device)
	w.must(err)
	w.sweepHubs()
	w.isIn("d1", provisioning.Assigned)
	w.holds(hub, "d1", again.Raw)
}

func TestAHubThatWillNotAnswerIsAbandoned(t *testing.T) {
	t.Parallel()
	w, hub, device := elsewhereFactory(t)
	_, err := w.enroll(device)
	w.must(err)
	w.sweepHubs()
	hub.Answers(down)
	unlink := func() error {
		return w.engine.AbandonHub(w.ctx, "operator:test", elsewhere, provisioning.Precondition{Any: true})
	}
	w.leaveGroup("g")
	if err := unlink(); fault.RuleOf(err) != "hub-in-use" {
		t.Errorf("a hub that a device lives on was abandoned: %v", err)
	}
	w.forget("d1")
	w.must(unlink())
	w.check()
	if e := w.latest(); e.Action != audit.HubUnlinked || string(e.Body) != `{"abandoned":1,"driver":"webhook"}` {
		t.Errorf("the ledger ends with %s %s", e.Action, e.Body)
	}
}

func (w *world) leaveGroup(name string) {
	w.t.Helper()
	w.must(w.engine.Delete(w.ctx, "operator:test", provisioning.Owner{Kind: provisioning.Group, ID: id(w, name)}, provisioning.Precondition{Any: true}))
}

func TestDeregisteringRemovesADeviceFromTheBuiltInHub(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	device := w.signing("d1", w.keyed(provisioning.Individual, "d1"))
	w.assigned(device)
	w.putOnHub(draft(w, "d1", off))
	w.must(w.engine.Deregister(w.ctx, "operator:test", id(w, "d1"), provisioning.Precondition{Any: true}))
	w.check()
	if _, err := w.engine.HubDevice(w.ctx, builtIn, id(w, "d1"), ""); !fault.Is(err, fault.NotFound) {
		t.Errorf("the device is still on the hub (%v)", err)
	}
	if total, _, err := w.engine.HubCount(w.ctx, builtIn); err != nil || total != 0 {
		t.Errorf("%d devices are on the hub (%v)", total, err)
	}
	w.assigned(device) // J2: its enrollment alive, it comes back, new
	if d, err := w.engine.HubDevice(w.ctx, builtIn, id(w, "d1"), ""); err != nil || !d.Enabled {
		t.Errorf("it came back %+v (%v)", d, err)
	}
}

func TestRegistrationsWithoutAnOwnerAreListedAndCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, group := range []string{"a", "b"} {
		w.parked(group, 3)
	}
	w.leaveGroup("a")
	list, err := w.engine.Registrations(w.ctx, provisioning.RegistrationFilter{Orphaned: true})
	w.must(err)
	if len(list) != 3 || list[0].ID.String() != "a-00000" {
		t.Errorf("%d orphans, from %v", len(list), list)
	}
	hubs, err := w.engine.Orphaned(w.ctx)
	w.must(err)
	if len(hubs) != 1 || hubs[0] != (provisioning.HubCount{Hub: builtIn, Devices: 3}) {
		t.Errorf("counted %+v", hubs)
	}
}

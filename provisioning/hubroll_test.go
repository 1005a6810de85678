package provisioning_test

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/hub/hubtest"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// The hub is down when an overlap ends: the old slot stays until it has confirmed, and is
// due then.
func TestAHubThatIsDownHoldsBackTheEndOfAnOverlap(t *testing.T) {
	t.Parallel()
	w, hub, device := elsewhereFactory(t)
	first, err := w.enroll(device)
	w.must(err)
	w.sweepHubs()
	w.pass(60 * 24 * time.Hour)
	next, err := w.enroll(w.presenting("d1", first))
	w.must(err)
	w.sweepHubs()
	w.assigned(w.presenting("d1", next))
	w.holds(hub, "d1", first.Raw, next.Raw)
	reg := w.registration("d1")
	slot, _ := reg.Pair.Find(rotation.Ref(verify.ThumbprintOf(first.Raw)))
	end := reg.Pair.Cell(slot).RetireAt
	roll := func() {
		t.Helper()
		for more := true; more; {
			var err error
			more, err = w.engine.SweepRegistrations(w.ctx, w.db.ProvisioningJobs())
			w.must(err)
		}
		w.check()
	}
	stands := func() bool {
		return slices.ContainsFunc([]rotation.Slot{0, 1}, func(s rotation.Slot) bool { return w.registration("d1").Pair.Cell(s).State == rotation.Retiring })
	}
	revoked := func() bool {
		c, err := w.engine.Certificate(w.ctx, "", serial(first))
		w.must(err)
		return !c.RevokedAt.IsZero()
	}
	w.clock = end.Add(time.Second)
	hub.Answers(down)
	for range 5 {
		roll()
		w.sweepHubs()
		w.pass(time.Hour)
		if !stands() || revoked() {
			t.Fatal("the hub is down, and the certificate was retired")
		}
	}
	w.refused(w.presenting("d1", first), "certificate-not-standing") // Muster itself waits for nobody
	stuck, err := w.engine.Ledger(w.ctx, provisioning.LedgerFilter{Action: audit.RollStuck})
	w.must(err)
	if len(stuck) != 1 || !strings.Contains(string(stuck[0].Body), "hub-unconfirmed") {
		t.Errorf("the ledger tells of %d rolls that are stuck", len(stuck))
	}
	w.holds(hub, "d1", first.Raw, next.Raw)
	hub.Answers(nil)
	w.sweepHubs()
	w.holds(hub, "d1", next.Raw)
	roll() // it is due: the hub has confirmed
	if stands() || !revoked() {
		t.Error("the hub has confirmed, and the certificate was not retired")
	}
	w.isIn("d1", provisioning.Assigned)
}

// The hub stays down until the certificate in use needs a successor: that waits for nobody.
func TestAHubThatIsDownHoldsUpNoSuccessor(t *testing.T) {
	t.Parallel()
	// waiting is a device whose former certificate waits for its hub, when a successor of the
	// one in use is due.
	waiting := func(t *testing.T, retain bool) (w *world, hub *hubtest.Receiver, first, next *x509.Certificate) {
		w, hub, device := elsewhereFactory(t)
		w.profile(func(p *policies.Profile) { p.Renewal.Retain = retain })
		first, err := w.enroll(device)
		w.must(err)
		w.sweepHubs()
		w.pass(60 * oneDay)
		next, err = w.enroll(w.presenting("d1", first))
		w.must(err)
		w.sweepHubs()
		w.assigned(w.presenting("d1", next))
		hub.Answers(down)
		for range 84 {
			w.pass(oneDay)
			w.sweep()
			w.sweepHubs()
		}
		if _, held := w.registration("d1").Pair.Find(ref(first)); held == retain {
			t.Fatalf("the former certificate is held: %v", held)
		}
		return w, hub, first, next
	}
	t.Run("the device is told", func(t *testing.T) {
		t.Parallel()
		w, hub, first, next := waiting(t, false)
		if got := w.told(); got != 1 {
			t.Errorf("told %d times", got)
		}
		rows, err := w.engine.Ledger(w.ctx, provisioning.LedgerFilter{Action: audit.RollStuck, Limit: 10})
		w.must(err)
		if len(rows) != 2 || !strings.Contains(string(rows[1].Body), "hub-unconfirmed") || !strings.Contains(string(rows[0].Body), "renewal-late") {
			t.Errorf("stuck: %+v", rows)
		}
		hub.Answers(nil)
		w.pass(oneDay)
		w.sweepHubs()
		w.sweep()
		if _, held := w.registration("d1").Pair.Find(ref(first)); held {
			t.Error("the hub has confirmed, and the former certificate is held")
		}
		w.holds(hub, "d1", next.Raw)
	})
	t.Run("its request is signed again", func(t *testing.T) {
		t.Parallel()
		w, hub, _, next := waiting(t, true)
		pending := w.pending("d1")
		if pending == nil || !pending.NotAfter.After(next.NotAfter) {
			t.Fatal("no successor was made")
		}
		hub.Answers(nil)
		w.pass(oneDay)
		w.sweepHubs()
		w.holds(hub, "d1", next.Raw, pending.Raw)
	})
}

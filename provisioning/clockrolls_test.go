package provisioning_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

// INV-S4: a clock that jumps a year ahead and back rolls no entry, no key, and tells of no
// anchor.
func TestAClockThatJumpsRollsNoEntryAndNoKey(t *testing.T) {
	t.Parallel()
	m := newMoving(t, "d1")
	m.assigned(m.shows("d1", 0))
	m.stage(m.group, m.next)
	m.assigned(m.shows("d1", 1))
	m.sweepEntries()
	m.wantStates(m.group, "primary retiring, secondary active")
	keys := m.policy(provisioning.ServicePlane, "reader", policies.EnrollmentRead)
	m.planned(keysPlan(), accessPlan())
	m.usedDaily(keys[0], 0)
	m.jump(365 * 24 * time.Hour)
	m.sweepEntries()
	m.sweepKeys()
	m.sweepAccess()
	if _, err := m.engine.SweepAnchors(m.ctx, m.db.ProvisioningJobs()); err != nil {
		t.Fatal(err)
	}
	m.wantStates(m.group, "primary retiring, secondary active")
	if got := m.accessKeys(provisioning.ServicePlane, "reader"); string(got[0]) != string(keys[0]) || string(got[1]) != string(keys[1]) {
		t.Error("a key of an access policy was made anew by a clock that jumped")
	}
	told, err := m.engine.Ledger(m.ctx, provisioning.LedgerFilter{Action: audit.RollTold, Limit: 10})
	m.must(err)
	if len(told) != 0 {
		t.Errorf("told of %s", told[0].Subject)
	}
	m.jump(-365 * 24 * time.Hour)
	m.sweepEntries()
	m.pass(2 * oneDay)
	m.sweepEntries()
	m.pass(11 * time.Minute)
	m.sweep()
	m.sweepEntries()
	m.wantStates(m.group, "secondary active")
}

// A clock that was ahead for long enough to be believed stamped what would be looked at a
// year late.
func TestAnEntryRolledByAClockThatWasAheadGoesOn(t *testing.T) {
	t.Parallel()
	m := newMoving(t, "d1")
	m.assigned(m.shows("d1", 0))
	m.sweepEntries()
	m.jump(200 * 24 * time.Hour)
	m.sweepEntries()
	m.pass(11 * time.Minute)
	m.stage(m.group, m.next)
	m.assigned(m.shows("d1", 1))
	m.sweepEntries()
	m.wantStates(m.group, "primary retiring, secondary active")
	m.jump(-200 * 24 * time.Hour)
	m.sweepEntries()
	m.pass(11 * time.Minute)
	m.sweep()
	m.sweepEntries()
	m.pass(25 * time.Hour)
	m.sweepEntries()
	m.wantStates(m.group, "secondary active")
}

// A campaign's word about renewing is not mixed with the planner's, nor an operator's.
func TestAWordAfterACampaignsIsAWordOfItsOwn(t *testing.T) {
	t.Parallel()
	for name, says := range map[string]func(w *world){
		"the planner":  func(w *world) { w.pass(71 * day); w.sweep() },
		"the operator": func(w *world) { _, err := w.engine.RollNow(w.ctx, dashboard, id(w, "d1")); w.must(err) },
	} {
		t.Run(name, func(t *testing.T) {
			w, device := factory(t)
			leaf, err := w.enroll(device)
			w.must(err)
			_, err = w.engine.ChangeTwin(w.ctx, dashboard, provisioning.TwinDraft{Hub: builtIn, ID: id(w, "d1"),
				Desired: []byte(`{"muster":{"renew":{"at":"2026-01-01T00:00:00Z","by":"2026-01-02T00:00:00Z","campaign":"c","reason":"campaign"}}}`)}, provisioning.Precondition{})
			w.must(err)
			says(w)
			reason := "operator"
			if name == "the planner" {
				reason = "renewal-late"
			}
			want := fmt.Sprintf(`{"muster":{"renew":{"by":%q,"reason":%q}}}`, leaf.NotAfter.UTC().Format(time.RFC3339), reason)
			if got := string(w.twin("d1").Desired); got != want {
				t.Errorf("desired %s, want %s", got, want)
			}
		})
	}
}

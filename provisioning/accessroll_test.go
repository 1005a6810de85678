package provisioning_test

import (
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
)

func accessPlan() policies.RotationPlan {
	return policies.RotationPlan{Name: "access", Role: policies.RollAccess, Every: every, Overlap: 2 * keysDay}
}

func (w *world) sweepAccess() {
	w.t.Helper()
	_, err := w.engine.SweepAccessKeys(w.ctx, w.db.ProvisioningJobs())
	w.must(err)
}

// usedDaily is a client that signs in each day with a key; policies are swept as often, and
// something may happen before that.
func (w *world) usedDaily(key []byte, days int, before ...func()) {
	w.t.Helper()
	for range days {
		_, err := w.admit(provisioning.ServicePlane, w.token(key, accessHost, "reader"), "/enrollments/a")
		w.must(err)
		w.pass(keysDay)
		for _, happens := range before {
			happens()
		}
		w.sweepAccess()
	}
}

func TestTheKeysOfAPolicyRollWhenClientsHaveGoneOver(t *testing.T) {
	w := newWorld(t)
	first := w.policy(provisioning.ServicePlane, "reader", policies.EnrollmentRead)
	p := accessPlan()
	p.Overlap = 3 * keysDay
	w.planned(p)
	w.usedDaily(first[0], 29)
	if got := w.accessKeys(provisioning.ServicePlane, "reader"); string(got[1]) != string(first[1]) {
		t.Fatal("a key was made anew before its time")
	}
	w.usedDaily(first[0], 20)
	second := w.accessKeys(provisioning.ServicePlane, "reader")
	if string(second[0]) != string(first[0]) || string(second[1]) == string(first[1]) {
		t.Fatal("the key that is not in use was to be made anew, once")
	}
	// Clients go over one by one: the former key stays while it is used.
	for range 5 {
		w.usedDaily(second[1], 1)
		w.usedDaily(first[0], 1)
	}
	w.usedDaily(second[1], 5)
	third := w.accessKeys(provisioning.ServicePlane, "reader")
	if string(third[0]) == string(first[0]) || string(third[1]) != string(second[1]) {
		t.Fatal("the former key was to be made anew once nobody used it")
	}
	if _, err := w.admit(provisioning.ServicePlane, w.token(first[0], accessHost, "reader"), "/enrollments/a"); fault.RuleOf(err) != "sas-signature" {
		t.Errorf("the former key: %v", err)
	}
	wantRolls(t, w.rolls("access:service/reader"), map[audit.Action]int{audit.RollTold: 1})
	entries, err := w.engine.Ledger(w.ctx, provisioning.LedgerFilter{Subject: "access:service/reader", Action: audit.AccessKeyRolled, Actor: "job:rotation", Limit: 10})
	w.must(err)
	if len(entries) != 2 {
		t.Errorf("%d rows tell of keys that were made anew, want 2", len(entries))
	}
	w.check()
}

func TestWhatHoldsTheRollOfAPolicysKeysBack(t *testing.T) {
	for name, tt := range map[string]struct {
		plan  func(*policies.RotationPlan)
		slot  rotation.Slot // of the key in use
		both  bool          // clients use both
		spent bool          // before each sweep
		moved bool
	}{
		"nothing":                         {moved: true},
		"the secondary is the one in use": {slot: rotation.Secondary, moved: true},
		"a plan that names the policy":    {plan: func(p *policies.RotationPlan) { p.Entries = []string{"service/reader"} }, moved: true},
		"a plan for another plane's":      {plan: func(p *policies.RotationPlan) { p.Entries = []string{"hub/reader"} }},
		"a plan for another role":         {plan: func(p *policies.RotationPlan) { p.Role = policies.RollKeys }},
		"a paused plan":                   {plan: func(p *policies.RotationPlan) { p.Paused = true }},
		"a closed window":                 {plan: func(p *policies.RotationPlan) { p.Windows = policies.Windows{{Opens: "0 2 29 2 *", Length: time.Hour}} }},
		"a rate that is spent":            {plan: func(p *policies.RotationPlan) { p.MaxPerHour = 1 }, spent: true},
		"a rate that is not":              {plan: func(p *policies.RotationPlan) { p.MaxPerHour = 1 }, moved: true},
		"clients that use both keys":      {both: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			keys := w.policy(provisioning.ServicePlane, "reader", policies.EnrollmentRead)
			p := accessPlan()
			if tt.plan != nil {
				tt.plan(&p)
			}
			w.planned(p)
			for range 35 {
				if tt.both {
					_, err := w.admit(provisioning.ServicePlane, w.token(keys[tt.slot.Other()], accessHost, "reader"), "/enrollments/a")
					w.must(err)
				}
				w.usedDaily(keys[tt.slot], 1, func() {
					if tt.spent {
						w.spend(p.Name)
					}
				})
			}
			now := w.accessKeys(provisioning.ServicePlane, "reader")
			if string(now[tt.slot]) != string(keys[tt.slot]) {
				t.Error("the key in use was taken away")
			}
			if moved := string(now[tt.slot.Other()]) != string(keys[tt.slot.Other()]); moved != tt.moved {
				t.Errorf("the other key was made anew: %v", moved)
			}
		})
	}
}

func TestAKeyOfAPolicyThatWasUsedIsReplacedByForceAlone(t *testing.T) {
	w := newWorld(t)
	keys := w.policy(provisioning.ServicePlane, "reader", policies.EnrollmentRead)
	roll := func(force bool) error {
		_, err := w.engine.RollAccessKey(w.ctx, "operator:test", provisioning.ServicePlane, "reader", rotation.Primary, force, provisioning.Precondition{})
		return err
	}
	_, err := w.admit(provisioning.ServicePlane, w.token(keys[0], accessHost, "reader"), "/enrollments/a")
	w.must(err)
	w.pass(23 * time.Hour)
	if err := roll(false); fault.RuleOf(err) != "key-in-use" || !fault.Is(err, fault.Conflict) {
		t.Errorf("a day has not passed: %v", err)
	}
	// What this process noticed is not lost with it.
	w.must(w.engine.SaveKeyUses(w.ctx, w.db.ProvisioningJobs()))
	w.restart()
	if err := roll(false); fault.RuleOf(err) != "key-in-use" {
		t.Errorf("after a restart: %v", err)
	}
	w.must(roll(true))
	// The new key was not used yet; a late note about the former one is not about it.
	w.must(roll(false))
	w.pass(2 * keysDay)
	w.must(roll(false))
	w.check()
}

package provisioning_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

const (
	keysDay = 24 * time.Hour
	every   = 30 * keysDay
)

// planned writes rotation plans.
func (w *world) planned(plans ...policies.RotationPlan) {
	w.t.Helper()
	for _, p := range plans {
		w.plan(p)
	}
}

// spend counts a move of a plan, so that its rate is less in this hour.
func (w *world) spend(plan string) {
	w.t.Helper()
	w.must(w.db.Provisioning().Update(w.ctx, func(tx provisioning.Tx) error {
		return tx.CountMoves(plan, policies.HourOf(w.clock), 1)
	}))
}

func keysPlan() policies.RotationPlan {
	return policies.RotationPlan{Name: "keys", Role: policies.RollKeys, Every: every, Overlap: 2 * keysDay}
}

func (w *world) sweepKeys() {
	w.t.Helper()
	for more := true; more; {
		var err error
		more, err = w.engine.SweepKeys(w.ctx, w.db.ProvisioningJobs())
		w.must(err)
	}
	w.check()
}

// sweepFor sweeps four times a day for a time, and lets something happen before each.
func (w *world) sweepFor(d time.Duration, before ...func()) {
	w.t.Helper()
	for end := w.clock.Add(d); w.clock.Before(end); w.pass(6 * time.Hour) {
		for _, happens := range before {
			happens()
		}
		more, err := w.engine.SweepKeys(w.ctx, w.db.ProvisioningJobs())
		for ; err == nil && more; more, err = w.engine.SweepKeys(w.ctx, w.db.ProvisioningJobs()) {
		}
		w.must(err)
	}
	w.check()
}

// slotKeys are both keys of an entry, however they stand.
func (w *world) slotKeys(o provisioning.Owner) [2][]byte {
	w.t.Helper()
	keys, err := w.engine.Keys(w.ctx, "operator:test", o)
	w.must(err)
	return keys
}

// standing is where the keys stand: "active staged".
func (w *world) standing(o provisioning.Owner) string {
	w.t.Helper()
	list, err := w.engine.KeySlots(w.ctx, o)
	w.must(err)
	var out []string
	for _, s := range list {
		out = append(out, s.State.String())
	}
	return strings.Join(out, " ")
}

// rolls counts the ledger's rows of an entry by action.
func (w *world) rolls(subject string) map[audit.Action]int {
	w.t.Helper()
	entries, err := w.engine.Ledger(w.ctx, provisioning.LedgerFilter{Subject: subject, Limit: 1000})
	w.must(err)
	counts := map[audit.Action]int{}
	for _, e := range entries {
		if strings.HasPrefix(string(e.Action), "roll.") {
			counts[e.Action]++
		}
	}
	return counts
}

func wantRolls(t *testing.T, got map[audit.Action]int, want map[audit.Action]int) {
	t.Helper()
	for action, n := range want {
		if got[action] != n {
			t.Errorf("%d rows of %s, want %d (all: %v)", got[action], action, n, got)
		}
	}
}

func TestADeviceIsOnRecordWithTheKeyThatProvedIt(t *testing.T) {
	w := newWorld(t)
	own, group := w.keyed(provisioning.Individual, "solo"), w.keyed(provisioning.Group, "line")
	w.assigned(w.signing("solo", own))
	derived := verify.DeriveKey(verify.NewSecret(group), "Cell-7").Reveal()
	w.assigned(w.signing("Cell-7", derived))
	for name, key := range map[string][]byte{"solo": own, "cell-7": group} {
		if got := w.registration(name).LeafKey; got != verify.NewSecret(key).Hash() {
			t.Errorf("%s is on record with key %x", name, got)
		}
	}
	if w.registration("cell-7").LeafKey == verify.NewSecret(derived).Hash() {
		t.Error("the derived key is on record, not the group's")
	}
	// A renewal by a certificate of ours keeps it.
	leaf, err := w.enroll(w.signing("solo", own))
	w.must(err)
	w.assigned(w.presenting("solo", leaf))
	if w.registration("solo").LeafKey != verify.NewSecret(own).Hash() {
		t.Error("a renewal forgot the key")
	}
}

func TestKeysRollOnSchedule(t *testing.T) {
	w := newWorld(t)
	first := w.keyed(provisioning.Individual, "dev")
	o := provisioning.Owner{ID: id(w, "dev")}
	before := w.slotKeys(o)
	w.assigned(w.signing("dev", first))
	w.planned(keysPlan())

	w.sweepFor(every - keysDay)
	if got := w.slotKeys(o); string(got[0]) != string(before[0]) || string(got[1]) != string(before[1]) {
		t.Fatal("a key was made anew before its time")
	}
	w.sweepFor(2 * keysDay)
	staged := w.slotKeys(o)
	if string(staged[0]) != string(first) || string(staged[1]) == string(before[1]) || len(staged[1]) != 64 {
		t.Fatal("at its age the secondary was to be made anew, and nothing else")
	}
	w.refused(w.signing("dev", before[1]), "sas-signature")
	w.assigned(w.signing("dev", first))
	wantRolls(t, w.rolls("enrollment:dev"), map[audit.Action]int{audit.RollStaged: 1, audit.RollDropped: 1, audit.RollTold: 1, audit.RollSeen: 0})

	// Nobody takes it up: both keys stay, and that is said once.
	w.sweepFor(40 * keysDay)
	wantRolls(t, w.rolls("enrollment:dev"), map[audit.Action]int{audit.RollStaged: 1, audit.RollStuck: 1})
	w.assigned(w.signing("dev", first))

	// The device comes with it: seen at the next sweep, the former one stands for the overlap.
	w.assigned(w.signing("dev", staged[1]))
	w.sweepKeys()
	if got := w.standing(o); got != "retiring active" {
		t.Fatalf("keys stand %s", got)
	}
	w.sweepFor(keysDay)
	w.assigned(w.signing("dev", first)) // and back: it still admits
	w.sweepFor(3 * keysDay)
	if got := w.slotKeys(o); string(got[0]) != string(first) {
		t.Fatal("the key the device came with last was taken from it")
	}
	w.assigned(w.signing("dev", staged[1]))
	w.sweepFor(12 * time.Hour)
	if got := w.slotKeys(o); string(got[0]) == string(first) || string(got[1]) != string(staged[1]) || w.standing(o) != "staged active" {
		t.Fatalf("the former key was to be made anew; keys stand %s", w.standing(o))
	}
	w.refused(w.signing("dev", first), "sas-signature")
	w.assigned(w.signing("dev", staged[1]))
	wantRolls(t, w.rolls("enrollment:dev"), map[audit.Action]int{audit.RollStaged: 2, audit.RollSeen: 1, audit.RollRetired: 1, audit.RollStuck: 2})
}

func TestKeysRollThereAndBackTenTimes(t *testing.T) {
	w := newWorld(t)
	w.keyed(provisioning.Individual, "dev")
	o := provisioning.Owner{ID: id(w, "dev")}
	w.planned(keysPlan())
	created := w.clock
	for n := range 10 {
		current := rotation.Slot(n % 2)
		w.assigned(w.signing("dev", w.slotKeys(o)[current]))
		for range 10 {
			w.pass(4 * keysDay)
			w.sweepKeys()
			w.assigned(w.signing("dev", w.slotKeys(o)[current]))
		}
		w.assigned(w.signing("dev", w.slotKeys(o)[current.Other()]))
		w.sweepKeys()
		for range 3 {
			w.pass(keysDay)
			w.sweepKeys()
		}
		if got, want := w.standing(o), [2]string{"staged active", "active staged"}[n%2]; got != want {
			t.Fatalf("after roll %d keys stand %s, want %s", n+1, got, want)
		}
	}
	// The last key made anew follows one that is due already: that is told at once.
	wantRolls(t, w.rolls("enrollment:dev"), map[audit.Action]int{audit.RollSeen: 10, audit.RollRetired: 10, audit.RollTold: 11})
	if reg := w.registration("dev"); !reg.Created.Equal(created) {
		t.Errorf("the registration was made anew at %s", reg.Created)
	}
}

func TestAGroupsKeyWaitsForItsLastDevice(t *testing.T) {
	for name, tt := range map[string]struct {
		deadline time.Duration
		taken    bool // the straggler's key is taken from it
	}{"without a deadline it waits": {0, false}, "at the deadline it goes": {10 * keysDay, true}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			first := w.keyed(provisioning.Group, "line")
			o := provisioning.Owner{Kind: provisioning.Group, ID: id(w, "line")}
			device := func(n string, group []byte) provisioning.Attempt {
				return w.signing(n, verify.DeriveKey(verify.NewSecret(group), n).Reveal())
			}
			w.assigned(device("a", first))
			w.assigned(device("b", first))
			p := keysPlan()
			p.Deadline = tt.deadline
			w.planned(p)
			w.sweepFor(every + keysDay)
			second := w.slotKeys(o)[1]
			w.assigned(device("a", second))
			w.sweepKeys()
			w.sweepFor(9 * keysDay)
			w.assigned(device("b", first))
			w.sweepFor(2 * keysDay)
			wantRolls(t, w.rolls("group:line"), map[audit.Action]int{audit.RollSeen: 1, audit.RollStuck: 1})
			w.assigned(device("a", second))
			if tt.taken {
				w.refused(device("b", first), "no-enrollment")
			} else {
				w.assigned(device("b", first))
			}
		})
	}
}

func TestWhatHoldsAKeysRollBack(t *testing.T) {
	night := policies.Windows{{Opens: "0 2 29 2 *", Length: time.Hour}}
	for name, tt := range map[string]struct {
		plan  func(*policies.RotationPlan)
		entry func(*world)
		spent bool // before each sweep
		moves bool
	}{
		"nothing":                               {moves: true},
		"a plan that names the entry":           {plan: func(p *policies.RotationPlan) { p.Entries = []string{"DEV"} }, moves: true},
		"a plan for another entry":              {plan: func(p *policies.RotationPlan) { p.Entries = []string{"other"} }},
		"a plan for another role":               {plan: func(p *policies.RotationPlan) { p.Role = policies.RollAccess }},
		"a plan that rolls nothing by its age":  {plan: func(p *policies.RotationPlan) { p.Every = 0 }},
		"a paused plan":                         {plan: func(p *policies.RotationPlan) { p.Paused = true }},
		"a closed window":                       {plan: func(p *policies.RotationPlan) { p.Windows = night }},
		"a rate that is spent":                  {plan: func(p *policies.RotationPlan) { p.MaxPerHour = 1 }, spent: true},
		"a rate that is not":                    {plan: func(p *policies.RotationPlan) { p.MaxPerHour = 1 }, moves: true},
		"a disabled entry":                      {entry: func(w *world) { w.enable(provisioning.Owner{ID: id(w, "dev")}, false) }},
		"a device that may be on the other key": {entry: func(w *world) { w.unknown("dev") }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			key := w.keyed(provisioning.Individual, "dev")
			w.assigned(w.signing("dev", key))
			if tt.entry != nil {
				tt.entry(w)
			}
			p := keysPlan()
			if tt.plan != nil {
				tt.plan(&p)
			}
			w.planned(p)
			w.sweepFor(every+2*keysDay, func() {
				if tt.spent {
					w.spend(p.Name)
				}
			})
			if moved := w.rolls("enrollment:dev")[audit.RollStaged] > 0; moved != tt.moves {
				t.Errorf("a key was made anew: %v", moved)
			}
		})
	}
}

// unknown makes a device one that registered before its key was put on record.
func (w *world) unknown(name string) {
	w.t.Helper()
	reg := w.registration(name)
	reg.LeafKey, reg.Version = verify.KeyHash{}, reg.Version+1
	w.must(w.db.Provisioning().Update(w.ctx, func(tx provisioning.Tx) error { return tx.PutRegistration(reg) }))
}

func TestARateHoldsForAllEntries(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"a", "b", "c"} {
		w.keyed(provisioning.Individual, name)
	}
	p := keysPlan()
	p.MaxPerHour = 1
	w.planned(p)
	w.sweepKeys()
	w.pass(every)
	for hour := 1; hour <= 3; hour++ {
		w.sweepKeys()
		w.sweepKeys()
		total := 0
		for _, name := range []string{"a", "b", "c"} {
			total += w.rolls("enrollment:" + name)[audit.RollTold]
		}
		if total != hour {
			t.Fatalf("%d keys were made anew in %d hours of one each", total, hour)
		}
		w.pass(time.Hour)
	}
}

func TestTwoProcessesMakeAMoveOnce(t *testing.T) {
	w := newWorld(t)
	key := w.keyed(provisioning.Individual, "dev")
	w.assigned(w.signing("dev", key))
	w.planned(keysPlan())
	w.sweepKeys()
	w.pass(every)
	w.sweep() // the clock is looked at: what follows is the keys' own writes
	// The second process decides on what it read before the first moved.
	racing := &racingStore{Store: w.db.ProvisioningJobs(), before: func() { w.sweepKeys() }}
	_, err := w.engine.SweepKeys(w.ctx, racing)
	w.must(err)
	wantRolls(t, w.rolls("enrollment:dev"), map[audit.Action]int{audit.RollStaged: 1, audit.RollTold: 1})
}

// racingStore lets somebody else go first, once, before its first write.
type racingStore struct {
	provisioning.Store
	before func()
}

func (s *racingStore) first() {
	if f := s.before; f != nil {
		s.before = nil
		f()
	}
}

func (s *racingStore) Update(ctx context.Context, f func(provisioning.Tx) error) error {
	s.first()
	return s.Store.Update(ctx, f)
}

func (s *racingStore) UpdateTrust(ctx context.Context, f func(provisioning.Tx) error) error {
	s.first()
	return s.Store.UpdateTrust(ctx, f)
}

func TestAKeyThatDoesNotOpenHoldsUpNobodyElse(t *testing.T) {
	w := newWorld(t)
	w.keyed(provisioning.Individual, "a-bad")
	w.keyed(provisioning.Individual, "good")
	w.planned(keysPlan())
	w.sweepKeys()
	w.pass(every)
	w.must(w.db.Provisioning().UpdateTrust(w.ctx, func(tx provisioning.Tx) error {
		en, err := tx.Enrollment(provisioning.Owner{ID: id(w, "a-bad")})
		if err != nil {
			return err
		}
		for i := range en.Credentials {
			en.Credentials[i].SealedKey = []byte("sealed by nobody")
		}
		en.Version++
		return tx.UpdateEnrollment(en, en.Version-1)
	}))
	if _, err := w.engine.SweepKeys(w.ctx, w.db.ProvisioningJobs()); err == nil {
		t.Error("nobody is told that a key does not open")
	}
	wantRolls(t, w.rolls("enrollment:good"), map[audit.Action]int{audit.RollStaged: 1})
}

func TestAnOperatorRollsKeysByHand(t *testing.T) {
	w := newWorld(t)
	first := w.keyed(provisioning.Individual, "dev")
	o := provisioning.Owner{ID: id(w, "dev")}
	old := w.slotKeys(o)
	w.assigned(w.signing("dev", first))
	act := func(force bool, slot rotation.Slot, pre provisioning.Precondition) (provisioning.Enrollment, error) {
		return w.engine.RegenerateKey(w.ctx, "operator:test", o, slot, force, pre)
	}
	en, err := act(false, rotation.Secondary, provisioning.Precondition{})
	w.must(err)
	if _, err := act(false, rotation.Secondary, provisioning.Precondition{Version: en.Version - 1}); !fault.Is(err, fault.PreconditionFailed) {
		t.Errorf("over another version: %v", err)
	}
	w.refused(w.signing("dev", old[1]), "sas-signature")
	_, err = act(false, rotation.Primary, provisioning.Precondition{})
	if fault.RuleOf(err) != "key-in-use" || !strings.Contains(err.Error(), "1 device ") {
		t.Errorf("the key in use: %v", err)
	}
	if _, err := w.engine.SwitchKey(w.ctx, "operator:test", o, rotation.Primary, provisioning.Precondition{}); fault.RuleOf(err) != "not-staged" {
		t.Errorf("switching to the key in use: %v", err)
	}
	_, err = w.engine.SwitchKey(w.ctx, "operator:test", o, rotation.Secondary, provisioning.Precondition{})
	w.must(err)
	if got := w.standing(o); got != "retiring active" {
		t.Errorf("after the switch keys stand %s", got)
	}
	w.assigned(w.signing("dev", w.slotKeys(o)[1]))
	_, err = act(false, rotation.Primary, provisioning.Precondition{Any: true})
	w.must(err)
	w.refused(w.signing("dev", first), "sas-signature")
	if got := w.standing(o); got != "staged active" {
		t.Errorf("after all keys stand %s", got)
	}
	// By force the key in use goes, and the other takes over.
	_, err = act(true, rotation.Secondary, provisioning.Precondition{})
	w.must(err)
	if got := w.standing(o); got != "active staged" {
		t.Errorf("after force keys stand %s", got)
	}
	w.check()
	for name, o := range map[string]provisioning.Owner{"not-found": {ID: id(w, "nobody")}, "conflict": {Kind: provisioning.Group, ID: id(w, "x509")}} {
		if name == "conflict" {
			w.group("x509", testkit.Chain(t, "root > mid > dev").Get("mid"))
		}
		if _, err := w.engine.RegenerateKey(w.ctx, "operator:test", o, rotation.Primary, true, provisioning.Precondition{}); fault.KindOf(err).String() != name {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAWriteThatFailsLeavesTheKeysAndOneThatWasKeptIsNotRepeated(t *testing.T) {
	for name, kept := range map[string]bool{"lost": false, "kept": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			key := w.keyed(provisioning.Individual, "dev")
			w.assigned(w.signing("dev", key))
			w.planned(keysPlan())
			w.sweepKeys()
			w.pass(every)
			broken := &brokenStore{Store: w.db.ProvisioningJobs(), kept: kept}
			if _, err := w.engine.SweepKeys(w.ctx, broken); !fault.Is(err, fault.Unavailable) {
				t.Fatalf("the failure is not told: %v", err)
			}
			w.check()
			w.sweepKeys()
			wantRolls(t, w.rolls("enrollment:dev"), map[audit.Action]int{audit.RollStaged: 1, audit.RollTold: 1})
			w.assigned(w.signing("dev", key))
		})
	}
}

// brokenStore fails its first UpdateTrust, before the commit or after it.
type brokenStore struct {
	provisioning.Store
	kept, done bool
}

func (s *brokenStore) UpdateTrust(ctx context.Context, f func(provisioning.Tx) error) error {
	if s.done {
		return s.Store.UpdateTrust(ctx, f)
	}
	s.done = true
	failed := fault.New(fault.Unavailable, "database-unavailable", "gone")
	if s.kept {
		if err := s.Store.UpdateTrust(ctx, f); err != nil {
			return err
		}
		return failed
	}
	return s.Store.UpdateTrust(ctx, func(tx provisioning.Tx) error {
		if err := f(tx); err != nil {
			return err
		}
		return failed
	})
}

func TestHubIdentitiesFollowTheKeys(t *testing.T) {
	w := newWorld(t)
	group := w.keyed(provisioning.Group, "line")
	o := provisioning.Owner{Kind: provisioning.Group, ID: id(w, "line")}
	w.assigned(w.signing("cell", verify.DeriveKey(verify.NewSecret(group), "cell").Reveal()))
	hubKeys := func() [2]verify.Secret {
		d, err := w.engine.HubDevice(w.ctx, builtIn, id(w, "cell"), "operator:test")
		w.must(err)
		return d.Auth.Keys
	}
	_, err := w.engine.RegenerateKey(w.ctx, "operator:test", o, rotation.Secondary, false, provisioning.Precondition{})
	w.must(err)
	for slot, key := range w.slotKeys(o) {
		if !hubKeys()[slot].Equal(verify.DeriveKey(verify.NewSecret(key), "cell")) {
			t.Errorf("the hub has another %s key than the device would derive", rotation.Slot(slot))
		}
	}
}

func TestKeysThatAreWrittenAgainStayWhereTheyStand(t *testing.T) {
	w := newWorld(t)
	w.keyed(provisioning.Individual, "dev")
	o := provisioning.Owner{ID: id(w, "dev")}
	_, err := w.engine.SwitchKey(w.ctx, "operator:test", o, rotation.Secondary, provisioning.Precondition{})
	w.must(err)
	keys := w.slotKeys(o)
	again := provisioning.Attestation{Role: provisioning.RoleKey, Slots: [2]provisioning.SlotDraft{{Key: keys[0]}, {Key: keys[1]}}}
	w.put(provisioning.Individual, "dev", again)
	if got := w.standing(o); got != "retiring active" {
		t.Errorf("after the same keys were put keys stand %s", got)
	}
	again.Slots[1].Key = keys[0]
	w.put(provisioning.Individual, "dev", again)
	if got := w.standing(o); got != "active staged" {
		t.Errorf("after another secondary was put keys stand %s", got)
	}
}

package provisioning_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/internal/testpg"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/postgres"
	"github.com/passmuster/muster/verify"
)

// line is a symmetric-key group and its devices.
type line struct {
	*world
	group string
	key   []byte
	names []string
	leafs map[string]*x509.Certificate
}

// certified is a line whose devices have a certificate and use it.
func (w *world) certified(group string, n int) *line {
	w.t.Helper()
	l := &line{world: w, group: group, key: w.keyed(provisioning.Group, group), leafs: map[string]*x509.Certificate{}}
	for i := range n {
		name := fmt.Sprintf("%s-%03d", group, i)
		l.names = append(l.names, name)
		leaf := l.asks(l.attempt(name))
		l.leafs[name] = leaf
		l.shows(name)
	}
	w.pass(time.Minute)
	return l
}

func (l *line) attempt(name string) provisioning.Attempt {
	return l.signing(name, derive(l.key, name))
}

// asks has a device ask for a certificate, without the checks of a whole store after each.
func (l *line) asks(a provisioning.Attempt) *x509.Certificate {
	l.t.Helper()
	op, err := l.engine.Register(l.ctx, provisioning.RegisterRequest{Attempt: a, CSR: testkit.CSR(l.t, testkit.NewKey(l.t, "p256"), a.Spelled)})
	l.must(err)
	leaf, err := x509.ParseCertificate(op.Chain[0])
	l.must(err)
	return leaf
}

// shows has a device register with its certificate.
func (l *line) shows(name string) {
	l.t.Helper()
	_, err := l.engine.Register(l.ctx, provisioning.RegisterRequest{Attempt: l.presenting(name, l.leafs[name])})
	l.must(err)
}

// renews has a device get a certificate with the one it has.
func (l *line) renews(name string) {
	l.t.Helper()
	l.leafs[name] = l.asks(l.presenting(name, l.leafs[name]))
}

// retires does the planner's part: what has retired leaves its slot.
func (l *line) retires(name string) {
	l.t.Helper()
	l.must(l.db.Provisioning().UpdateTrust(l.ctx, func(tx provisioning.Tx) error {
		reg, err := tx.Registration(id(l.world, name))
		if err != nil {
			return err
		}
		for _, slot := range []rotation.Slot{rotation.Primary, rotation.Secondary} {
			if c := reg.Pair.Cell(slot); c.State == rotation.Retiring && !l.clock.Before(c.RetireAt) {
				if reg.Pair, err = reg.Pair.Retire(c.Ref); err != nil {
					return err
				}
			}
		}
		reg.Version++
		return tx.PutRegistration(reg)
	}))
}

// parked are devices on record that have no certificate: many in little time.
func (w *world) parked(group string, n int) *line {
	w.t.Helper()
	l := &line{world: w, group: group, key: w.keyed(provisioning.Group, group)}
	owner := provisioning.Owner{Kind: provisioning.Group, ID: id(w, group)}
	for i := range n {
		l.names = append(l.names, fmt.Sprintf("%s-%05d", group, i))
	}
	for chunk := range slices.Chunk(l.names, 500) {
		w.must(w.db.Provisioning().Update(w.ctx, func(tx provisioning.Tx) error {
			for _, name := range chunk {
				reg := provisioning.Registration{
					ID: id(w, name), Spelled: name, Owner: owner, Mechanism: verify.MechanismSymmetricKey, State: provisioning.Assigned,
					Hub: builtIn, DeviceID: name, Created: w.clock, Updated: w.clock, Version: 1,
					Operation: provisioning.OperationRecord{ID: "op-" + name, At: w.clock},
				}
				if err := tx.PutRegistration(reg); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	w.pass(time.Minute)
	return l
}

// registers has parked devices come.
func (l *line) registers(names ...string) {
	l.t.Helper()
	for chunk := range slices.Chunk(names, 200) {
		l.must(l.db.Provisioning().Update(l.ctx, func(tx provisioning.Tx) error {
			for _, name := range chunk {
				reg, err := tx.Registration(id(l.world, name))
				if err != nil {
					return err
				}
				reg.Operation.At, reg.Updated = l.clock, l.clock
				reg.Version++
				if err := tx.PutRegistration(reg); err != nil {
					return err
				}
			}
			return nil
		}))
	}
}

// start puts a campaign of the line on record and has it gather.
func (l *line) start(c policies.Campaign) provisioning.Campaign {
	l.t.Helper()
	if c.Name == "" {
		c.Name = "roll"
	}
	if c.Select.Group == "" && len(c.Select.IDs) == 0 {
		c.Select.Group = l.group
	}
	made, err := l.engine.StartCampaign(l.ctx, "operator:ann", c)
	l.must(err)
	return made
}

// sweepCampaigns runs the sweep until there is nothing left to do at this moment.
func (w *world) sweepCampaigns() {
	w.t.Helper()
	for range 10_000 {
		more, err := w.engine.SweepCampaigns(w.ctx, w.db.ProvisioningJobs())
		w.must(err)
		if !more {
			return
		}
	}
	w.t.Fatal("the sweep does not end")
}

func (w *world) report(name string) provisioning.CampaignReport {
	w.t.Helper()
	r, err := w.engine.Campaign(w.ctx, name)
	w.must(err)
	return r
}

// stands wants a campaign in a state, and its devices counted so: "seen=3 told=2".
func (w *world) stands(name string, state provisioning.CampaignState, want map[provisioning.DeviceState]int64) provisioning.CampaignReport {
	w.t.Helper()
	r := w.report(name)
	got := map[provisioning.DeviceState]int64{}
	for _, n := range r.Counts {
		got[n.State] += n.Devices
	}
	if r.State != state || fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Fatalf("campaign %s is %s (%s) in wave %d with %v, want %s with %v", name, r.State, r.Reason, r.Wave, got, state, want)
	}
	return r
}

// inState are the names of a campaign's devices in a state.
func (w *world) inState(name string, state provisioning.DeviceState) (names []string) {
	w.t.Helper()
	list, err := w.engine.CampaignDevices(w.ctx, provisioning.CampaignDeviceFilter{Campaign: name, State: state})
	w.must(err)
	for _, d := range list {
		names = append(names, d.ID.String())
	}
	return names
}

type count = map[provisioning.DeviceState]int64

func TestACampaignGoesThroughItsWaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.certified("line", 10)
	first := map[string]*x509.Certificate{}
	for name, leaf := range l.leafs {
		first[name] = leaf
	}
	w.must2(w.engine.ChangeTwin(w.ctx, "operator:app", provisioning.TwinDraft{
		Hub: builtIn, ID: id(w, l.names[0]), Desired: []byte(`{"interval":5,"muster":{"note":"kept"}}`),
	}, provisioning.Precondition{}))
	l.start(policies.Campaign{Act: policies.ActRenew, CanaryDevices: 2, Waves: 2, WaveAfter: 1, Patience: 48 * time.Hour})
	w.sweepCampaigns()
	w.stands("roll", provisioning.CampaignRunning, count{"due": 8, "told": 2})

	// Until the canaries were seen with the new certificate nobody else is told.
	canaries := w.inState("roll", provisioning.DeviceTold)
	w.pass(time.Minute)
	for _, name := range canaries {
		l.renews(name)
	}
	w.sweepCampaigns()
	w.stands("roll", provisioning.CampaignRunning, count{"due": 8, "staged": 2})
	w.pass(time.Minute)
	l.shows(canaries[0])
	w.sweepCampaigns()
	w.stands("roll", provisioning.CampaignRunning, count{"due": 8, "staged": 1, "seen": 1})
	w.pass(time.Minute)
	l.shows(canaries[1])
	w.sweepCampaigns()
	w.sweepCampaigns()
	if r := w.stands("roll", provisioning.CampaignRunning, count{"due": 4, "told": 4, "seen": 2}); r.Wave != 2 {
		t.Errorf("wave %d", r.Wave)
	}
	for range 2 {
		w.pass(time.Minute)
		for _, name := range w.inState("roll", provisioning.DeviceTold) {
			l.renews(name)
			l.shows(name)
		}
		w.sweepCampaigns()
		w.sweepCampaigns()
	}
	w.stands("roll", provisioning.CampaignRunning, count{"seen": 10})

	// It ends when the old certificates have retired.
	w.pass(25 * time.Hour)
	for _, name := range l.names {
		l.retires(name)
	}
	w.sweepCampaigns()
	r := w.stands("roll", provisioning.CampaignDone, count{"retired": 10})
	if r.Devices != 10 {
		t.Errorf("%d devices", r.Devices)
	}
	told := w.ledger(audit.RollTold)
	if len(told) != 10 {
		t.Errorf("%d were told, want each of 10 once", len(told))
	}
	if done := w.ledger(audit.CampaignDone); len(done) != 1 || string(done[0].Body) != `{"devices":10}` {
		t.Errorf("the ledger says %v", done)
	}
	d, err := w.engine.Device(w.ctx, id(w, l.names[0]))
	w.must(err)
	twin := object(t, d.Twin.Desired)
	muster := twin["muster"].(map[string]any)
	if renew := muster["renew"].(map[string]any); fmt.Sprint(twin["interval"]) != "5" || muster["note"] != "kept" || renew["campaign"] != "roll" || renew["reason"] != "campaign" {
		t.Errorf("the twin says %s", d.Twin.Desired)
	}
	w.restart() // a campaign that ended stays so
	w.pass(time.Hour)
	w.sweepCampaigns()
	w.stands("roll", provisioning.CampaignDone, count{"retired": 10})
}

func TestReprovisioningIssuesNothing(t *testing.T) { // scenarios G2, G10
	t.Parallel()
	w := newWorld(t)
	l := w.certified("line", 3)
	before := w.registration(l.names[0]).Pair
	l.start(policies.Campaign{Act: policies.ActReprovision})
	w.sweepCampaigns()
	w.stands("roll", provisioning.CampaignRunning, count{"told": 3})
	w.pass(time.Minute)
	for _, name := range l.names {
		l.shows(name)
	}
	w.sweepCampaigns()
	w.stands("roll", provisioning.CampaignDone, count{"seen": 3})
	if after := w.registration(l.names[0]).Pair; after != before {
		t.Errorf("the pair was %v and is %v", before, after)
	}
}

func TestOneDeviceIsToldToRegisterAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.parked("line", 2)
	reg, err := w.engine.Reprovision(w.ctx, "operator:ann", id(w, l.names[0]))
	w.must(err)
	if reg.ID.String() != l.names[0] {
		t.Errorf("told %s", reg.ID)
	}
	d, err := w.engine.Device(w.ctx, reg.ID)
	w.must(err)
	said := object(t, d.Twin.Desired)["muster"].(map[string]any)["reprovision"].(map[string]any)
	if said["at"] != w.clock.Format(time.RFC3339) || said["reason"] != "operator" {
		t.Errorf("the twin says %v", said)
	}
	if told := w.ledger(audit.RollTold); len(told) != 1 || told[0].Actor != "operator:ann" {
		t.Errorf("the ledger says %v", told)
	}
	_, err = w.engine.Reprovision(w.ctx, "operator:ann", id(w, "nobody"))
	w.fails(err, fault.NotFound, "registration-not-found")
	w.enable(provisioning.Owner{Kind: provisioning.Group, ID: id(w, "line")}, false)
	_, err = w.engine.Reprovision(w.ctx, "operator:ann", id(w, l.names[1]))
	w.fails(err, fault.Conflict, provisioning.RuleEntryDisabled)
}

func TestACampaignTellsInItsWindowsOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.parked("line", 5)
	w.clock = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	l.start(policies.Campaign{Act: policies.ActReprovision, Windows: policies.Windows{{Opens: "0 2 * * *", Length: time.Hour, Zone: "Europe/Berlin"}}})
	w.sweepCampaigns()
	r := w.stands("roll", provisioning.CampaignRunning, count{"due": 5})
	opens := time.Date(2026, 3, 3, 1, 0, 0, 0, time.UTC)
	if r.Open || !r.Opens.Equal(opens) {
		t.Errorf("open %v, next %s", r.Open, r.Opens)
	}
	w.clock = opens.Add(-time.Second)
	w.sweepCampaigns()
	w.stands("roll", provisioning.CampaignRunning, count{"due": 5})
	w.clock = opens
	w.sweepCampaigns()
	w.stands("roll", provisioning.CampaignRunning, count{"told": 5})
}

// What was forecast is what happens (scenarios H11), and no hour has more than its share.
func TestARateHoldsAndTheForecastComesTrue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const devices, rate = 1000, 150
	l := w.parked("line", devices)
	w.clock = time.Date(2026, 3, 2, 20, 0, 0, 0, time.UTC)
	l.start(policies.Campaign{
		Act: policies.ActReprovision, MaxPerHour: rate, Windows: policies.Windows{{Opens: "0 22 * * *", Length: 4 * time.Hour}},
		CanaryDevices: 20, Waves: 3, Jitter: 10 * time.Minute,
	})
	w.sweepCampaigns()
	forecast := w.report("roll").Forecast
	happened := map[time.Time]int64{}
	for range 400 {
		w.sweepCampaigns()
		w.pass(5 * time.Minute)
		l.registers(w.inState("roll", provisioning.DeviceTold)...)
		if w.report("roll").State == provisioning.CampaignDone {
			break
		}
	}
	w.sweepCampaigns()
	w.stands("roll", provisioning.CampaignDone, count{"seen": devices})
	for _, e := range w.ledger(audit.RollTold) {
		happened[e.At.Truncate(time.Hour)]++
	}
	for hour, n := range happened {
		if n > rate {
			t.Errorf("%d were told in the hour of %s", n, hour)
		}
	}
	for _, f := range forecast {
		if n := happened[f.Hour]; float64(n) < 0.9*float64(f.Devices) || float64(n) > 1.1*float64(f.Devices) {
			t.Errorf("%s: forecast %d, happened %d", f.Hour, f.Devices, n)
		}
	}
}

func TestErrorsStopACampaign(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.parked("line", 60)
	l.start(policies.Campaign{Act: policies.ActReprovision, Sizes: []int{20, 40}, WaveAfter: 0.5, Patience: time.Hour, MaxErrorRate: 0.2, MinSample: 10})
	w.sweepCampaigns()
	wave := w.inState("roll", provisioning.DeviceTold)
	w.pass(time.Minute)
	l.registers(wave[:9]...)
	w.sweepCampaigns()
	w.pass(2 * time.Hour)
	w.sweepCampaigns()
	r := w.stands("roll", provisioning.CampaignPaused, count{"due": 40, "seen": 9, "failed": 11})
	if r.Reason != provisioning.RuleErrorRate || r.Reasons[provisioning.RuleNotComing] != 11 {
		t.Errorf("paused for %q, failed for %v", r.Reason, r.Reasons)
	}
	if stuck := w.ledger(audit.RollStuck); len(stuck) != 11 {
		t.Errorf("%d are stuck in the ledger", len(stuck))
	}
	w.pass(time.Hour)
	w.sweepCampaigns()
	w.stands("roll", provisioning.CampaignPaused, count{"due": 40, "seen": 9, "failed": 11})

	// Resumed, errors are counted anew, and a wave that fell short is left behind.
	w.resume("roll")
	w.sweepCampaigns()
	w.stands("roll", provisioning.CampaignRunning, count{"told": 40, "seen": 9, "failed": 11})
	for range 3 {
		w.pass(2 * time.Hour)
		w.sweepCampaigns()
	}
	w.stands("roll", provisioning.CampaignPaused, count{"seen": 9, "failed": 51})
	w.resume("roll") // nobody is left
	w.sweepCampaigns()
	w.stands("roll", provisioning.CampaignDone, count{"seen": 9, "failed": 51})
}

func TestAWaveThatFallsShortStopsACampaign(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.parked("line", 9)
	l.start(policies.Campaign{Act: policies.ActReprovision, CanaryDevices: 3, Patience: time.Hour})
	w.sweepCampaigns()
	canaries := w.inState("roll", provisioning.DeviceTold)
	w.pass(time.Minute)
	l.registers(canaries[:2]...)
	w.pass(2 * time.Hour)
	w.sweepCampaigns()
	if r := w.stands("roll", provisioning.CampaignPaused, count{"due": 6, "seen": 2, "failed": 1}); r.Reason != provisioning.RuleWaveIncomplete {
		t.Errorf("paused for %q", r.Reason)
	}
	w.resume("roll") // the operator has looked, and goes on
	w.sweepCampaigns()
	w.stands("roll", provisioning.CampaignRunning, count{"told": 6, "seen": 2, "failed": 1})
}

func TestWhoCannotComeIsNotTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.parked("line", 4)
	ids := append([]string{"pump-1", "nobody"}, l.names...)
	key := w.keyed(provisioning.Individual, "pump-1")
	w.assigned(w.signing("pump-1", key))
	l.start(policies.Campaign{Act: policies.ActReprovision, Select: policies.Selection{IDs: ids}, Windows: policies.Windows{{Opens: "0 2 * * *", Length: time.Hour}}})
	w.sweepCampaigns()
	w.stands("roll", provisioning.CampaignRunning, count{"due": 5})
	w.enable(provisioning.Owner{ID: id(w, "pump-1")}, false)
	w.must(w.engine.DeleteRegistration(w.ctx, "operator:ann", id(w, l.names[0]), provisioning.Precondition{Any: true}))
	w.pass(time.Minute)
	l.registers(l.names[1]) // comes by itself
	w.clock = w.clock.Truncate(24 * time.Hour).Add(26 * time.Hour)
	w.sweepCampaigns()
	r := w.stands("roll", provisioning.CampaignRunning, count{"told": 2, "seen": 1, "gone": 1, "failed": 1})
	if r.Reasons[provisioning.RuleEntryDisabled] != 1 || r.Moved != 2 || r.Failed != 0 {
		t.Errorf("reasons %v, %d told in the hour, %d errors", r.Reasons, r.Moved, r.Failed)
	}
}

// Each device has a moment of its own, and is given up by that.
func TestDevicesToldTogetherComeSpread(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.parked("line", 40)
	w.clock = w.clock.Truncate(time.Hour)
	told := w.clock
	l.start(policies.Campaign{Act: policies.ActReprovision, Jitter: time.Hour, Patience: time.Hour, MaxErrorRate: 1})
	w.sweepCampaigns()
	first, last := told.Add(time.Hour), told
	early := 0
	for _, e := range w.ledger(audit.RollTold) {
		at, err := time.Parse(time.RFC3339, object(t, e.Body)["at"].(string))
		w.must(err)
		if at.Before(told) || at.After(told.Add(time.Hour)) {
			t.Errorf("at %s", at)
		}
		if at.Before(first) {
			first = at
		}
		if at.After(last) {
			last = at
		}
		if at.Before(told.Add(30 * time.Minute)) {
			early++
		}
	}
	if last.Sub(first) < 40*time.Minute || early < 8 || early > 32 {
		t.Errorf("%d of 40 come in the first half, all from %s to %s", early, first, last)
	}
	w.clock = told.Add(90 * time.Minute)
	w.sweepCampaigns()
	r := w.report("roll")
	if n := r.Reasons[provisioning.RuleNotComing]; n != int64(early) {
		t.Errorf("%d were given up after an hour and a half, want %d", n, early)
	}
	w.clock = told.Add(2*time.Hour + time.Second)
	w.sweepCampaigns()
	w.stands("roll", provisioning.CampaignDone, count{"failed": 40})
}

func TestADeviceThatFailsSaysWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.certified("line", 4)
	refused, staged, gone := l.names[0], l.names[1], l.names[2]
	l.start(policies.Campaign{Act: policies.ActRenew, Patience: time.Hour, MaxErrorRate: 1})
	w.sweepCampaigns()
	w.pass(time.Minute)
	_, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: w.signing(refused, []byte("another key entirely"))})
	w.fails(err, fault.Unauthenticated, "no-enrollment")
	l.renews(staged)
	w.must(w.engine.DeleteRegistration(w.ctx, "operator:ann", id(w, gone), provisioning.Precondition{Any: true}))
	w.pass(time.Hour)
	w.sweepCampaigns()
	r := w.stands("roll", provisioning.CampaignDone, count{"failed": 3, "gone": 1})
	if fmt.Sprint(r.Reasons) != "map[no-enrollment:1 not-coming:1 not-cut-over:1]" {
		t.Errorf("failed for %v", r.Reasons)
	}
}

func TestADeviceThatLostItsSuccessorIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.certified("line", 2)
	lost, ahead := l.names[0], l.names[1]
	l.asks(w.presenting(lost, l.leafs[lost])) // the answer never arrives
	w.pass(time.Minute)
	l.start(policies.Campaign{Act: policies.ActRenew, Windows: policies.Windows{{Opens: "0 2 * * *", Length: time.Hour}}})
	w.sweepCampaigns()
	w.pass(time.Minute)
	l.renews(ahead)
	w.clock = w.clock.Truncate(24 * time.Hour).Add(26 * time.Hour)
	w.sweepCampaigns()
	w.stands("roll", provisioning.CampaignRunning, count{"told": 1, "staged": 1})
	w.pass(time.Minute)
	l.renews(lost)
	l.shows(lost)
	l.shows(ahead)
	w.sweepCampaigns()
	w.stands("roll", provisioning.CampaignRunning, count{"seen": 2})
}

// What stands in a twin stays, though the hub's door wrote it before the device had
// registered; a twin without room is left alone.
func TestAWordLeavesTheTwinAsItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.keyed(provisioning.Group, "line")
	for name, desired := range map[string]string{"made": `{"a":1}`, "full": `{"a":"` + strings.Repeat("x", 32<<10-12) + `"}`} {
		device := id(w, name)
		_, err := w.engine.PutHubDevice(w.ctx, "operator:app", provisioning.HubDraft{Hub: builtIn, ID: device, Spelled: name}, provisioning.Precondition{})
		w.must(err)
		w.must2(w.engine.ChangeTwin(w.ctx, "operator:app", provisioning.TwinDraft{Hub: builtIn, ID: device, Desired: []byte(desired)}, provisioning.Precondition{}))
		w.assigned(w.signing(name, derive(key, name)))
		w.must2(w.engine.Reprovision(w.ctx, "operator:ann", device))
		d, err := w.engine.HubDevice(w.ctx, builtIn, device, "")
		w.must(err)
		_, said := object(t, d.Twin.Desired)["muster"]
		if object(t, d.Twin.Desired)["a"] == nil || said != (name == "made") {
			t.Errorf("the twin of %s says %.100s", name, d.Twin.Desired)
		}
	}
	if told := w.ledger(audit.RollTold); len(told) != 2 {
		t.Errorf("%d rows in the ledger", len(told))
	}
}

func TestACampaignIsSteered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.parked("line", 6)
	made := l.start(policies.Campaign{Act: policies.ActReprovision, CanaryDevices: 2, Expect: 5})
	_, err := w.engine.StartCampaign(w.ctx, "operator:bob", made.Campaign)
	w.fails(err, fault.Conflict, "campaign-exists")
	w.sweepCampaigns()
	if r := w.stands("roll", provisioning.CampaignPaused, count{"due": 6}); r.Reason != provisioning.RuleMoreDevices {
		t.Errorf("paused for %q", r.Reason)
	}
	w.resume("roll")
	w.sweepCampaigns()
	w.stands("roll", provisioning.CampaignRunning, count{"due": 4, "told": 2})
	version := w.report("roll").Version

	// Of two operators who act on what they read one is refused.
	_, err = w.engine.PauseCampaign(w.ctx, "operator:ann", "roll", "shift change", provisioning.Precondition{Version: version})
	w.must(err)
	_, err = w.engine.AbortCampaign(w.ctx, "operator:bob", "roll", "", provisioning.Precondition{Version: version})
	w.fails(err, fault.PreconditionFailed, "etag-mismatch")
	_, err = w.engine.PauseCampaign(w.ctx, "operator:ann", "roll", "", provisioning.Precondition{})
	w.fails(err, fault.Conflict, "campaign-not-running")

	// Paused, nobody is told and who was told is still seen; the wave goes on after it.
	w.pass(time.Minute)
	l.registers(w.inState("roll", provisioning.DeviceTold)...)
	w.sweepCampaigns()
	if r := w.stands("roll", provisioning.CampaignPaused, count{"due": 4, "seen": 2}); r.Reason != "shift change" {
		t.Errorf("paused for %q", r.Reason)
	}
	w.resume("roll")
	_, err = w.engine.ResumeCampaign(w.ctx, "operator:ann", "roll", "", provisioning.Precondition{})
	w.fails(err, fault.Conflict, "campaign-not-paused")
	w.sweepCampaigns()
	w.stands("roll", provisioning.CampaignRunning, count{"told": 4, "seen": 2})

	// Aborted, devices stay as they are, and nobody is looked at.
	_, err = w.engine.AbortCampaign(w.ctx, "operator:ann", "roll", "wrong line", provisioning.Precondition{})
	w.must(err)
	w.pass(time.Minute)
	l.registers(w.inState("roll", provisioning.DeviceTold)...)
	w.sweepCampaigns()
	w.stands("roll", provisioning.CampaignAborted, count{"told": 4, "seen": 2})
	_, err = w.engine.AbortCampaign(w.ctx, "operator:ann", "roll", "", provisioning.Precondition{})
	w.fails(err, fault.Conflict, "campaign-ended")
	_, err = w.engine.AbortCampaign(w.ctx, "operator:ann", "none", "", provisioning.Precondition{})
	w.fails(err, fault.NotFound, "campaign-not-found")
	for _, action := range []audit.Action{audit.CampaignStarted, audit.CampaignPaused, audit.CampaignResumed, audit.CampaignWave, audit.CampaignAborted} {
		if len(w.ledger(action)) == 0 {
			t.Errorf("the ledger has no %s", action)
		}
	}
}

func TestACampaignNamesWhatExists(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.certified("line", 2)
	other := w.parked("other", 3)
	for _, c := range []struct {
		name   string
		act    policies.CampaignAct
		s      policies.Selection
		want   int64
		refuse string
	}{
		{"a group", policies.ActReprovision, policies.Selection{Group: "other"}, 3, ""},
		{"everything", policies.ActReprovision, policies.Selection{Everything: true}, 5, ""},
		{"only who has a certificate renews", policies.ActRenew, policies.Selection{Everything: true}, 2, ""},
		{"some by name, each once", policies.ActReprovision, policies.Selection{IDs: []string{l.names[0], other.names[0], other.names[0], "nobody"}}, 2, ""},
		{"names within a group", policies.ActReprovision, policies.Selection{Group: "line", IDs: []string{l.names[0], other.names[0]}}, 1, ""},
		{"a hub", policies.ActReprovision, policies.Selection{Hub: builtIn}, 5, ""},
		{"a profile", policies.ActRenew, policies.Selection{Profile: "default"}, 2, ""},
		{"certificates that end soon", policies.ActRenew, policies.Selection{ExpiresBefore: w.clock.Add(91 * 24 * time.Hour)}, 2, ""},
		{"none ends today", policies.ActRenew, policies.Selection{ExpiresBefore: w.clock.Add(time.Hour)}, 0, ""},
		{"an issuer", policies.ActRenew, policies.Selection{Issuer: string(w.registration(l.names[0]).Certificate.Issuer)}, 2, ""},
		{"no such group", policies.ActRenew, policies.Selection{Group: "gone"}, 0, "campaign-selects-nothing"},
		{"no such enrollment", policies.ActRenew, policies.Selection{Enrollment: "gone"}, 0, "campaign-selects-nothing"},
		{"no such profile", policies.ActRenew, policies.Selection{Profile: "gone"}, 0, "campaign-selects-nothing"},
		{"no such hub", policies.ActRenew, policies.Selection{Hub: "gone.example.net"}, 0, "campaign-selects-nothing"},
		{"no such issuer", policies.ActRenew, policies.Selection{Issuer: "0011"}, 0, "campaign-selects-nothing"},
		{"no id", policies.ActRenew, policies.Selection{Group: "no id"}, 0, "registration-id"},
	} {
		campaign := policies.Campaign{Name: "try", Act: c.act, Select: c.s}
		n, whole, err := w.engine.PreviewCampaign(w.ctx, campaign)
		if fault.RuleOf(err) != c.refuse || n != c.want || err == nil && !whole {
			t.Errorf("%s: %d devices, %v; want %d, %q", c.name, n, err, c.want, c.refuse)
		}
		if c.refuse != "" {
			_, err := w.engine.StartCampaign(w.ctx, "operator:ann", campaign)
			if fault.RuleOf(err) != c.refuse {
				t.Errorf("%s: started with %v", c.name, err)
			}
		}
	}
}

// A process dies within an Update, which is lost and done again, or after it was kept and
// before it knew.
func TestACampaignGoesOnAfterACrash(t *testing.T) {
	t.Parallel()
	for name, kept := range map[string]bool{"lost": false, "kept": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			l := w.parked("line", 700) // three pages of gathering, fourteen of telling
			l.start(policies.Campaign{Act: policies.ActReprovision, CanaryDevices: 150, WaveAfter: 0.5})
			run := func() {
				for range 20 {
					jobs := &crashing{Store: w.db.ProvisioningJobs(), left: 1, kept: kept}
					for range 3 {
						if _, err := w.engine.SweepCampaigns(w.ctx, jobs); err != nil {
							break
						}
					}
					w.restart()
				}
			}
			run()
			w.stands("roll", provisioning.CampaignRunning, count{"due": 550, "told": 150})
			w.pass(time.Minute)
			l.registers(w.inState("roll", provisioning.DeviceTold)...)
			run()
			w.stands("roll", provisioning.CampaignRunning, count{"seen": 150, "told": 550})
			w.eachToldOnce(700)
		})
	}
}

// crashing is a store whose process ends in an Update, after some.
type crashing struct {
	provisioning.Store
	left int
	kept bool // the Update it ends in is committed
}

var errKilled = errors.New("killed")

func (c *crashing) Update(ctx context.Context, f func(provisioning.Tx) error) error {
	c.left--
	dies := c.left < 0
	err := c.Store.Update(ctx, func(tx provisioning.Tx) error {
		if err := f(tx); err != nil || !dies || c.kept {
			return err
		}
		return errKilled
	})
	if err == nil && dies {
		return errKilled
	}
	return err
}

// Ten processes share a campaign on PostgreSQL: each device is told once, and the rate is
// that of one.
func TestTenProcessesTellEachDeviceOnce(t *testing.T) {
	t.Parallel()
	e, err := postgres.Open(t.Context(), testpg.DSN(t), postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := e.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	kek, err := seal.CreateKEK(t.TempDir()+"/kek.pem", nil)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorldOn(t, e, seal.NewBox(kek))
	const devices = 700
	l := w.parked("line", devices)
	w.clock = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	l.start(policies.Campaign{Act: policies.ActReprovision, MaxPerHour: 500})
	everywhere := func() {
		var running sync.WaitGroup
		for range 10 {
			running.Go(func() {
				for quiet := 0; quiet < 3; {
					more, err := w.engine.SweepCampaigns(context.Background(), store.New(e).ProvisioningJobs())
					if err != nil {
						t.Error(err)
						return
					}
					if more {
						quiet = 0
					} else {
						quiet++
					}
				}
			})
		}
		running.Wait()
		w.sweepCampaigns()
	}
	everywhere()
	w.stands("roll", provisioning.CampaignRunning, count{"due": 200, "told": 500})
	w.pass(time.Hour)
	everywhere()
	w.stands("roll", provisioning.CampaignRunning, count{"told": devices})
	w.eachToldOnce(devices)
}

// object reads JSON.
func object(t *testing.T, text []byte) (v map[string]any) {
	t.Helper()
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

func (w *world) resume(name string) {
	w.t.Helper()
	_, err := w.engine.ResumeCampaign(w.ctx, "operator:ann", name, "looked at", provisioning.Precondition{})
	w.must(err)
}

func (w *world) must2(_ any, err error) {
	w.t.Helper()
	w.must(err)
}

func (w *world) fails(err error, kind fault.Kind, rule string) {
	w.t.Helper()
	if fault.KindOf(err) != kind || fault.RuleOf(err) != rule {
		w.t.Errorf("got %v (%s, %q), want %s %q", err, fault.KindOf(err), fault.RuleOf(err), kind, rule)
	}
}

// ledger is all rows of an action.
func (w *world) ledger(action audit.Action) (all []audit.Entry) {
	w.t.Helper()
	f := provisioning.LedgerFilter{Limit: 500, Action: action}
	for {
		page, err := w.engine.Ledger(w.ctx, f)
		w.must(err)
		all = append(all, page...)
		if len(page) < 500 {
			return all
		}
		f.Before = page[len(page)-1].Seq
	}
}

func (w *world) eachToldOnce(devices int) {
	w.t.Helper()
	told := map[string]int{}
	for _, e := range w.ledger(audit.RollTold) {
		told[e.Subject]++
	}
	for subject, n := range told {
		if n != 1 {
			w.t.Errorf("%s was told %d times", subject, n)
		}
	}
	if len(told) != devices {
		w.t.Errorf("%d were told, want %d", len(told), devices)
	}
}

// BenchmarkACampaign tells devices, and sees that they came.
func BenchmarkACampaign(b *testing.B) {
	w := newWorld(b)
	l := w.parked("line", 10_000)
	for n := 0; b.Loop(); n++ {
		name := fmt.Sprintf("roll-%d", n)
		l.start(policies.Campaign{Name: name, Act: policies.ActReprovision})
		w.sweepCampaigns()
		b.StopTimer()
		w.pass(time.Minute)
		l.registers(l.names...)
		b.StartTimer()
		w.sweepCampaigns()
	}
	b.ReportMetric(float64(10_000*b.N)/b.Elapsed().Seconds(), "devices/s")
}

package provisioning_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/internal/testpg"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/postgres"
)

// plans starts a campaign that ends something, and has its devices gathered.
func (w *world) plans(c policies.Campaign) provisioning.Campaign {
	w.t.Helper()
	if c.Name == "" {
		c.Name = "end"
	}
	_, err := w.engine.StartCampaign(w.ctx, "operator:ann", c)
	w.must(err)
	w.sweepCampaigns()
	got := w.report(c.Name).Campaign
	if got.State != provisioning.CampaignPaused || got.Reason != provisioning.RulePlanned {
		w.t.Fatalf("it is %s (%s), want it to wait for its plan to be looked at", got.State, got.Reason)
	}
	return got
}

// approves has a plan carried out as it was read.
func (w *world) approves(c provisioning.Campaign) {
	w.t.Helper()
	_, err := w.engine.ResumeCampaign(w.ctx, "operator:bob", c.Name, "looked at", provisioning.Precondition{Version: c.Version})
	w.must(err)
	w.sweepCampaigns()
	w.check()
}

func (w *world) foretold(name string, want ...provisioning.CampaignPlanRow) {
	w.t.Helper()
	rows, err := w.engine.CampaignPlan(w.ctx, name)
	w.must(err)
	if got, want := fmt.Sprintf("%+v", rows), fmt.Sprintf("%+v", want); got != want {
		w.t.Errorf("planned is %s, want %s", got, want)
	}
}

// failures are the reasons of a campaign.
func (w *world) failures(name string, want map[string]int64) {
	w.t.Helper()
	if got := w.report(name).Reasons; fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Errorf("failed for %v, want %v", got, want)
	}
}

// Scenario J6, the 200: some are enrolled one by one and some by a group, some never came, one is unknown.
func TestDevicesAreRetiredByAPlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.certified("line", 3)
	hub := w.linked(elsewhere)
	key := w.keyed(provisioning.Individual, "meter-1", livingOn(elsewhere))
	_, err := w.register(w.signing("meter-1", key))
	w.must(err)
	w.sweepHubs()
	w.keyed(provisioning.Individual, "meter-2")
	w.enable(provisioning.Owner{ID: id(w, "meter-2")}, false)
	rows := w.rows()

	c := w.plans(policies.Campaign{Act: policies.ActRetire, Select: policies.Selection{IDs: []string{"meter-1", "METER-2", "line-000", "line-001", "nobody"}}})
	if c.Devices != 4 || w.rows() != rows+2 { // started, paused
		t.Errorf("%d devices, and the ledger has %d more", c.Devices, w.rows()-rows)
	}
	w.foretold("end",
		provisioning.CampaignPlanRow{Entry: provisioning.FateDisabled, Hub: elsewhere, Devices: 1},
		provisioning.CampaignPlanRow{Entry: provisioning.FateException, Hub: builtIn, Devices: 2, Certificates: 2},
		provisioning.CampaignPlanRow{Entry: provisioning.FateWasDisabled, Devices: 1},
	)
	w.failures("end", map[string]int64{"device-unknown": 1})
	w.assigned(l.attempt("line-000")) // nothing has happened yet

	_, err = w.engine.ResumeCampaign(w.ctx, "operator:bob", "end", "", provisioning.Precondition{})
	w.fails(err, fault.PreconditionRequired, "if-match-required")
	hub.Answers(down)
	w.approves(c)
	w.stands("end", provisioning.CampaignRunning, count{"failed": 1, "retired": 3, "told": 1})
	w.refused(l.attempt("line-000"), "enrollment-disabled")
	w.refused(w.presenting("line-001", l.leafs["line-001"]), "enrollment-disabled")
	w.refused(w.signing("meter-1", key), "enrollment-disabled")
	w.ceased("line-000", 1)
	w.assigned(l.attempt("line-002"))

	hub.Answers(nil)
	w.pass(time.Minute)
	w.sweepHubs()
	w.sweepCampaigns()
	w.stands("end", provisioning.CampaignDone, count{"failed": 1, "retired": 4})
	if _, there := hub.Device("meter-1"); there {
		t.Error("the hub has a retired device")
	}
	list, err := w.engine.Retirements(w.ctx, provisioning.RetirementFilter{Campaign: "end"})
	w.must(err)
	if len(list) != 4 || list[3].ID.String() != "meter-2" || list[0].Confirmed.IsZero() {
		t.Errorf("the receipts are %+v", list)
	}
	w.foretold("end", // and stays on record
		provisioning.CampaignPlanRow{Entry: provisioning.FateDisabled, Hub: elsewhere, Devices: 1},
		provisioning.CampaignPlanRow{Entry: provisioning.FateException, Hub: builtIn, Devices: 2, Certificates: 2},
		provisioning.CampaignPlanRow{Entry: provisioning.FateWasDisabled, Devices: 1},
	)
}

func TestNoMoreIsEndedThanWasPlanned(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meanwhile func(w *world, l *line)
		failures  map[string]int64
		counts    count
	}{
		"nothing happened":      {func(*world, *line) {}, map[string]int64{}, count{"retired": 2}},
		"one renewed, no more":  {func(_ *world, l *line) { l.renews("line-000") }, map[string]int64{}, count{"retired": 2}},
		"one was retired alone": {func(w *world, _ *line) { w.retires("line-000", false) }, map[string]int64{}, count{"retired": 2}},
		"one got an enrollment of its own": {func(w *world, _ *line) {
			w.keyed(provisioning.Individual, "line-000")
		}, map[string]int64{"effect-grew": 1}, count{"failed": 1, "retired": 1}},
		"one moved to another hub": {func(w *world, l *line) {
			w.hub("hub-2.example.net")
			w.put(provisioning.Group, "line", provisioning.Attestation{Role: provisioning.RoleKey}, livingOn("hub-2.example.net"))
			w.assigned(l.attempt("line-000"))
		}, map[string]int64{"effect-grew": 1}, count{"failed": 1, "retired": 1}},
		"the group was deleted": {func(w *world, _ *line) { w.leaveGroup("line") }, map[string]int64{}, count{"retired": 2}},
		"one was forgotten":     {func(w *world, _ *line) { w.forget("line-000") }, map[string]int64{}, count{"retired": 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			l := w.certified("line", 2)
			plan := w.plans(policies.Campaign{Act: policies.ActRetire, Select: policies.Selection{Group: "line"}})
			w.pass(time.Minute)
			c.meanwhile(w, l)
			w.approves(plan)
			w.failures("end", c.failures)
			r := w.report("end")
			got := count{}
			for _, n := range r.Counts {
				got[n.State] += n.Devices
			}
			if fmt.Sprint(got) != fmt.Sprint(c.counts) {
				t.Errorf("%v, want %v", got, c.counts)
			}
		})
	}
}

func TestRecordsThatAreNobodysAreDeletedByAPlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.certified("line", 3)
	hub := w.linked(elsewhere)
	far := w.keyed(provisioning.Group, "far", livingOn(elsewhere))
	_, err := w.register(w.signing("far-1", derive(far, "far-1")))
	w.must(err)
	w.sweepHubs()
	for _, group := range []string{"line", "far"} {
		w.leaveGroup(group)
	}
	c := w.plans(policies.Campaign{Act: policies.ActDelete, Select: policies.Selection{Orphaned: true}})
	w.foretold("end",
		provisioning.CampaignPlanRow{Hub: builtIn, Open: []string{provisioning.OpenHubDevice}, Devices: 3},
		provisioning.CampaignPlanRow{Hub: elsewhere, Devices: 1},
	)
	back := "line-001"
	key := w.keyed(provisioning.Individual, back, livingOn(builtIn))
	w.pass(time.Minute)
	w.assigned(w.signing(back, key)) // it is somebody's again
	w.approves(c)
	w.failures("end", map[string]int64{"not-meant-now": 1})
	w.sweepHubs()
	w.pass(time.Minute)
	w.sweepCampaigns()
	w.stands("end", provisioning.CampaignDone, count{"failed": 1, "retired": 3})
	if _, there := hub.Device("far-1"); there {
		t.Error("the hub has a device whose record was deleted")
	}
	w.isIn(back, provisioning.Assigned)
	if left, err := w.engine.Orphaned(w.ctx); err != nil || len(left) != 0 {
		t.Errorf("left are %v (%v)", left, err)
	}
	if _, err := w.engine.HubDevice(w.ctx, builtIn, id(w, l.names[0]), ""); err != nil {
		t.Errorf("the built-in hub keeps a device: %v", err)
	}
}

func TestDeletingFromTheHubToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.certified("line", 2)
	w.leaveGroup("line")
	w.approves(w.plans(policies.Campaign{Act: policies.ActDelete, FromHub: true, Select: policies.Selection{Orphaned: true}}))
	w.stands("end", provisioning.CampaignDone, count{"retired": 2})
	if total, _, err := w.engine.HubCount(w.ctx, builtIn); err != nil || total != 0 {
		t.Errorf("%d devices are on the hub (%v)", total, err)
	}
}

func TestADeviceThatIsLetInAgainIsNoRetiredOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.linked(elsewhere)
	key := w.keyed(provisioning.Group, "line", livingOn(elsewhere))
	for _, name := range []string{"d1", "d2"} {
		_, err := w.register(w.signing(name, derive(key, name)))
		w.must(err)
	}
	w.sweepHubs()
	hub.Answers(down)
	w.approves(w.plans(policies.Campaign{Act: policies.ActRetire, Select: policies.Selection{Group: "line"}, Patience: time.Hour}))
	w.stands("end", provisioning.CampaignRunning, count{"told": 2})
	w.leave("d1")
	w.pass(time.Minute)
	_, err := w.register(w.signing("d1", derive(key, "d1")))
	w.must(err)
	w.sweepCampaigns()
	w.pass(2 * time.Hour)
	w.sweepCampaigns()
	w.failures("end", map[string]int64{"registered-again": 1, "hub-unconfirmed": 1})
}

// The process ends at any write: each device is retired once, by whoever goes on.
func TestRetiringSurvivesACrashAtEachWrite(t *testing.T) {
	t.Parallel()
	for _, kept := range []bool{false, true} {
		for n := 1; ; n += 7 {
			if !retireBreaking(t, n, kept) {
				if n < 50 {
					t.Errorf("there were %d writes only", n)
				}
				break
			}
		}
	}
}

func retireBreaking(t *testing.T, at int, kept bool) (broke bool) {
	t.Helper()
	file := &dying{Engine: newFile(t), kept: kept}
	w := newWorldOn(t, file, newBox(t))
	l := w.certified("line", 3)
	c := w.plans(policies.Campaign{Act: policies.ActRetire, DeleteRecords: true, Select: policies.Selection{Group: "line"}})
	_, err := w.engine.ResumeCampaign(w.ctx, "operator:bob", c.Name, "", provisioning.Precondition{Version: c.Version})
	w.must(err)
	file.at = at
	for more := true; more; {
		if more, err = w.engine.SweepCampaigns(w.ctx, w.db.ProvisioningJobs()); err != nil {
			broke, more = true, true
			w.restart()
		}
	}
	w.stands("end", provisioning.CampaignDone, count{"retired": 3})
	w.check()
	if got := w.ledger(audit.DeviceRetired); len(got) != 3 {
		t.Errorf("after a crash at write %d: %d were retired, want each of 3 once", at, len(got))
	}
	for _, name := range l.names {
		w.ceased(name, 1)
	}
	return broke
}

// The 700-device case on PostgreSQL by several processes: 200 go, of hubs here and elsewhere, and 500 stay.
func TestTwoHundredOfSevenHundredAreRetiredOnceByManyProcesses(t *testing.T) {
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
	l := w.parked("line", 700)
	c := w.plans(policies.Campaign{Act: policies.ActRetire, Expect: 200, Select: policies.Selection{IDs: l.names[:200]}, MaxPerHour: 150})
	_, err = w.engine.ResumeCampaign(w.ctx, "operator:bob", c.Name, "", provisioning.Precondition{Version: c.Version})
	w.must(err)
	everywhere := func() {
		var running sync.WaitGroup
		for range 4 {
			running.Go(func() {
				for more := true; more; {
					var err error
					if more, err = w.engine.SweepCampaigns(context.Background(), store.New(e).ProvisioningJobs()); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		running.Wait()
		w.sweepCampaigns()
	}
	everywhere()
	w.stands("end", provisioning.CampaignRunning, count{"due": 50, "retired": 150})
	w.pass(time.Hour)
	everywhere()
	w.stands("end", provisioning.CampaignDone, count{"retired": 200})
	var retired []string
	for _, e := range w.ledger(audit.DeviceRetired) {
		retired = append(retired, e.Subject)
	}
	slices.Sort(retired)
	if len(slices.Compact(retired)) != 200 || len(w.ledger(audit.DeviceRetired)) != 200 {
		t.Errorf("%d were retired, want each of 200 once", len(retired))
	}
	if total, _, err := w.engine.HubCount(w.ctx, builtIn); err != nil || total != 500 {
		t.Errorf("%d devices are on the hub (%v), want 500", total, err)
	}
	w.refused(l.attempt(l.names[0]), "enrollment-disabled")
	w.assigned(l.attempt(l.names[200]))
}

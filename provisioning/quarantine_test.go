package provisioning_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/hub/hubtest"
	hubwebhook "github.com/passmuster/muster/hub/webhook"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
)

const (
	ward       = "ward.example.net" // the hub of a quarantine: no entry's devices go there
	restricted = `{"properties":{"desired":{"telemetry":"off"}}}`
)

// wards links a built-in hub that takes no devices by itself.
func (w *world) wards() {
	w.t.Helper()
	_, err := w.engine.PutHub(w.ctx, ann, provisioning.Hub{Name: ward, Driver: provisioning.BuiltIn, Draining: true}, provisioning.Precondition{})
	w.must(err)
}

// wardsElsewhere links one that lives elsewhere.
func (w *world) wardsElsewhere() *hubtest.Receiver {
	w.t.Helper()
	r := hubtest.NewReceiver(w.t)
	_, key, err := w.engine.LinkHub(w.ctx, ann, provisioning.Hub{Name: ward, Driver: hubwebhook.Name, Draining: true}, r.URL, provisioning.Precondition{})
	w.must(err)
	r.SignedWith(key)
	return r
}

func confining(w *world, name string) provisioning.QuarantineRequest {
	w.t.Helper()
	return provisioning.QuarantineRequest{ID: id(w, name), Hub: ward, Twin: []byte(restricted), Why: "it scans its neighbours"}
}

// quarantine begins one, and insists on what the preview said of it.
func (w *world) quarantine(name string) (provisioning.Quarantine, provisioning.QuarantinePlan) {
	w.t.Helper()
	w.pass(time.Second)
	plan, err := w.engine.PreviewQuarantine(w.ctx, confining(w, name))
	w.must(err)
	q, err := w.engine.Quarantine(w.ctx, ann, confining(w, name))
	w.must(err)
	w.check()
	if q.From != plan.From || q.Shut != plan.Shut || q.Hub != plan.Hub || q.Confirmed.IsZero() != plan.Elsewhere {
		w.t.Errorf("done was %+v, foreseen %+v", q, plan)
	}
	return q, plan
}

func (w *world) endQuarantine(name string) provisioning.Quarantine {
	w.t.Helper()
	w.pass(time.Second)
	q, err := w.engine.EndQuarantine(w.ctx, ann, id(w, name), "it was looked at")
	w.must(err)
	w.check()
	return q
}

// hops wants the hubs of a quarantine to be as told: "a removes", "b has", with … while pending.
func (w *world) hops(name string, confirmed bool, want ...string) {
	w.t.Helper()
	w.sweepHubs()
	w.must(w.engine.SweepQuarantines(w.ctx, w.db.ProvisioningJobs()))
	r, err := w.engine.QuarantineOf(w.ctx, id(w, name))
	w.must(err)
	got := []string{}
	for _, h := range r.Hops {
		what, _, _ := strings.Cut(h.Hub, ".")
		if what += " has"; h.Removes {
			what = strings.TrimSuffix(what, "has") + "removes"
		}
		if h.Pending {
			what += " …"
		}
		got = append(got, what)
	}
	pending, err := w.engine.PendingQuarantines(w.ctx)
	w.must(err)
	if !slices.Equal(got, want) || r.Confirmed.IsZero() == confirmed || (pending == 0) != confirmed {
		w.t.Errorf("hubs: %q, confirmed %v, %d pending; want %q, %v", got, r.Confirmed, pending, want, confirmed)
	}
}

// desired is what a device on the built-in hub is wanted to do.
func (w *world) desired(hub, name string) string {
	w.t.Helper()
	return string(w.at(hub, name).Twin.Desired)
}

func (w *world) isOff(hub, name string) {
	w.t.Helper()
	if _, err := w.engine.HubDevice(w.ctx, hub, id(w, name), ""); !fault.Is(err, fault.NotFound) {
		w.t.Errorf("%s is on %s (%v)", name, hub, err)
	}
}

func never(d *provisioning.Draft) { d.Reprovision = policies.ReprovisionPolicy{} }

func firstTwin(d *provisioning.Draft) {
	d.InitialTwin = []byte(`{"properties":{"desired":{"telemetry":"on"}}}`)
}

// Whatever its entry says of hubs and twins: here that it stays for ever where it was.
func TestAQuarantinedDeviceLivesOnAnotherHubUntilThatIsEnded(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		w.wards()
		f := testkit.Chain(t, "root > mid > d1")
		w.anchor(f.Get("root"), true)
		w.group("g", f.Get("mid"), never, firstTwin, livingOn(builtIn))
		device := w.presenting("d1", f.Get("d1").Chain()...)
		device.Evidence.Connection = new(provisioning.Connection)
		w.assigned(device)
		w.assigned(device)
		was := w.at(builtIn, "d1")
		on := func(hub, twin string) {
			t.Helper()
			if got := w.desired(hub, "d1"); got != twin {
				t.Errorf("its twin is %s", got)
			}
			other := map[string]string{builtIn: ward, ward: builtIn}[hub]
			w.isOff(other, "d1")
		}
		on(builtIn, `{"telemetry":"on"}`)

		q, plan := w.quarantine("d1")
		if !plan.AtOnce || plan.From.Hub != builtIn || plan.Shut != "" || q.Confirmed != w.now() {
			t.Errorf("%+v", plan)
		}
		on(ward, `{"telemetry":"off"}`)
		if is := w.at(ward, "d1"); !is.Enabled || is.Auth.Thumbprints != was.Auth.Thumbprints {
			t.Errorf("it is %+v there, was %+v", is, was)
		}
		if op, err := w.engine.Poll(w.ctx, provisioning.PollRequest{Attempt: device}); err != nil || op.Hub != ward || op.State != provisioning.Assigned {
			t.Errorf("a poll is answered %s on %s (%v)", op.State, op.Hub, err)
		}
		if e := w.latest(); e.Action != audit.Quarantined || e.Actor != ann || e.Subject != "registration:d1" || !bytes.Contains(e.Body, []byte("neighbours")) {
			t.Errorf("the ledger ends with %+v", e)
		}
		rows := w.rows()
		if again, err := w.engine.Quarantine(w.ctx, ann, confining(w, "d1")); err != nil || again.At != q.At || w.rows() != rows {
			t.Errorf("the second time it is %+v, was %+v (%v)", again, q, err)
		}
		for range 2 {
			if op := w.assigned(device); op.Hub != ward || op.Substatus != policies.ReprovisionedToInitialAssignment {
				t.Errorf("it registers to %s, %s", op.Hub, op.Substatus)
			}
		}
		on(ward, `{"telemetry":"off"}`)
		leaf := w.enrolled(device) // it is no refusal
		x, err := w.engine.Explain(w.ctx, device.ID, nil)
		w.must(err)
		if x.Hub != ward || !strings.Contains(rules(x.Trace), "quarantine") || strings.Contains(rules(x.Trace), "allocation") {
			t.Errorf("explained is %s, by %s", x.Hub, rules(x.Trace))
		}
		list, err := w.engine.Quarantines(w.ctx, provisioning.QuarantineFilter{Hub: ward})
		w.must(err)
		hubs, err := w.engine.Quarantined(w.ctx)
		w.must(err)
		if len(list) != 1 || list[0].Why != "it scans its neighbours" || len(hubs) != 1 || hubs[0].Hub != ward || hubs[0].Devices != 1 {
			t.Errorf("listed are %+v, counted %+v", list, hubs)
		}

		if q := w.endQuarantine("d1"); q.EndedAt != w.now() || q.EndedBy != ann || q.Confirmed != w.now() || q.Why != "it scans its neighbours" {
			t.Errorf("ended it is %+v", q)
		}
		w.isOff(ward, "d1")
		w.isOff(builtIn, "d1")
		if e := w.latest(); e.Action != audit.QuarantineEnded || !bytes.Contains(e.Body, []byte("looked at")) {
			t.Errorf("the ledger ends with %+v", e)
		}
		rows = w.rows()
		w.endQuarantine("d1")
		if w.rows() != rows {
			t.Error("it was ended twice")
		}
		for _, a := range []provisioning.Attempt{device, w.presenting("d1", leaf)} {
			if op := w.assigned(a); op.Hub != builtIn {
				t.Errorf("it is back on %s", op.Hub)
			}
		}
		on(builtIn, `{"telemetry":"on"}`)
	})
}

func TestNoWebhookIsAskedForADeviceInQuarantine(t *testing.T) {
	t.Parallel()
	w, device := asking(t)
	w.wards()
	w.webhook.says(picked(otherHub), nil)
	w.assigned(device)
	w.quarantine("pump-1")
	w.webhook.asked = nil
	w.webhook.says(provisioning.AllocationAnswer{}, fault.New(fault.Unavailable, "down", "down"))
	if op := w.assigned(device); op.Hub != ward || len(w.webhook.asked) != 0 {
		t.Errorf("it is on %s, the webhook was asked %d times", op.Hub, len(w.webhook.asked))
	}
	x, err := w.engine.Explain(w.ctx, device.ID, nil)
	w.must(err)
	if x.Hub != ward {
		t.Errorf("explained is %q", x.Hub)
	}
	w.endQuarantine("pump-1")
	w.webhook.says(picked(otherHub), nil)
	if op := w.assigned(device); op.Hub != otherHub || len(w.webhook.asked) != 1 {
		t.Errorf("it is on %s, the webhook was asked %d times", op.Hub, len(w.webhook.asked))
	}
}

// assignedElsewhere is elsewhereFactory on a database, its one device assigned.
func assignedElsewhere(t *testing.T, database store.Engine) (*world, *hubtest.Receiver, provisioning.Attempt) {
	w := newWorldOn(t, database, newBox(t))
	hub := w.linked(elsewhere)
	f := testkit.Chain(t, "root > mid > d1")
	w.anchor(f.Get("root"), true)
	w.group("g", f.Get("mid"), livingOn(elsewhere))
	device := w.presenting("d1", f.Get("d1").Chain()...)
	_, err := w.register(device)
	w.must(err)
	w.sweepHubs()
	w.isIn("d1", provisioning.Assigned)
	return w, hub, device
}

func TestAQuarantineIsConfirmedByBothHubs(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w, hub, device := assignedElsewhere(t, database)
		leaf := device.Evidence.Chain.Leaf().Cert.Raw
		quarantined := w.wardsElsewhere()
		quarantined.Answers(down)
		w.quarantine("d1")
		w.hops("d1", false, "hub-9 removes", "ward has …")
		w.holds(hub, "d1") // it does not wait for the other one
		w.isIn("d1", provisioning.Assigning)
		if op, err := w.register(device); err != nil || op.Hub != ward || op.State != provisioning.Assigning {
			t.Errorf("it is %s on %s (%v)", op.State, op.Hub, err)
		}
		quarantined.Answers(nil)
		w.pass(time.Minute)
		w.hops("d1", true, "hub-9 removes", "ward has")
		w.holds(quarantined, "d1", leaf)
		w.isIn("d1", provisioning.Assigned)

		quarantined.Answers(down)
		w.endQuarantine("d1")
		w.hops("d1", false, "hub-9 removes", "ward removes …")
		_, err := w.register(device)
		w.must(err)
		w.hops("d1", false, "ward removes …", "hub-9 has")
		w.holds(hub, "d1", leaf)
		w.isIn("d1", provisioning.Assigned)
		quarantined.Answers(nil)
		w.pass(time.Minute)
		w.hops("d1", true, "ward removes", "hub-9 has")
		w.holds(quarantined, "d1")
	})
}

// It is a move, and no way in: whom something else refuses it takes off its hub, and that is all
// until that something ends.
func TestAQuarantineLetsNobodyInWhomSomethingElseRefuses(t *testing.T) {
	t.Parallel()
	for rule, c := range map[string]struct{ shut, open func(*world) }{
		"registration-held": {func(w *world) { w.hold("d1") }, func(w *world) { w.release("d1") }},
		"enrollment-disabled": {func(w *world) { w.enable(provisioning.Owner{Kind: provisioning.Group, ID: id(w, "g")}, false) },
			func(w *world) { w.enable(provisioning.Owner{Kind: provisioning.Group, ID: id(w, "g")}, true) }},
		"disallowed": {nil, nil},
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			w, hub, device := assignedElsewhere(t, newFile(t))
			quarantined := w.wardsElsewhere()
			lift := ""
			if c.shut == nil {
				lift = w.disallow(provisioning.DisallowRequest{Certificate: device.Evidence.Chain.Leaf().Cert.Raw}).ID
			} else {
				c.shut(w)
			}
			if _, plan := w.quarantine("d1"); plan.Shut != rule || plan.AtOnce || plan.From.Hub != elsewhere {
				t.Errorf("%+v", plan)
			}
			w.hops("d1", true, "hub-9 removes")
			w.holds(hub, "d1")
			w.holds(quarantined, "d1")
			w.isIn("d1", provisioning.Unassigned)
			if _, err := w.register(device); !fault.Is(err, fault.Unauthenticated) {
				t.Errorf("it was let in: %v", err)
			}
			x, err := w.engine.Explain(w.ctx, device.ID, nil)
			w.must(err)
			if x.Refused == nil || !strings.Contains(rules(x.Trace), "quarantine") {
				t.Errorf("explained by %s", rules(x.Trace))
			}
			if lift != "" {
				_, err := w.engine.LiftDisallowance(w.ctx, ann, lift)
				w.must(err)
			} else {
				c.open(w)
			}
			w.pass(time.Minute)
			if op, err := w.register(device); err != nil || op.Hub != ward {
				t.Errorf("let in again it is on %s (%v)", op.Hub, err)
			}
			w.sweepHubs()
			w.holds(quarantined, "d1", device.Evidence.Chain.Leaf().Cert.Raw)
			if c.shut != nil && rule == "registration-held" { // and the other way round
				w.hold("d1")
				w.sweepHubs()
				w.barredAt(quarantined, "d1")
			}
		})
	}
}

func TestADeviceThatIsOnNoHubComesToItsQuarantineWhenItRegisters(t *testing.T) {
	t.Parallel()
	w, mid, device := factoryOn(t, newFile(t))
	w.wards()
	w.assigned(device)
	w.assigned(w.presenting("d2", mid.Issue(t, "d2").Chain()...))
	w.must(w.engine.DeleteHubDevice(w.ctx, ann, builtIn, device.ID, provisioning.Precondition{}))
	if q, plan := w.quarantine("d1"); plan.AtOnce || q.From.Hub != "" || q.Confirmed.IsZero() {
		t.Errorf("%+v", plan)
	}
	w.hops("d1", true)
	if op := w.assigned(device); op.Hub != ward || op.Substatus != policies.InitialAssignment {
		t.Errorf("it is on %s, %s", op.Hub, op.Substatus)
	}
	if w.desired(ward, "d1") != `{"telemetry":"off"}` || w.registration("d2").Hub != builtIn {
		t.Error("its twin is another, or another device moved")
	}
	w.must(w.engine.DeleteHubDevice(w.ctx, ann, ward, device.ID, provisioning.Precondition{})) // at the hub's door: it comes back there
	if op := w.assigned(device); op.Hub != ward || w.desired(ward, "d1") != `{"telemetry":"off"}` {
		t.Errorf("it is on %s", op.Hub)
	}
}

func TestAQuarantineMovesToAnotherHubOrTwin(t *testing.T) {
	t.Parallel()
	w, _, device := factoryOn(t, newFile(t))
	w.wards()
	w.hub(otherHub)
	w.assigned(device)
	w.quarantine("d1")
	r := confining(w, "d1")
	r.Twin = []byte(`{"properties":{"desired":{"telemetry":"none"}}}`)
	q, err := w.engine.Quarantine(w.ctx, ann, r)
	w.must(err)
	if w.desired(ward, "d1") != `{"telemetry":"none"}` || q.From.Hub != "" {
		t.Errorf("%+v, %s", q, w.desired(ward, "d1"))
	}
	r.Hub = otherHub
	q, err = w.engine.Quarantine(w.ctx, ann, r)
	w.must(err)
	if q.Hub != otherHub || q.From.Hub != ward || w.at(otherHub, "d1").Registration != device.ID {
		t.Errorf("%+v", q)
	}
	w.isOff(ward, "d1")
	w.must(w.engine.DeleteHub(w.ctx, ann, ward, provisioning.Precondition{Any: true})) // nobody is there any more
}

func TestAQuarantineIsRefusedWhereItCouldNotBe(t *testing.T) {
	t.Parallel()
	w, _, device := factoryOn(t, newFile(t))
	w.wards()
	w.assigned(device)
	rows := w.rows()
	for rule, edit := range map[string]func(*provisioning.QuarantineRequest){
		"quarantine-hub":         func(r *provisioning.QuarantineRequest) { r.Hub = "nowhere" },
		"quarantine-same-hub":    func(r *provisioning.QuarantineRequest) { r.Hub = builtIn },
		"quarantine-why":         func(r *provisioning.QuarantineRequest) { r.Why = " " },
		"initial-twin":           func(r *provisioning.QuarantineRequest) { r.Twin = []byte(`[]`) },
		"registration-not-found": func(r *provisioning.QuarantineRequest) { r.ID = id(w, "nobody") },
	} {
		r := confining(w, "d1")
		edit(&r)
		_, err := w.engine.Quarantine(w.ctx, ann, r)
		_, foreseen := w.engine.PreviewQuarantine(w.ctx, r)
		if fault.RuleOf(err) != rule || fault.RuleOf(foreseen) != rule {
			t.Errorf("%s: %v, foreseen %v", rule, err, foreseen)
		}
	}
	if _, err := w.engine.EndQuarantine(w.ctx, ann, device.ID, "none"); fault.RuleOf(err) != "quarantine-not-found" {
		t.Error(err)
	}
	if w.rows() != rows || w.registration("d1").Hub != builtIn {
		t.Error("something was written")
	}
}

// Its hub cannot go while somebody lives there by it, and its record not before it has ended.
func TestWhatAQuarantineRestsOnStays(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w, _, device := factoryOn(t, database)
		w.wards()
		w.assigned(device)
		w.must(w.engine.DeleteHubDevice(w.ctx, ann, builtIn, device.ID, provisioning.Precondition{}))
		w.quarantine("d1") // no device is on the hub yet
		for _, unlink := range []func() error{
			func() error { return w.engine.DeleteHub(w.ctx, ann, ward, provisioning.Precondition{Any: true}) },
			func() error { return w.engine.AbandonHub(w.ctx, ann, ward, provisioning.Precondition{Any: true}) },
		} {
			if err := unlink(); fault.RuleOf(err) != "hub-in-use" {
				t.Errorf("it was unlinked: %v", err)
			}
		}
		if err := w.engine.Deregister(w.ctx, ann, device.ID, provisioning.Precondition{Any: true}); fault.RuleOf(err) != provisioning.RuleQuarantined {
			t.Errorf("its record is gone: %v", err)
		}
		w.assigned(device)
		w.retires("d1", true) // that ends it, too: nobody is left
		if r, err := w.engine.QuarantineOf(w.ctx, device.ID); err != nil || r.Stands() || len(w.subjects(audit.QuarantineEnded)) != 1 {
			t.Errorf("%+v, %v", r, err)
		}
		w.must(w.engine.DeleteHub(w.ctx, ann, ward, provisioning.Precondition{Any: true}))
	})
}

func TestAQuarantineHasTheTwinOfTheConfigurationUnlessOneIsGiven(t *testing.T) {
	t.Parallel()
	w, _, device := factoryOn(t, newFile(t))
	w.quarantineTwin = []byte(`{"tags":{"ward":"yes"}}`)
	w.restart()
	w.wards()
	w.assigned(device)
	r := confining(w, "d1")
	r.Twin = nil
	_, err := w.engine.Quarantine(w.ctx, ann, r)
	w.must(err)
	if d := w.at(ward, "d1"); string(d.Twin.Tags) != `{"ward":"yes"}` || string(d.Twin.Desired) != "{}" {
		t.Errorf("its twin is %s, %s", d.Twin.Tags, d.Twin.Desired)
	}
}

// Whatever write the process ends at, in the act or while hubs are told, it is done whole or not at
// all, and the next process carries it on: with the same result. One device for each write.
func TestAQuarantineSurvivesACrashAtEachOfItsWrites(t *testing.T) {
	t.Parallel()
	for _, kept := range []bool{false, true} {
		file := &dying{Engine: newFile(t), kept: kept}
		w := newWorldOn(t, file, newBox(t))
		hub, quarantined := w.linked(elsewhere), w.wardsElsewhere()
		f := testkit.Chain(t, "root > mid > d0")
		w.anchor(f.Get("root"), true)
		w.group("g", f.Get("mid"), livingOn(elsewhere))
		want := ""
		for n := 0; ; n++ {
			name := fmt.Sprintf("d%d", n)
			device := w.presenting(name, f.Get("mid").Issue(t, name).Chain()...)
			got, broke := w.quarantineDying(file, n, device, hub, quarantined)
			if want == "" {
				want = got
			}
			if got != want {
				t.Fatalf("after a crash at write %d (kept: %v):\n%s\nwithout:\n%s", n, kept, got, want)
			}
			if n > 0 && !broke {
				if n < 20 {
					t.Errorf("there were %d writes only", n)
				}
				break
			}
		}
	}
}

// quarantineDying has a device quarantined, and that ended, by a process that ends at a write.
func (w *world) quarantineDying(file *dying, at int, device provisioning.Attempt, hub, quarantined *hubtest.Receiver) (state string, broke bool) {
	w.t.Helper()
	name, leaf := device.ID.String(), device.Evidence.Chain.Leaf().Cert.Raw
	_, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: device})
	w.must(err)
	for w.sweepOnce() {
	}
	file.at = at
	act := func(do func() error) {
		if do() != nil {
			broke = true
			w.restart()
			w.must(do())
		}
		for range 3 {
			_, swept := w.engine.SweepHubs(w.ctx, w.db.ProvisioningJobs())
			if swept != nil || w.engine.SweepQuarantines(w.ctx, w.db.ProvisioningJobs()) != nil {
				broke = true
				w.restart()
			}
			w.pass(time.Minute)
		}
	}
	act(func() error { _, err := w.engine.Quarantine(w.ctx, ann, confining(w, name)); return err })
	w.hops(name, true, "hub-9 removes", "ward has")
	w.holds(hub, name)
	w.holds(quarantined, name, leaf)
	w.isIn(name, provisioning.Assigned)
	act(func() error { _, err := w.engine.EndQuarantine(w.ctx, ann, device.ID, "done"); return err })
	w.hops(name, true, "hub-9 removes", "ward removes")
	w.holds(quarantined, name)
	rows, err := w.engine.Ledger(w.ctx, provisioning.LedgerFilter{Subject: "registration:" + name, Limit: 100})
	w.must(err)
	for _, row := range rows {
		state += string(row.Action) + " "
	}
	return state, broke
}

// Several by a plan that is on record; what cannot be is left out, and the others do not wait for it.
func TestDevicesAreQuarantinedByAPlan(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w, mid, device := factoryOn(t, database)
		quarantined := w.wardsElsewhere()
		w.assigned(device)
		for _, name := range []string{"d2", "d3", "d4"} {
			w.assigned(w.presenting(name, mid.Issue(t, name).Chain()...))
		}
		w.hold("d2")
		c := policies.Campaign{Name: "odd", Act: policies.ActQuarantine, Select: policies.Selection{IDs: []string{"d1", "d2", "d3"}}, Patience: time.Hour}
		if _, err := w.engine.StartCampaign(w.ctx, ann, c); fault.RuleOf(err) != "campaign-invalid" {
			t.Errorf("started without a hub: %v", err)
		}
		c.Quarantine = policies.Quarantining{Hub: "nowhere", Why: "odd traffic"}
		if _, err := w.engine.StartCampaign(w.ctx, ann, c); fault.RuleOf(err) != "quarantine-hub" {
			t.Errorf("started without such a hub: %v", err)
		}
		c.Quarantine = policies.Quarantining{Hub: ward, Why: "odd traffic", Twin: []byte("[]")}
		if _, err := w.engine.StartCampaign(w.ctx, ann, c); fault.RuleOf(err) != "initial-twin" {
			t.Errorf("started with a twin that is none: %v", err)
		}
		c.Quarantine.Twin = []byte(restricted)
		_, err := w.engine.StartCampaign(w.ctx, ann, c)
		w.must(err)
		w.sweepCampaigns()
		w.foretold("odd", provisioning.CampaignPlanRow{Hub: builtIn, Devices: 2},
			provisioning.CampaignPlanRow{Hub: builtIn, Open: []string{provisioning.OpenComesLater}, Devices: 1})
		if got := w.registration("d1"); got.Hub != builtIn || !got.QuarantinedAt.IsZero() {
			t.Errorf("it is carried out already: %+v", got)
		}
		w.hub(otherHub)
		w.group("g", mid, livingOn(otherHub))
		w.assigned(w.presenting("d3", mid.Issue(t, "d3").Chain()...)) // it moves meanwhile
		_, err = w.engine.ResumeCampaign(w.ctx, ann, "odd", "looked at", provisioning.Precondition{Version: w.report("odd").Version})
		w.must(err)
		w.sweepCampaigns()
		w.failures("odd", map[string]int64{provisioning.RuleEffectGrew: 1})
		w.isIn("d1", provisioning.Assigning)
		if r := w.report("odd"); r.State != provisioning.CampaignRunning {
			t.Errorf("it is %s before the hub has confirmed", r.State)
		}
		w.hops("d1", true, "hub-1 removes", "ward has")
		w.holds(quarantined, "d1", device.Evidence.Chain.Leaf().Cert.Raw)
		w.pass(10 * time.Minute)
		w.sweepCampaigns()
		if r := w.report("odd"); r.State != provisioning.CampaignDone {
			t.Errorf("it is %s, %+v", r.State, r.Counts)
		}
		list, err := w.engine.Quarantines(w.ctx, provisioning.QuarantineFilter{Campaign: "odd"})
		w.must(err)
		if len(list) != 2 || list[1].Shut != provisioning.RuleRegistrationHeld || w.registration("d2").Hub != "" || w.registration("d4").Hub != builtIn {
			t.Errorf("in quarantine are %+v", list)
		}
	})
}

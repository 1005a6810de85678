package provisioning_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
)

func (w *world) hold(name string) provisioning.Registration {
	w.t.Helper()
	reg, err := w.engine.Hold(w.ctx, ann, id(w, name))
	w.must(err)
	return reg
}

func (w *world) release(name string) {
	w.t.Helper()
	reg, err := w.engine.Release(w.ctx, ann, id(w, name))
	w.must(err)
	if !reg.HeldAt.IsZero() {
		w.t.Fatalf("still held: %+v", reg)
	}
}

func TestAHeldDeviceIsRefusedByWhateverItShows(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w, mid, device := factoryOn(t, database)
		leaf, err := w.enroll(device)
		w.must(err)
		own, other := w.presenting("d1", leaf), w.presenting("d2", mid.Issue(t, "d2").Chain()...)
		w.assigned(own)
		w.assigned(other)
		was := w.registration("d1")
		reg := w.hold("d1")
		if reg.HeldAt != w.now() || w.hold("d1").Version != reg.Version || reg.Version != was.Version+1 {
			t.Errorf("held at %s, version %d after %d", reg.HeldAt, reg.Version, was.Version)
		}
		again := w.presenting("d1", mid.Issue(t, "d1").Chain()...)
		for _, a := range []provisioning.Attempt{device, own, again} {
			w.refused(a, "registration-held")
			if err := w.engine.Attest(w.ctx, a); fault.RuleOf(err) != "registration-held" {
				t.Error(err)
			}
		}
		w.assigned(other)
		if w.at(builtIn, "d1").Enabled || !w.at(builtIn, "d2").Enabled {
			t.Error("at its hub the device is enabled still, or another one is not")
		}
		if err := w.engine.DeleteRegistration(w.ctx, ann, id(w, "d1"), provisioning.Precondition{Any: true}); fault.RuleOf(err) != "registration-held" {
			t.Errorf("its record is deleted: %v", err)
		}
		w.release("d1")
		w.release("d1")
		w.assigned(own)
		if !w.at(builtIn, "d1").Enabled {
			t.Error("at its hub the device is disabled still")
		}
		if held, freed := w.subjects(audit.RegistrationHeld), w.subjects(audit.RegistrationFreed); len(held) != 1 || len(freed) != 1 {
			t.Errorf("told of %v and %v", held, freed)
		}
		if _, err := w.engine.Hold(w.ctx, ann, id(w, "nobody")); !fault.Is(err, fault.NotFound) {
			t.Error(err)
		}
	})
}

func TestHeldRegistrationsAreListedAndCounted(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w, mid, device := factoryOn(t, database)
		w.assigned(device)
		w.assigned(w.presenting("d2", mid.Issue(t, "d2").Chain()...))
		are := func(want ...string) {
			t.Helper()
			list, err := w.engine.Registrations(w.ctx, provisioning.RegistrationFilter{Held: true})
			w.must(err)
			names := []string{}
			for _, reg := range list {
				names = append(names, reg.ID.String())
			}
			n, err := w.engine.Held(w.ctx)
			w.must(err)
			if !slices.Equal(names, append([]string{}, want...)) || n != int64(len(want)) {
				t.Errorf("held are %v, counted %d; want %v", names, n, want)
			}
		}
		are()
		w.hold("d2")
		are("d2")
		w.release("d2")
		are()
	})
}

// Who asks why is told what the door says, where two rules refuse.
func TestExplainHasTheHoldWhereTheDoorHasIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.keyed(provisioning.Individual, "d1")
	w.assigned(w.signing("d1", key))
	w.hold("d1")
	for _, c := range []struct {
		enabled bool
		rule    string
	}{{true, "registration-held"}, {false, "enrollment-disabled"}} {
		w.enable(provisioning.Owner{ID: id(w, "d1")}, c.enabled)
		w.refused(w.signing("d1", key), c.rule)
		x, err := w.engine.Explain(w.ctx, id(w, "d1"), nil)
		w.must(err)
		if x.Refused == nil || x.Refused.Rule != c.rule {
			t.Errorf("enabled %v: the door refuses by %s, explain by %v", c.enabled, c.rule, x.Refused)
		}
	}
}

// A device on a kept connection, whose facts are remembered there, is refused as well.
func TestAKeptConnectionDoesNotOutlastAHold(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w, _, device := factoryOn(t, database)
		device.Evidence.Connection = new(provisioning.Connection)
		w.assigned(device)
		w.assigned(device)
		w.hold("d1")
		w.refused(device, "registration-held")
		w.release("d1")
		w.assigned(device)
	})
}

func TestAHubElsewhereIsToldOfAHoldAndOfItsEnd(t *testing.T) {
	t.Parallel()
	w, hub, device := elsewhereFactory(t)
	leaf, err := w.enroll(device)
	w.must(err)
	w.sweepHubs()
	w.isIn("d1", provisioning.Assigned)
	enabled := func(want bool) {
		t.Helper()
		w.sweepHubs()
		if got, there := hub.Device("d1"); !there || got.Enabled != want {
			t.Fatalf("there %v, enabled %v", there, got.Enabled)
		}
	}
	w.hold("d1")
	enabled(false)
	w.release("d1")
	enabled(true)

	// One that waits for its hub when it is held does not come to be.
	w.pass(time.Hour)
	renewed, err := w.enroll(w.presenting("d1", leaf))
	w.must(err)
	w.isIn("d1", provisioning.Assigning)
	w.hold("d1")
	enabled(false)
	w.isIn("d1", provisioning.Unassigned)
	w.release("d1")
	_, err = w.register(w.presenting("d1", renewed))
	w.must(err)
	enabled(true)
	w.isIn("d1", provisioning.Assigned)
}

func TestATripwireHoldsWhereThatIsAskedForAndOnceInItsPeriod(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		w.tripwires.Hold = []provisioning.TripwireKind{provisioning.TwoChains}
		w.restart()
		a, b := twoFactories(t, w)
		w.assigned(a)
		w.assigned(b)
		w.pass(time.Minute)
		w.assigned(a)
		w.assigned(b) // nothing waits for it to be written
		w.trips("d1 two-chains 2")
		w.refused(a, "registration-held")
		w.refused(b, "registration-held")
		list, err := w.engine.Tripwires(w.ctx, provisioning.TripwireFilter{})
		w.must(err)
		if !list[0].Held || !slices.Equal(w.subjects(audit.RegistrationHeld), []string{"registration:d1"}) {
			t.Errorf("on record is %+v", list[0])
		}
		w.release("d1")
		w.assigned(a) // whoever released it has looked: for this period it is only counted
		w.trips("d1 two-chains 3")
		w.assigned(a)
		w.pass(24 * time.Hour)
		w.assigned(b)
		w.assigned(a)
		w.assigned(b)
		w.tripped()
		w.refused(a, "registration-held")
	})
}

// Devices that come in the very moment do not write over it.
func TestAHoldIsNotLostToRegistrationsOfThatMoment(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w, _, device := factoryOn(t, database)
		w.assigned(device)
		var coming sync.WaitGroup
		for range 4 {
			coming.Go(func() {
				for range 10 {
					_, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: device})
					if err != nil && fault.RuleOf(err) != "registration-held" && fault.RuleOf(err) != "contended" {
						t.Error(err)
					}
				}
			})
		}
		_, err := w.engine.Hold(w.ctx, ann, device.ID)
		coming.Wait()
		w.must(err)
		w.refused(device, "registration-held")
	})
}

// A registration whose last request failed keeps its hub, and the hub its device.
func TestAHeldDeviceIsShutOutThoughItsLastRegistrationFailed(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w, _, device := factoryOn(t, database)
		w.assigned(device)
		w.must(w.db.Provisioning().Update(w.ctx, func(tx provisioning.Tx) error {
			reg, err := tx.Registration(id(w, "d1"))
			if err != nil {
				return err
			}
			reg.State, reg.Version = provisioning.Failed, reg.Version+1
			return tx.PutRegistration(reg)
		}))
		w.answers("before", "", w.comes(device))
		w.hold("d1")
		if w.at(builtIn, "d1").Enabled {
			t.Error("its hub lets it in")
		}
		w.answers("while it is held", provisioning.RuleRegistrationHeld, w.comes(device))
		w.release("d1")
		w.answers("released", "", w.comes(device))
	})
}

func TestACampaignDoesNotWaitForADeviceThatIsHeld(t *testing.T) {
	t.Parallel()
	l := newWorld(t).parked("line", 3)
	l.hold(l.names[0])
	l.start(policies.Campaign{Act: policies.ActReprovision})
	l.sweepCampaigns()
	l.failures("roll", map[string]int64{provisioning.RuleRegistrationHeld: 1})
}

func TestAPlanToDeleteRecordsNamesThoseThatAreHeld(t *testing.T) {
	t.Parallel()
	w, _, device := factoryOn(t, newFile(t))
	w.assigned(device)
	w.hold("d1")
	_, err := w.engine.StartCampaign(w.ctx, ann, policies.Campaign{Name: "end", Act: policies.ActDelete, Select: policies.Selection{IDs: []string{"d1"}}})
	w.must(err)
	w.sweepCampaigns()
	w.failures("end", map[string]int64{provisioning.RuleRegistrationHeld: 1})
	w.foretold("end")
	w.registration("d1") // is there
}

// What its hub is not told to let in because it was never assigned is not let in by a release either.
func TestAReleaseAssignsNobody(t *testing.T) {
	t.Parallel()
	for name, bar := range map[string]func(*world, provisioning.Attempt) (ends func()){
		"of a held device": func(w *world, _ provisioning.Attempt) func() {
			w.hold("d1")
			return func() { w.release("d1") }
		},
		"of a disallowed one": func(w *world, device provisioning.Attempt) func() {
			i := w.disallow(provisioning.DisallowRequest{Certificate: device.Evidence.Chain.Leaf().Cert.Raw})
			w.follow()
			return func() {
				w.must2(w.engine.LiftDisallowance(w.ctx, ann, i.ID))
				w.follow()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, hub, device := elsewhereFactory(t)
			_, err := w.enroll(device)
			w.must(err)
			w.isIn("d1", provisioning.Assigning)
			ends := bar(w, device)
			w.sweepHubs()
			w.isIn("d1", provisioning.Unassigned)
			w.enable(provisioning.Owner{Kind: provisioning.Group, ID: id(w, "g")}, false)
			ends()
			w.sweepHubs()
			if got, there := hub.Device("d1"); !there || got.Enabled {
				t.Fatalf("there %v, enabled %v: its group is disabled, and it was never assigned", there, got.Enabled)
			}
			w.enable(provisioning.Owner{Kind: provisioning.Group, ID: id(w, "g")}, true)
			_, err = w.register(device)
			w.must(err)
			w.sweepHubs()
			w.isIn("d1", provisioning.Assigned)
			if got, _ := hub.Device("d1"); !got.Enabled {
				t.Error("it has registered again, and is shut out")
			}
		})
	}
}

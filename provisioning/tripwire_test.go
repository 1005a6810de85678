package provisioning_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
)

// tripped looks for shared keys, saves what was seen, and lists what is on record as "device kind
// count", newest last.
func (w *world) tripped() (list []string) {
	w.t.Helper()
	for {
		more, err := w.engine.SweepKeysInUse(w.ctx, w.db.ProvisioningJobs())
		w.must(err)
		if !more {
			break
		}
	}
	w.must(w.engine.SaveTripwires(w.ctx, w.db.ProvisioningJobs()))
	w.check()
	all, err := w.engine.Tripwires(w.ctx, provisioning.TripwireFilter{Limit: 100})
	w.must(err)
	slices.Reverse(all)
	for _, x := range all {
		list = append(list, fmt.Sprintf("%s %s %d", x.Registration, x.Kind, x.Count))
	}
	return list
}

func (w *world) trips(want ...string) {
	w.t.Helper()
	if got := w.tripped(); !slices.Equal(got, want) {
		w.t.Fatalf("tripped %q, want %q", got, want)
	}
}

// subjects lists those of the events of an action, newest first.
func (w *world) subjects(action audit.Action) (subjects []string) {
	w.t.Helper()
	list, err := w.engine.Ledger(w.ctx, provisioning.LedgerFilter{Action: action, Limit: 100})
	w.must(err)
	for _, e := range list {
		subjects = append(subjects, e.Subject)
	}
	return subjects
}

// factoryOn is factory on a database.
func factoryOn(t *testing.T, database store.Engine) (*world, *testkit.Entity, provisioning.Attempt) {
	w := newWorldOn(t, database, newBox(t))
	f := testkit.Chain(t, "root > mid > d1")
	w.anchor(f.Get("root"), true)
	w.group("g", f.Get("mid"))
	return w, f.Get("mid"), w.presenting("d1", f.Get("d1").Chain()...)
}

func TestAnOldCertificateAfterCutOverTripsOnceAndIsCounted(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w, _, device := factoryOn(t, database)
		first, err := w.enroll(device)
		w.must(err)
		old := w.presenting("d1", first)
		old.Address = "192.0.2.7"
		w.assigned(old)
		w.pass(60 * 24 * time.Hour)
		second, err := w.enroll(old)
		w.must(err)
		w.assigned(w.presenting("d1", second)) // cut over
		w.assigned(old)                        // a renewal in its overlap is nothing new
		w.trips()
		w.pass(25 * time.Hour)
		w.assigned(w.presenting("d1", second))
		w.trips()

		before := w.db.Stats()
		for range 5 { // the rest is paced
			if _, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: old}); fault.RuleOf(err) != "certificate-not-standing" {
				t.Fatal(err)
			}
		}
		if after := w.db.Stats(); after.Updates != before.Updates || after.Views != before.Views+5 {
			t.Errorf("five refusals cost %d writes and %d reads", after.Updates-before.Updates, after.Views-before.Views)
		}
		w.trips("d1 old-certificate 5")
		w.pass(time.Minute)
		if _, err := w.engine.Poll(w.ctx, provisioning.PollRequest{Attempt: old}); !fault.Is(err, fault.Unauthenticated) {
			t.Fatal(err)
		}
		if err := w.engine.Attest(w.ctx, old); !fault.Is(err, fault.Unauthenticated) {
			t.Fatal(err)
		}
		w.trips("d1 old-certificate 7")
		if got := w.subjects(audit.Tripped); !slices.Equal(got, []string{"registration:d1"}) {
			t.Errorf("the ledger has it %d times", len(got))
		}
		list, err := w.engine.Tripwires(w.ctx, provisioning.TripwireFilter{Kind: provisioning.OldCertificate, Registration: old.ID})
		w.must(err)
		if x := list[0]; x.Object != "certificate "+string(serial(first)) || x.Door != "test" || x.Address != "192.0.2.7" || x.Held || x.Last.Sub(x.First) != time.Minute {
			t.Errorf("on record is %+v", x)
		}
		// The next day's are another row.
		w.pass(24 * time.Hour)
		w.refused(old, "certificate-not-standing")
		w.trips("d1 old-certificate 7", "d1 old-certificate 2")
		w.assigned(w.presenting("d1", second)) // nobody is held unless that is asked for
	})
}

// What looks alike and is not: none of it trips.
func TestWhatADeviceMayDoTripsNothing(t *testing.T) {
	t.Parallel()
	cut := func(w *world, device provisioning.Attempt) (first, second provisioning.Attempt) {
		a, err := w.enroll(device)
		w.must(err)
		first = w.presenting("d1", a)
		w.assigned(first)
		w.pass(60 * 24 * time.Hour)
		b, err := w.enroll(first)
		w.must(err)
		return first, w.presenting("d1", b)
	}
	for name, do := range map[string]func(w *world, mid *testkit.Entity, device provisioning.Attempt){
		"answers that were lost: the device asks on with the certificate that it has": func(w *world, _ *testkit.Entity, device provisioning.Attempt) {
			first, _ := cut(w, device)
			for range 3 {
				w.pass(time.Hour)
				_, err := w.enroll(first)
				w.must(err)
			}
			w.assigned(first)
		},
		"a certificate whose place a later one took before either was used": func(w *world, _ *testkit.Entity, device provisioning.Attempt) {
			first, lost := cut(w, device)
			w.pass(time.Hour)
			_, err := w.enroll(first)
			w.must(err)
			w.pass(time.Hour)
			w.refused(lost, "certificate-not-standing")
		},
		"the answer to the first use was lost, and the overlap is over": func(w *world, _ *testkit.Entity, device provisioning.Attempt) {
			first, second := cut(w, device)
			profile := policies.DefaultProfile()
			profile.Renewal.Overlap = 0
			_, err := w.engine.PutProfile(w.ctx, ann, profile, provisioning.Precondition{Any: true})
			w.must(err)
			w.assigned(second)
			w.pass(time.Minute)
			w.refused(first, "certificate-not-standing")
		},
		"a certificate in its overlap, refused for something else": func(w *world, _ *testkit.Entity, device provisioning.Attempt) {
			first, second := cut(w, device)
			w.assigned(second)
			w.pass(time.Hour)
			w.enable(provisioning.Owner{Kind: provisioning.Group, ID: id(w, "g")}, false)
			w.refused(first, "enrollment-disabled")
		},
		"the onboarding certificate is shown again": func(w *world, _ *testkit.Entity, device provisioning.Attempt) {
			_, second := cut(w, device)
			w.assigned(second)
			w.pass(48 * time.Hour)
			w.assigned(device)
		},
		"another device's certificate": func(w *world, mid *testkit.Entity, device provisioning.Attempt) {
			first, second := cut(w, device)
			w.assigned(second)
			w.pass(48 * time.Hour)
			d2, err := w.enroll(w.presenting("d2", mid.Issue(w.t, "d2").Chain()...))
			w.must(err)
			w.assigned(w.presenting("d2", d2))
			w.pass(time.Hour)
			first.ID, first.Spelled = id(w, "d2"), "d2"
			if _, err := w.register(first); !fault.Is(err, fault.Unauthenticated) {
				w.t.Fatal(err)
			}
		},
		"a certificate that is revoked as compromised": func(w *world, _ *testkit.Entity, device provisioning.Attempt) {
			first, second := cut(w, device)
			w.assigned(second)
			_, err := w.engine.Revoke(w.ctx, ann, "", serial(first.Evidence.Chain.Leaf().Cert), "keyCompromise")
			w.must(err)
			w.pass(48 * time.Hour)
			w.refused(first, "certificate-revoked")
		},
		"a new key with the same name": func(w *world, mid *testkit.Entity, device provisioning.Attempt) {
			w.assigned(device)
			w.assigned(w.presenting("d1", mid.Issue(w.t, "d1").Chain()...))
			_, err := w.enroll(device)
			w.must(err)
		},
		"one key, with a certificate of the factory and ours": func(w *world, mid *testkit.Entity, _ provisioning.Attempt) {
			d2 := mid.Issue(w.t, "d2")
			for range 2 {
				_, err := w.enrollKey(w.presenting("d2", d2.Chain()...), d2.Key)
				w.must(err)
				w.pass(time.Hour)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, database store.Engine) {
				w, mid, device := factoryOn(t, database)
				do(w, mid, device)
				w.trips()
			})
		})
	}
}

func TestOneKeyInTwoDevicesTrips(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w, mid, device := factoryOn(t, database)
		w.assigned(device)
		w.trips()
		key := testkit.NewKey(t, "p256")
		d2, d3 := w.presenting("d2", mid.Issue(t, "d2").Chain()...), w.presenting("d3", mid.Issue(t, "d3").Chain()...)
		_, err := w.enrollKey(d2, key)
		w.must(err)
		w.trips()
		w.pass(time.Second)
		_, err = w.enrollKey(d3, key) // by its request
		w.must(err)
		w.trips("d3 shared-key 1")
		w.pass(time.Second)
		shown := mid.Issue(t, "d4", testkit.WithKey(key))
		w.assigned(w.presenting("d4", shown.Chain()...)) // by the certificate that it shows
		w.trips("d3 shared-key 1", "d4 shared-key 1")
		w.trips("d3 shared-key 1", "d4 shared-key 1") // what is on record of it is no device that came
		w.assigned(w.presenting("d4", shown.Chain()...))
		w.assigned(d2) // who came with it first is not the one to be asked about
		w.trips("d3 shared-key 1", "d4 shared-key 2")
		list, err := w.engine.Tripwires(w.ctx, provisioning.TripwireFilter{Limit: 1})
		w.must(err)
		if list[0].Object != "registration d2" || len(w.subjects(audit.Tripped)) != 2 {
			t.Errorf("on record is %+v, and %v", list[0], w.subjects(audit.Tripped))
		}
	})
}

func TestAReleasedDeviceIsNotHeldAgainBeforeItComes(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		w.tripwires = provisioning.TripwireRule{Window: time.Hour, Hold: []provisioning.TripwireKind{provisioning.SharedKey}}
		w.restart()
		f := testkit.Chain(t, "root > mid > d1")
		w.anchor(f.Get("root"), true)
		w.group("g", f.Get("mid"))
		key := testkit.NewKey(t, "p256")
		for _, name := range []string{"d1", "d2"} {
			w.assigned(w.presenting(name, f.Get("mid").Issue(t, name, testkit.WithKey(key)).Chain()...))
			w.pass(time.Second)
		}
		w.trips("d2 shared-key 1")
		w.pass(2 * time.Hour)
		w.release("d2")
		w.trips("d2 shared-key 1")
		if reg := w.registration("d2"); !reg.HeldAt.IsZero() {
			t.Errorf("held again at %s", reg.HeldAt)
		}
	})
}

func TestTheKeyOfARetiredDeviceMayBeAnothers(t *testing.T) {
	t.Parallel()
	w, mid, _ := factoryOn(t, newFile(t))
	key := testkit.NewKey(t, "p256")
	w.assigned(w.presenting("d2", mid.Issue(t, "d2", testkit.WithKey(key)).Chain()...))
	w.trips()
	w.retires("d2", false)
	w.assigned(w.presenting("d3", mid.Issue(t, "d3", testkit.WithKey(key)).Chain()...)) // on the same board
	w.trips()
}

// A device that is named anew, or made of the parts of another one, goes by a key that was
// another's.
func TestAKeyThatItsDeviceUsesNoMoreMayBeAnothers(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w, mid, _ := factoryOn(t, database)
		key := testkit.NewKey(t, "p256")
		with := func(name string) provisioning.Attempt {
			return w.presenting(name, mid.Issue(t, name, testkit.WithKey(key)).Chain()...)
		}
		w.assigned(with("d2"))
		w.trips()
		w.must(w.engine.DeleteRegistration(w.ctx, ann, id(w, "d2"), provisioning.Precondition{Any: true}))
		w.assigned(with("d3"))
		w.trips()
		w.assigned(w.presenting("d3", mid.Issue(t, "d3").Chain()...)) // d3 has a new board
		w.trips()
		w.assigned(with("d4"))
		w.trips()
		w.assigned(with("d5"))
		w.trips("d5 shared-key 1")
	})
}

// There is one factory root above each chain, so that the two have nothing in common.
func twoFactories(t *testing.T, w *world) (a, b provisioning.Attempt) {
	for i, notation := range []string{"root-a > mid-a > d1", "root-b > mid-b > d1"} {
		f := testkit.Chain(t, notation)
		root, mid := f.Get(fmt.Sprintf("root-%c", 'a'+i)), f.Get(fmt.Sprintf("mid-%c", 'a'+i))
		w.anchor(root, true)
		w.group(fmt.Sprintf("line-%c", 'a'+i), mid)
		a, b = b, w.presenting("d1", f.Get("d1").Chain()...)
	}
	return a, b
}

func TestOneRegistrationFromTwoChainsInTurnTrips(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		a, b := twoFactories(t, w)
		w.assigned(a)
		w.assigned(a)
		w.assigned(b) // a device may come to another factory's
		w.trips()
		w.pass(time.Minute)
		b.Address = "192.0.2.9"
		w.assigned(a)
		w.trips("d1 two-chains 1")
		w.pass(time.Minute)
		w.assigned(b)
		w.assigned(b)
		w.trips("d1 two-chains 2")
		list, err := w.engine.Tripwires(w.ctx, provisioning.TripwireFilter{})
		w.must(err)
		if list[0].Address != b.Address || len(w.subjects(audit.Tripped)) != 1 {
			t.Errorf("on record is %+v", list[0])
		}
		// A second time once in a while is a move, and not a turn.
		w.pass(25 * time.Hour)
		w.assigned(a)
		w.pass(25 * time.Hour)
		w.assigned(b)
		w.trips("d1 two-chains 2")
	})
}

// A device tries the old intermediate again while its group rolls.
func TestTwoChainsUnderOneRootTripNothing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		f := testkit.Chain(t, "root > mid-1 > d1; root > mid-2 > d2")
		w.anchor(f.Get("root"), true)
		w.reference("g", f.Get("root"))
		a, b := w.presenting("d1", f.Get("d1").Chain()...), w.presenting("d1", f.Get("mid-2").Issue(t, "d1").Chain()...)
		for range 3 {
			w.assigned(a)
			w.assigned(b)
		}
		w.trips()
	})
}

// Two replicas each see one half of it: the record, which they share, tells them.
func TestTwoReplicasTripTogether(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		a, b := twoFactories(t, w)
		one := w.engine
		w.restart()
		other := w.engine
		come := func(e *provisioning.Engine, a provisioning.Attempt) {
			_, err := e.Register(w.ctx, provisioning.RegisterRequest{Attempt: a})
			w.must(err)
		}
		come(one, a)
		come(other, b)
		come(one, a)
		come(other, b) // here the other one knows: what it had seen leave was back
		come(one, a)
		var saving sync.WaitGroup
		errs := make([]error, 2)
		for i, e := range []*provisioning.Engine{one, other} {
			saving.Go(func() { errs[i] = e.SaveTripwires(w.ctx, w.db.ProvisioningJobs()) })
		}
		saving.Wait()
		w.must(errors.Join(errs...))
		w.trips("d1 two-chains 2")
		if told := len(w.subjects(audit.Tripped)); told != 1 {
			t.Errorf("told %d times", told)
		}
	})
}

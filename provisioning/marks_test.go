package provisioning_test

import (
	"context"
	"crypto/x509"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
)

// A leaf of ours that an entry pinned is superseded once it has left the entry. The clock
// moves between all steps: a mark is told by dates.
func TestALeafOfOursThatAnEntryPinnedIsSuperseded(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(w *world, o provisioning.Owner){
		"an operator takes it out": func(w *world, o provisioning.Owner) {
			_, err := w.engine.RetireCredential(w.ctx, ann, o, provisioning.Retiring{Force: true}, provisioning.Precondition{})
			w.must(err)
		},
		"its overlap is over": func(w *world, _ provisioning.Owner) {
			w.pass(oneDay)
			w.sweepEntries()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, database store.Engine) {
				w := newWorldOn(t, database, newBox(t))
				f := testkit.Chain(t, "root > mid > d1")
				w.anchor(f.Get("root"), true)
				w.group("g", f.Get("mid"))
				leaf, err := w.enroll(w.presenting("d1", f.Get("d1").Chain()...))
				w.must(err)
				w.pass(time.Hour)
				pinned := w.put(provisioning.Individual, "d1", provisioning.Attestation{Role: provisioning.RoleClient, Slots: [2]provisioning.SlotDraft{{Certificate: leaf.Raw}}}).Owner
				w.pass(time.Hour)
				w.assigned(w.presenting("d1", leaf)) // by the entry: its pair is empty
				follower := f.Get("root").Issue(t, "d1", testkit.WithDates(w.clock.Add(-time.Hour), w.clock.Add(400*oneDay)))
				w.stage(pinned, follower)
				w.pass(time.Hour)
				w.assigned(w.presenting("d1", follower.Cert))
				w.sweepEntries()
				w.wantStates(pinned, "primary retiring, secondary active")
				w.pass(time.Hour)
				w.sweep()
				if got := w.revoked(leaf); got != "" {
					t.Fatalf("it is revoked as %q while the entry holds it", got)
				}
				leave(w, pinned)
				w.wantStates(pinned, "secondary active")
				w.superseded(leaf)
			})
		})
	}
}

// What made room is superseded, whatever else makes its device due before the planner looks.
func TestWhatMadeRoomIsSupersededWhoeverElseMakesItsDeviceDue(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(w *world) *x509.Certificate{
		"an operator has it rolled": func(w *world) *x509.Certificate {
			lost := w.madeRoom(w.fromFactory(builtIn))
			_, err := w.engine.RollNow(w.ctx, ann, id(w, "d1"))
			w.must(err)
			return lost
		},
		"its request on record is refused": func(w *world) (lost *x509.Certificate) {
			w.profile(func(p *policies.Profile) { p.Renewal.Retain = true })
			leaf := w.fromFactory(builtIn)
			w.late()
			w.profile(func(p *policies.Profile) { p.Keys = []policies.KeyType{policies.KeyECP384} })
			jobs := &beforeUpdate{Store: w.db.ProvisioningJobs(), n: 3, do: func() { lost = w.madeRoom(leaf) }} // of the clock, of the page, of what was refused
			_, err := w.engine.SweepRegistrations(w.ctx, jobs)
			w.must(err)
			if due := w.registration("d1").DueAt; due.After(w.clock) {
				w.t.Errorf("it is due at %s", due)
			}
			return lost
		},
		"its hub confirms that an overlap is over": func(w *world) *x509.Certificate {
			hub := w.linked(elsewhere)
			first := w.fromFactory(elsewhere)
			w.late()
			next := w.asks(first)
			w.sweepHubs()
			w.assigned(w.presenting("d1", next))
			w.must(second(w.engine.Revoke(w.ctx, ann, "", serial(next), ca.Unspecified)))
			lost := w.madeRoom(first) // beside the one that retires
			w.sweepHubs()
			w.pass(25 * time.Hour)
			entry, err := w.engine.Enrollment(w.ctx, w.registration("d1").Owner)
			w.must(err)
			w.group("g", &testkit.Entity{Cert: parsed(w, entry.Credentials[0].Certificate)}, livingOn(elsewhere), func(d *provisioning.Draft) { d.IoTEdge = true })
			posts := hub.Posts()
			w.sweepHubs()
			if hub.Posts() == posts {
				w.t.Fatal("the hub was not told")
			}
			return lost
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, database store.Engine) {
				w := newWorldOn(t, database, newBox(t))
				lost := do(w)
				w.superseded(lost)
			})
		})
	}
}

// fromFactory is the first certificate of d1 in a group of a hub, which it was seen with.
func (w *world) fromFactory(hub string) *x509.Certificate {
	w.t.Helper()
	f := testkit.Chain(w.t, "root > mid > d1")
	w.anchor(f.Get("root"), true)
	w.group("g", f.Get("mid"), livingOn(hub))
	leaf, err := w.enroll(w.presenting("d1", f.Get("d1").Chain()...))
	w.must(err)
	if hub != builtIn {
		w.sweepHubs()
	}
	w.pass(time.Minute)
	w.assigned(w.presenting("d1", leaf))
	return leaf
}

// asks has d1 ask for a certificate by one that it has.
func (w *world) asks(by *x509.Certificate) *x509.Certificate {
	w.t.Helper()
	leaf, err := w.enrollKey(w.presenting("d1", by), testkit.NewKey(w.t, "p384"))
	w.must(err)
	return leaf
}

// madeRoom has d1 lose a certificate that it has not used to a later one, and returns it.
func (w *world) madeRoom(by *x509.Certificate) *x509.Certificate {
	w.t.Helper()
	w.pass(time.Minute)
	lost := w.asks(by)
	w.pass(time.Hour)
	w.asks(by)
	if _, held := w.registration("d1").Pair.Find(ref(lost)); held {
		w.t.Fatal("it made no room")
	}
	w.pass(time.Minute)
	return lost
}

// superseded wants the next sweep to revoke a certificate.
func (w *world) superseded(c *x509.Certificate) {
	w.t.Helper()
	w.pass(time.Minute)
	if got := w.revoked(c); got != "" {
		w.t.Fatalf("it is revoked as %q before the sweep", got)
	}
	w.sweep()
	if got := w.revoked(c); got != ca.Superseded {
		w.t.Errorf("it is revoked as %q", got)
	}
}

func parsed(w *world, der []byte) *x509.Certificate {
	w.t.Helper()
	c, err := x509.ParseCertificate(der)
	w.must(err)
	return c
}

// beforeUpdate does something before the nth Update.
type beforeUpdate struct {
	provisioning.Store
	n  int
	do func()
}

func (s *beforeUpdate) Update(ctx context.Context, f func(provisioning.Tx) error) error {
	if s.n--; s.n == 0 {
		s.do()
	}
	return s.Store.Update(ctx, f)
}

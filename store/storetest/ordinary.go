package storetest

import (
	"testing"
	"time"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// ordinary checks that OrdinaryFacts says of a device what Facts says, and nothing once
// any of it may have changed.
func ordinary(t *testing.T, open Open) {
	f := family(t)
	w := newWorld(t, open)
	q := w.asks("dev-2", f.Get("dev-2"), f.Get("mid"))
	ask := func() (got provisioning.Facts, usable bool) {
		t.Helper()
		got = view(w, func(tx provisioning.Tx) (f provisioning.Facts, err error) {
			f, usable, err = tx.OrdinaryFacts(q)
			return f, err
		})
		return got, usable
	}
	agree := func(when string) {
		t.Helper()
		want := w.facts(q)
		want.Digest, want.ChainLinks = 0, nil
		got, usable := ask()
		if !usable {
			t.Errorf("%s: not usable", when)
			return
		}
		same(w, got, want)
	}
	w.anchor(f.Get("root"), true)
	group := w.entry(w.group("line"), signing(f.Get("mid"), rotation.Primary))
	w.enroll(group)
	if _, usable := ask(); usable {
		t.Error("usable before anything was asked about the fleet")
	}
	w.facts(w.asks("dev-9", f.Get("mid").Issue(t, "dev-9"), f.Get("mid"))) // another device of the fleet
	if _, usable := ask(); !usable {
		t.Error("not usable though the fleet is known")
	}
	agree("a new device")
	reg := w.registration("dev-2", w.group("line"))
	w.update(func(tx provisioning.Tx) error { return tx.PutRegistration(reg) })
	agree("a registered device")

	for what, change := range map[string]func(provisioning.Tx) error{
		"a group was disabled": func(tx provisioning.Tx) error {
			group.Enabled, group.Version = false, group.Version+1
			return tx.UpdateEnrollment(group, group.Version-1)
		},
		"an anchor was vouched for": func(tx provisioning.Tx) error {
			a, err := tx.Anchor("root")
			if err != nil {
				return err
			}
			return tx.UpdateAnchor(a.VouchedBy("ann", w.now), a.Version())
		},
		"a hub was linked": func(tx provisioning.Tx) error {
			return tx.InsertHub(provisioning.Hub{Name: "a.example", Driver: "registry", Version: 1})
		},
	} {
		w.update(change)
		if _, usable := ask(); usable {
			t.Errorf("usable after %s", what)
		}
		agree("after " + what)
	}
	special(t, w, f, q, ask)
}

// special are the devices that something on record names: nothing of memory serves them.
func special(t *testing.T, w *world, f *testkit.Family, q provisioning.FactsQuery, ask func() (provisioning.Facts, bool)) {
	entry := w.entry(w.individual("dev-2"), key("k", rotation.Primary))
	w.enroll(entry)
	w.facts(q)
	if _, usable := ask(); usable {
		t.Error("usable for a device with an entry of its own")
	}
	entry.Enabled, entry.Version = false, 2
	w.update(func(tx provisioning.Tx) error { return tx.UpdateEnrollment(entry, 1) })
	w.facts(w.asks("dev-9", f.Get("mid").Issue(t, "dev-9"), f.Get("mid")))
	got, usable := ask()
	if own, found := got.Individual(q.ID); !usable || !found || own.Enabled {
		t.Errorf("a disabled device: usable %v, entry %+v", usable, own)
	}
	w.update(func(tx provisioning.Tx) error { return tx.DeleteEnrollment(w.individual("dev-2"), 2) })
	w.facts(w.asks("dev-9", f.Get("mid").Issue(t, "dev-9"), f.Get("mid")))
	if _, usable := ask(); !usable {
		t.Error("not usable though the entry is gone")
	}
	w.update(func(tx provisioning.Tx) error {
		return tx.InsertDisallowance(provisioning.Disallowance{ID: "x", Digest: verify.NewLink(f.Get("dev-2").Cert).KeyHash, Key: true, Reason: "keyCompromise", Actor: "operator:ann", Created: w.now.Add(time.Second)})
	})
	w.facts(w.asks("dev-9", f.Get("mid").Issue(t, "dev-9"), f.Get("mid")))
	if _, usable := ask(); usable {
		t.Error("usable for a device whose key is disallowed")
	}
}

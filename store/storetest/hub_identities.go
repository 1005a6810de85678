package storetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

const far = "far.example.net"

// linked makes a hub that lives elsewhere.
func (w *world) linked() provisioning.HubLink {
	w.Helper()
	l := provisioning.HubLink{Hub: far, SealedURL: []byte("sealed address"), SealedKey: []byte("sealed key")}
	w.update(func(tx provisioning.Tx) error {
		if err := tx.InsertHub(provisioning.Hub{Name: far, Driver: "webhook", Weight: 1, Created: w.now, Updated: w.now, Version: 1}); err != nil {
			return err
		}
		if err := tx.InsertHubLink(l); err != nil {
			return err
		}
		return tx.Append(w.note(audit.HubLinked, "hub:"+far))
	})
	return l
}

// ahead is a device that its hub is to be told of.
func (w *world) ahead(device string) provisioning.HubIdentityRecord {
	return provisioning.HubIdentityRecord{
		HubPlace: provisioning.HubPlace{Hub: far, Device: w.id(device)}, Spelled: device, Registration: w.id(device), Generation: 100, Since: w.now,
	}
}

// lives registers a device on the hub that lives elsewhere.
func (w *world) lives(device string, o provisioning.Owner) provisioning.HubIdentityRecord {
	w.Helper()
	rec := w.ahead(device)
	w.update(func(tx provisioning.Tx) error { return tx.PutHubIdentity(rec) })
	reg := w.assigned(device, far, device, o)
	reg.State = provisioning.Assigning
	w.put(reg)
	return rec
}

func (w *world) identity(device string) provisioning.HubIdentityRecord {
	w.Helper()
	return view(w, func(tx provisioning.Tx) (provisioning.HubIdentityRecord, error) {
		return tx.HubIdentity(w.ahead(device).HubPlace)
	})
}

func (w *world) take(at time.Time, limit int) (list []provisioning.HubIdentityRecord) {
	w.Helper()
	w.update(func(tx provisioning.Tx) (err error) {
		list, err = tx.TakeHubIdentities(far, at, at.Add(time.Minute), limit)
		return err
	})
	return list
}

func hubIdentities(t *testing.T, open Open) {
	t.Run("how a hub is reached is read back, and how it does is written by one of two", func(t *testing.T) {
		w := newWorld(t, open)
		l := w.linked()
		read := func() provisioning.HubLink {
			return view(w, func(tx provisioning.Tx) (provisioning.HubLink, error) { return tx.HubLink(far) })
		}
		same(w, read(), l)
		failed := l
		failed.Tries, failed.NextTry, failed.Problem = 1, w.now.Add(time.Second), "it answered 500"
		w.update(func(tx provisioning.Tx) error { return tx.MoveHubLink(l, failed) })
		w.refused(fault.Conflict, "hub-moved", func(tx provisioning.Tx) error { return tx.MoveHubLink(l, failed) })
		tried := failed
		tried.Trial = w.now.Add(time.Minute)
		w.update(func(tx provisioning.Tx) error { return tx.MoveHubLink(failed, tried) })
		w.refused(fault.Conflict, "hub-moved", func(tx provisioning.Tx) error { return tx.MoveHubLink(failed, tried) })
		same(w, view(w, func(tx provisioning.Tx) ([]provisioning.HubLink, error) { return tx.HubLinks() }), []provisioning.HubLink{tried})
		l.SealedURL, l.SealedKey = []byte("other"), []byte("other key")
		w.update(func(tx provisioning.Tx) error { return tx.UpdateHubLink(l) })
		same(w, read(), l) // and is tried at once
		paced := l
		paced.Paced = w.now.Add(time.Second)
		w.update(func(tx provisioning.Tx) error { return tx.PaceHubLink(l, paced) })
		w.refused(fault.Conflict, "hub-moved", func(tx provisioning.Tx) error { return tx.PaceHubLink(l, paced) })
		same(w, read(), paced)
		w.update(func(tx provisioning.Tx) error { return tx.DeleteHubLink(far) })
		absent(w, func(tx provisioning.Tx) (provisioning.HubLink, error) { return tx.HubLink(far) })
	})
	t.Run("a device is ahead until its hub has confirmed, and again when it changes", func(t *testing.T) {
		w := newWorld(t, open)
		w.linked()
		rec := w.lives("Dev-1", provisioning.Owner{})
		same(w, w.identity("Dev-1"), rec)
		taken := w.take(w.now, 10)
		if len(taken) != 1 || taken[0].Generation != 101 || !taken[0].NextTry.Equal(w.now.Add(time.Minute)) {
			t.Fatalf("%+v", taken)
		}
		if again := w.take(w.now, 10); len(again) != 0 {
			t.Fatalf("it was taken twice: %+v", again)
		}
		w.update(func(tx provisioning.Tx) error {
			return tx.ConfirmHubIdentity(rec.HubPlace, 101, w.now.Add(time.Second), w.now.Add(time.Minute))
		})
		rec.Generation, rec.Applied, rec.AsOf, rec.Told = 101, 101, w.now.Add(time.Second), w.now.Add(time.Minute)
		same(w, w.identity("Dev-1"), rec)
		later := w.now.Add(time.Hour)
		if due := w.take(later, 10); len(due) != 0 {
			t.Fatalf("nothing is ahead: %+v", due)
		}
		w.update(func(tx provisioning.Tx) error { return tx.StepHubIdentity(rec.HubPlace, later) })
		w.update(func(tx provisioning.Tx) error { return tx.StepHubIdentity(rec.HubPlace, later.Add(time.Hour)) })
		rec.Generation, rec.Since = 103, later
		same(w, w.identity("Dev-1"), rec)
		w.update(func(tx provisioning.Tx) error { return tx.ConfirmHubIdentity(rec.HubPlace, 102, w.now, w.now) }) // late
		if got := w.identity("Dev-1"); got.Applied != 102 || got.Generation != 103 {
			t.Fatalf("%+v", got)
		}
		w.update(func(tx provisioning.Tx) error {
			n, oldest, err := tx.CountHubAhead(far)
			if n != 1 || !oldest.Equal(later) {
				t.Errorf("%d are ahead, since %s", n, oldest)
			}
			return err
		})
		w.update(func(tx provisioning.Tx) error {
			return tx.StepHubIdentity(provisioning.HubPlace{Hub: "near.example.net", Device: w.id("dev-1")}, w.now)
		})
	})
	t.Run("one that failed waits, unless it is hastened or changed meanwhile", func(t *testing.T) {
		w := newWorld(t, open)
		w.linked()
		w.lives("dev-1", provisioning.Owner{})
		fail := func(taken provisioning.HubIdentityRecord) {
			w.Helper()
			is := taken
			is.Tries, is.NextTry, is.Problem = 1, w.now.Add(time.Hour), "no"
			w.update(func(tx provisioning.Tx) error { return tx.LeaveHubIdentity(taken, is) })
		}
		fail(w.take(w.now, 1)[0])
		if got := w.identity("dev-1"); got.Tries != 1 || got.Problem != "no" || len(w.take(w.now, 1)) != 0 {
			t.Fatalf("%+v", got)
		}
		at := w.ahead("dev-1").HubPlace
		w.update(func(tx provisioning.Tx) error { return tx.HastenHubIdentity(at, w.now.Add(2*time.Hour)) })
		if len(w.take(w.now, 1)) != 0 {
			t.Fatal("it was hastened, though it does not wait for that long")
		}
		w.update(func(tx provisioning.Tx) error { return tx.HastenHubIdentity(at, w.now.Add(time.Minute)) })
		taken := w.take(w.now, 1)[0]
		w.update(func(tx provisioning.Tx) error { return tx.HastenHubIdentities(at.Device) })
		fail(taken)
		taken = w.take(w.now, 1)[0]
		w.update(func(tx provisioning.Tx) error { return tx.StepHubIdentity(at, w.now) })
		fail(taken)
		if got := w.identity("dev-1"); got.Tries != 0 || !got.NextTry.IsZero() {
			t.Errorf("%+v", got)
		}
	})
	t.Run("a place on a hub goes to the next registration with its spelling and what came before", func(t *testing.T) {
		w := newWorld(t, open)
		w.linked()
		rec := w.lives("dev-1", provisioning.Owner{})
		w.update(func(tx provisioning.Tx) error { return tx.ConfirmHubIdentity(rec.HubPlace, 100, w.now, w.now) })
		other := rec
		other.Registration, other.Spelled, other.Generation, other.Since = w.id("dev-2"), "DEV-1", 7, w.now.Add(time.Hour)
		w.update(func(tx provisioning.Tx) error { return tx.PutHubIdentity(other) })
		other.Spelled, other.Generation, other.Applied, other.AsOf, other.Told = "dev-1", 101, 100, w.now, w.now // numbers go on: what is late stays late
		same(w, w.identity("dev-1"), other)
		w.update(func(tx provisioning.Tx) error { return tx.PutHubIdentity(rec) })
		w.update(func(tx provisioning.Tx) error { return tx.DeleteHubIdentity(rec.HubPlace) })
		absent(w, func(tx provisioning.Tx) (provisioning.HubIdentityRecord, error) { return tx.HubIdentity(rec.HubPlace) })
	})
	t.Run("a hub's are listed by device", func(t *testing.T) {
		w := newWorld(t, open)
		w.linked()
		b, a := w.lives("b", provisioning.Owner{}), w.lives("a", provisioning.Owner{})
		list := func(after verify.RegistrationID, limit int) []provisioning.HubIdentityRecord {
			return view(w, func(tx provisioning.Tx) ([]provisioning.HubIdentityRecord, error) {
				return tx.HubIdentities(far, after, limit)
			})
		}
		same(w, list(verify.RegistrationID{}, 0), []provisioning.HubIdentityRecord{a, b})
		same(w, list(verify.RegistrationID{}, 1), []provisioning.HubIdentityRecord{a})
		same(w, list(a.Device, 5), []provisioning.HubIdentityRecord{b})
	})
	t.Run("of many that take devices each gets others", func(t *testing.T) {
		w := newWorld(t, open)
		w.linked()
		w.update(func(tx provisioning.Tx) error {
			for n := range 60 {
				if err := tx.PutHubIdentity(w.ahead(fmt.Sprintf("dev-%02d", n))); err != nil {
					return err
				}
			}
			return nil
		})
		var mu sync.Mutex
		taken := map[verify.RegistrationID]int{}
		var all sync.WaitGroup
		for range 6 {
			all.Go(func() {
				for range 4 {
					var list []provisioning.HubIdentityRecord
					err := w.store.Update(bg, func(tx provisioning.Tx) (err error) {
						list, err = tx.TakeHubIdentities(far, w.now, w.now.Add(time.Minute), 5)
						return err
					})
					if err != nil {
						t.Error(err)
					}
					mu.Lock()
					for _, rec := range list {
						taken[rec.Device]++
					}
					mu.Unlock()
				}
			})
		}
		all.Wait()
		for len(w.take(w.now, 5)) > 0 { // SKIP LOCKED leaves some to whoever comes next
		}
		for device, n := range taken {
			if n != 1 {
				t.Errorf("%s was taken %d times", device, n)
			}
		}
	})
	t.Run("the devices of a changed entry are gone through once, by pages", func(t *testing.T) {
		w := newWorld(t, open)
		g := w.group("line")
		w.enroll(w.entry(g, key("secret", 0)))
		w.update(func(tx provisioning.Tx) error { return tx.PutHubEntry(g) })
		absent(w, func(tx provisioning.Tx) (provisioning.HubEntry, error) { return tx.NextHubEntry() }) // no hub lives elsewhere
		w.linked()
		for n := range 5 {
			w.lives(fmt.Sprintf("dev-%d", n), g)
		}
		other := w.lives("other", provisioning.Owner{})
		w.put(w.assigned("near", "near.example.net", "near", g))
		w.update(func(tx provisioning.Tx) error { return tx.PutHubEntry(g) })
		w.update(func(tx provisioning.Tx) error { return tx.PutHubEntry(g) })
		steps := 0
		for more := true; more; steps++ {
			next := view(w, func(tx provisioning.Tx) (provisioning.HubEntry, error) { return tx.NextHubEntry() })
			w.update(func(tx provisioning.Tx) (err error) {
				more, err = tx.StepHubEntry(next, w.now, 4)
				return err
			})
			w.refused(fault.Conflict, "hub-entry-moved", func(tx provisioning.Tx) error {
				_, err := tx.StepHubEntry(next, w.now, 4)
				return err
			})
		}
		if steps != 2 {
			t.Errorf("%d pages", steps)
		}
		absent(w, func(tx provisioning.Tx) (provisioning.HubEntry, error) { return tx.NextHubEntry() })
		for n := range 5 {
			if got := w.identity(fmt.Sprintf("dev-%d", n)); got.Generation != 101 {
				t.Errorf("%+v", got)
			}
		}
		same(w, w.identity("other"), other)
	})
	t.Run("what attested a registration bars it when it is disallowed", func(t *testing.T) {
		w := newWorld(t, open)
		reg := w.registration("dev-1", provisioning.Owner{})
		reg.Leaf, reg.LeafKey, reg.Chain = verify.Thumbprint{1}, verify.KeyHash{2}, 33
		link := verify.NewLink(testkit.Chain(t, "root").Get("root").Cert)
		w.update(func(tx provisioning.Tx) error { return tx.PutChain(33, []verify.Link{link}) })
		barred := func(r provisioning.Registration) bool {
			return view(w, func(tx provisioning.Tx) (bool, error) { return tx.Barred(r) })
		}
		for _, c := range []struct {
			digest [32]byte
			key    bool
			by     provisioning.Registration
		}{
			{reg.Leaf, false, provisioning.Registration{Leaf: reg.Leaf}},
			{reg.LeafKey, true, provisioning.Registration{LeafKey: reg.LeafKey}},
			{link.Thumbprint, false, provisioning.Registration{Chain: 33}},
		} {
			if barred(c.by) {
				t.Errorf("%x bars before it is disallowed", c.digest[:2])
			}
			w.disallow(c.digest, c.key)
			if !barred(c.by) || !barred(reg) {
				t.Errorf("%x does not bar", c.digest[:2])
			}
		}
		if barred(provisioning.Registration{ID: reg.ID}) {
			t.Error("nothing bars")
		}
	})
	t.Run("a hub is in use while a device is to leave it", func(t *testing.T) {
		w := newWorld(t, open)
		w.linked()
		rec := w.ahead("dev-1")
		w.update(func(tx provisioning.Tx) error { return tx.PutHubIdentity(rec) })
		w.put(w.assigned("dev-1", "near.example.net", "dev-1", provisioning.Owner{}))
		use := func() (n int64) {
			w.update(func(tx provisioning.Tx) (err error) { _, n, err = tx.HubUse(far); return err })
			return n
		}
		if n := use(); n != 1 {
			t.Errorf("%d devices", n)
		}
		w.update(func(tx provisioning.Tx) error { return tx.DeleteHubIdentity(rec.HubPlace) })
		if n := use(); n != 0 {
			t.Errorf("%d devices", n)
		}
	})
}

package storetest

import (
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

func registrations(t *testing.T, open Open) {
	t.Run("a registration keeps every field through insert and update", wholeRegistration(open))
	t.Run("a lost race is a conflict and changes nothing", func(t *testing.T) {
		w := newWorld(t, open)
		r := w.registration("dev-1", provisioning.Owner{})
		read := func(tx provisioning.Tx) (provisioning.Registration, error) { return tx.Registration(r.ID) }
		absent(w, read)
		later := r
		later.Version = 2
		w.refused(fault.Conflict, "registration-moved", func(tx provisioning.Tx) error { return tx.PutRegistration(later) })
		w.put(r)
		w.refused(fault.Conflict, "registration-moved", func(tx provisioning.Tx) error { return tx.PutRegistration(r) })
		w.put(later)
		w.refused(fault.Conflict, "registration-moved", func(tx provisioning.Tx) error { return tx.PutRegistration(later) })
		later.Version = 4
		w.refused(fault.Conflict, "registration-moved", func(tx provisioning.Tx) error { return tx.PutRegistration(later) })
		if got := view(w, read); got.Version != 2 {
			t.Errorf("version %d, want 2", got.Version)
		}
		w.refused(fault.PreconditionFailed, "", func(tx provisioning.Tx) error { return tx.DeleteRegistration(r.ID, 1) })
		w.update(func(tx provisioning.Tx) error { return tx.DeleteRegistration(r.ID, 2) })
		absent(w, read)
	})
	t.Run("deleting an entry makes orphans of its registrations, and no others", orphans(open))
	t.Run("a registration of an entry that is gone is refused", func(t *testing.T) {
		w := newWorld(t, open)
		w.refused(fault.Conflict, "registration-moved", func(tx provisioning.Tx) error {
			return tx.PutRegistration(w.registration("dev-1", w.group("gone")))
		})
	})
	t.Run("two registrations never share a device id on one hub", aliases(open))
	t.Run("a chain is stored once and read in its order", func(t *testing.T) {
		w := newWorld(t, open)
		f := testkit.Chain(t, "root > mid > dev-1")
		links := []verify.Link{verify.NewLink(f.Get("mid").Cert), verify.NewLink(f.Get("root").Cert)}
		read := func(tx provisioning.Tx) ([][]byte, error) { return tx.Chain(-7) }
		absent(w, read)
		for range 2 {
			w.update(func(tx provisioning.Tx) error { return tx.PutChain(-7, links) })
			same(w, view(w, read), [][]byte{f.Get("mid").Cert.Raw, f.Get("root").Cert.Raw})
		}
	})
	t.Run("what a transaction wrote it reads", func(t *testing.T) {
		w := newWorld(t, open)
		w.update(func(tx provisioning.Tx) error {
			r := w.registration("dev-1", provisioning.Owner{})
			if err := tx.PutRegistration(r); err != nil {
				return err
			}
			got, err := tx.Registration(r.ID)
			if err != nil {
				return err
			}
			same(w, got, r)
			got.Version, got.State = 2, provisioning.Failed
			if err := tx.PutRegistration(got); err != nil {
				return err
			}
			again, err := tx.Facts(provisioning.FactsQuery{ID: r.ID})
			if err != nil || again.Registration == nil {
				return err
			}
			same(w, *again.Registration, got)
			return nil
		})
	})
}

func wholeRegistration(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		f := testkit.Chain(t, "root > mid > dev-1")
		w.enroll(w.entry(w.group("g"), signing(f.Get("mid"), rotation.Primary)))
		w.enroll(w.entry(w.individual("dev-1"), key("k", rotation.Primary)))
		links := []verify.Link{verify.NewLink(f.Get("mid").Cert)}
		w.update(func(tx provisioning.Tx) error { return tx.PutChain(42, links) })
		read := func(tx provisioning.Tx) (provisioning.Registration, error) { return tx.Registration(w.id("dev-1")) }

		r := w.registration("dev-1", w.group("g"))
		w.put(r)
		same(w, view(w, read), r)

		pair, err := rotation.Pair{}.Stage(rotation.Ref(thumb(f.Get("dev-1"))), w.now, w.now.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		pair = pair.Seen(rotation.Ref(thumb(f.Get("dev-1"))), w.now, time.Hour)
		if pair, err = pair.Stage(rotation.Ref{1}, w.now, w.now.Add(2*time.Hour)); err != nil {
			t.Fatal(err)
		}
		r.State, r.Substatus, r.Hub, r.DeviceID = provisioning.Assigned, "initialAssignment", "a.example", "Dev-1"
		r.ErrorCode, r.ErrorMessage, r.Payload = 400000, "no", []byte(`{"a":1}`)
		r.Returned = []byte(`{"b":2}`)
		r.Updated, r.Version, r.Pair = w.now.Add(time.Second), 2, pair
		r.Certificate = provisioning.CertificateRef{Issuer: "0000000000000001", Serial: "00ff01"}
		r.Leaf, r.LeafKey, r.Chain = thumb(f.Get("dev-1")), verify.KeyHash{7}, 42
		w.put(r)
		same(w, view(w, read), r)

		for _, owner := range []provisioning.Owner{w.individual("dev-1"), {}, w.group("g")} {
			w.update(func(tx provisioning.Tx) error {
				next, err := tx.Registration(r.ID)
				if err != nil {
					return err
				}
				next.Owner, next.Version = owner, next.Version+1
				r = next
				return tx.PutRegistration(next)
			})
			same(w, view(w, read), r)
		}
	}
}

func orphans(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		w.enroll(w.entry(w.group("g"), key("k", rotation.Primary)))
		w.enroll(w.entry(w.individual("dev-3"), key("k", rotation.Primary)))
		for _, device := range []string{"dev-1", "dev-2"} {
			w.put(w.registration(device, w.group("g")))
		}
		w.put(w.registration("dev-3", w.individual("dev-3")))
		w.refused(fault.PreconditionFailed, "", func(tx provisioning.Tx) error { return tx.DeleteEnrollment(w.group("g"), 4) })
		w.update(func(tx provisioning.Tx) error { return tx.DeleteEnrollment(w.group("g"), 1) })
		for device, owner := range map[string]provisioning.Owner{"dev-1": {}, "dev-2": {}, "dev-3": w.individual("dev-3")} {
			r := view(w, func(tx provisioning.Tx) (provisioning.Registration, error) { return tx.Registration(w.id(device)) })
			if r.Owner != owner {
				t.Errorf("%s is owned by %q, want %q", device, r.Owner, owner)
			}
		}
	}
}

func aliases(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		w.put(w.assigned("dev-1", "a.example", "Pump", provisioning.Owner{}))
		w.refused(fault.Conflict, "device-id-taken", func(tx provisioning.Tx) error {
			return tx.PutRegistration(w.assigned("dev-2", "a.example", "pump", provisioning.Owner{}))
		})
		w.put(w.assigned("dev-2", "b.example", "pump", provisioning.Owner{}))
		moved := w.assigned("dev-2", "a.example", "pump", provisioning.Owner{})
		moved.Version = 2
		w.refused(fault.Conflict, "device-id-taken", func(tx provisioning.Tx) error { return tx.PutRegistration(moved) })
		Check(t, w.db)
	}
}

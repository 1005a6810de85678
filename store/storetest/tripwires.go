package storetest

import (
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// tripwires are devices that look like two, and whose keys are.
func tripwires(t *testing.T, open Open) {
	t.Run("a tripwire is read back, counted, and one of its period", func(t *testing.T) {
		w := newWorld(t, open)
		x := provisioning.Tripwire{
			ID: "01", Registration: w.id("d1"), Kind: provisioning.OldCertificate, Period: w.now, First: w.now.Add(time.Minute), Last: w.now.Add(2 * time.Minute), Count: 3,
			Object: "certificate 0a", Detail: "it was shown again", Door: "dps", Address: "192.0.2.1", Held: true,
		}
		y := provisioning.Tripwire{ID: "02", Registration: w.id("d2"), Kind: provisioning.SharedKey, Period: w.now, First: w.now, Last: w.now, Count: 1}
		z := y
		z.ID, z.Kind = "03", provisioning.TwoChains
		list := func(f provisioning.TripwireFilter) []provisioning.Tripwire {
			w.Helper()
			return view(w, func(tx provisioning.Tx) ([]provisioning.Tripwire, error) { return tx.Tripwires(f) })
		}
		tripped := func(x provisioning.Tripwire) bool {
			w.Helper()
			return view(w, func(tx provisioning.Tx) (bool, error) { return tx.Tripped(x) })
		}
		same(w, tripped(x), false)
		for _, one := range []provisioning.Tripwire{x, y, z} {
			w.update(func(tx provisioning.Tx) error { return tx.InsertTripwire(one) })
		}
		same(w, list(provisioning.TripwireFilter{}), []provisioning.Tripwire{z, y, x})
		same(w, list(provisioning.TripwireFilter{Limit: 1}), []provisioning.Tripwire{z})
		same(w, list(provisioning.TripwireFilter{Before: "03", Limit: 1}), []provisioning.Tripwire{y})
		same(w, list(provisioning.TripwireFilter{Kind: provisioning.OldCertificate}), []provisioning.Tripwire{x})
		same(w, list(provisioning.TripwireFilter{Registration: w.id("d2")}), []provisioning.Tripwire{z, y})
		same(w, tripped(x), true)
		again := x
		again.ID = "04"
		w.refused(fault.Conflict, "tripwire-exists", func(tx provisioning.Tx) error { return tx.InsertTripwire(again) })
		again.Count, again.Object, again.Address, again.Last = 2, "certificate 0b", "192.0.2.2", x.Last.Add(time.Hour)
		w.update(func(tx provisioning.Tx) error { return tx.CountTripwire(again) })
		x.Count, x.Object, x.Address, x.Last = 5, again.Object, again.Address, again.Last
		same(w, list(provisioning.TripwireFilter{Kind: x.Kind}), []provisioning.Tripwire{x})
		late := again
		late.Last = x.First // a process that was slow
		w.update(func(tx provisioning.Tx) error { return tx.CountTripwire(late) })
		x.Count = 7
		same(w, list(provisioning.TripwireFilter{Kind: x.Kind}), []provisioning.Tripwire{x})
		next := x
		next.ID, next.Period = "05", w.now.Add(24*time.Hour)
		same(w, tripped(next), false)
		w.update(func(tx provisioning.Tx) error { return tx.InsertTripwire(next) })
	})
	t.Run("keys are found that nobody or somebody else has, of what attested and of what was issued", func(t *testing.T) {
		w := newWorld(t, open)
		i := w.issuer(1)
		w.update(func(tx provisioning.Tx) error { return tx.InsertIssuer(i) })
		came := func(id string) audit.Event {
			e := w.note(audit.Registered, "registration:"+id)
			e.Actor = "device:" + id
			return e
		}
		place := func(id string, leaf verify.Thumbprint, key verify.KeyHash) {
			reg := w.assigned(id, "", "", provisioning.Owner{})
			reg.State, reg.Leaf, reg.LeafKey = provisioning.Unassigned, leaf, key
			w.put(reg)
			w.now = w.now.Add(time.Second)
			w.update(func(tx provisioning.Tx) error { return tx.Append(came(id)) })
		}
		shared := verify.KeyHash{1}
		var c ca.Certificate
		w.update(func(tx provisioning.Tx) error {
			c = w.certificate(i, "d3")
			c.KeyHash = shared
			return w.record(tx, c)
		})
		place("d1", verify.Thumbprint{1}, shared)
		w.update(func(tx provisioning.Tx) error { return tx.Append(came("d1")) }) // once more
		place("d2", verify.Thumbprint{}, verify.KeyHash{2})                       // the key of a group
		horizon, err := w.db.Log().Horizon(bg)
		if err != nil {
			t.Fatal(err)
		}
		last, err := w.db.Log().LastPosition(bg)
		if err != nil {
			t.Fatal(err)
		}
		all := provisioning.KeyPosition{Seq: horizon, Certificate: last}
		keys := func(from, upTo provisioning.KeyPosition) (names []string) {
			w.Helper()
			for _, k := range view(w, func(tx provisioning.Tx) ([]provisioning.NewKey, error) { return tx.NewKeys(from, upTo) }) {
				if k.Key != shared {
					t.Errorf("found %+v", k)
				}
				names = append(names, k.ID.String()+"<"+k.Holder.String())
			}
			return names
		}
		none := provisioning.KeyPosition{}
		same(w, keys(none, all), []string{"d3<", "d1<"}) // as they came
		same(w, keys(none, provisioning.KeyPosition{Seq: horizon}), []string{"d1<"})
		same(w, keys(none, provisioning.KeyPosition{Certificate: last}), []string{"d3<"})
		same(w, keys(all, all), nil)
		w.update(func(tx provisioning.Tx) error { return tx.PutSeenKey(shared, w.id("d1")) })
		same(w, keys(none, all), []string{"d3<d1"})
		w.update(func(tx provisioning.Tx) error { return tx.PutSeenKey(shared, w.id("d3")) })
		same(w, keys(none, all), []string{"d1<d3"})

		at := func() provisioning.KeyPosition {
			w.Helper()
			return view(w, func(tx provisioning.Tx) (provisioning.KeyPosition, error) { return tx.KeyPosition() })
		}
		same(w, at(), none)
		w.update(func(tx provisioning.Tx) error { return tx.MoveKeyPosition(none, all) })
		same(w, at(), all)
		further := provisioning.KeyPosition{Seq: all.Seq + 9, Certificate: all.Certificate}
		for _, from := range []provisioning.KeyPosition{none, further} {
			w.refused(fault.Conflict, "key-position-moved", func(tx provisioning.Tx) error { return tx.MoveKeyPosition(from, further) })
		}
		w.update(func(tx provisioning.Tx) error { return tx.MoveKeyPosition(all, further) })
		same(w, at(), further)
	})
	t.Run("a hold is part of a registration's facts", func(t *testing.T) {
		w := newWorld(t, open)
		reg := w.assigned("d1", "", "", provisioning.Owner{})
		reg.State, reg.HeldAt = provisioning.Unassigned, w.now
		w.put(reg)
		same(w, view(w, func(tx provisioning.Tx) (provisioning.Registration, error) { return tx.Registration(reg.ID) }), reg)
		facts := view(w, func(tx provisioning.Tx) (provisioning.Facts, error) {
			return tx.Facts(provisioning.FactsQuery{ID: reg.ID})
		})
		same(w, *facts.Registration, reg)
	})
}

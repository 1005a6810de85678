package storetest

import (
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

func hubChecks(t *testing.T, open Open) {
	check := func(w *world, id string) provisioning.HubCheck {
		return provisioning.HubCheck{ID: id, Hub: far, Actor: "operator:ann", Requested: w.now}
	}
	on := func(w *world) []provisioning.HubCheck {
		return view(w, func(tx provisioning.Tx) ([]provisioning.HubCheck, error) { return tx.HubChecks(far) })
	}
	insert := func(w *world, c provisioning.HubCheck) {
		w.Helper()
		w.update(func(tx provisioning.Tx) error { return tx.InsertHubCheck(c) })
	}
	end := func(w *world, c provisioning.HubCheck, problem string) provisioning.HubCheck {
		w.Helper()
		is := c
		is.Ended, is.Problem = w.now, problem
		w.update(func(tx provisioning.Tx) error { return tx.MoveHubCheck(c, is) })
		return is
	}
	t.Run("one of a hub is open, and is moved by one of two", func(t *testing.T) {
		w := newWorld(t, open)
		w.linked()
		c := check(w, "1")
		insert(w, c)
		w.refused(fault.Conflict, "hub-check-exists", func(tx provisioning.Tx) error { return tx.InsertHubCheck(check(w, "2")) })
		same(w, view(w, provisioning.Tx.OpenHubChecks), []provisioning.HubCheck{c})
		is := c
		is.Taken, is.Began, is.Held, is.Untold, is.Unnamed = w.now.Add(time.Minute), w.now, 3, 2, 1
		is.Drift = map[provisioning.HubDriftKind]int64{provisioning.DriftMissing: 4}
		w.update(func(tx provisioning.Tx) error { return tx.MoveHubCheck(c, is) })
		w.refused(fault.Conflict, "hub-check-moved", func(tx provisioning.Tx) error { return tx.MoveHubCheck(c, is) })
		same(w, view(w, func(tx provisioning.Tx) (provisioning.HubCheck, error) { return tx.HubCheck("1") }), is)
		done := end(w, is, "")
		insert(w, check(w, "2"))
		same(w, on(w), []provisioning.HubCheck{check(w, "2"), done})
		same(w, view(w, provisioning.Tx.OpenHubChecks), []provisioning.HubCheck{check(w, "2")})
	})
	t.Run("what took their place is kept, with what is being repaired", func(t *testing.T) {
		w := newWorld(t, open)
		w.linked()
		var list []provisioning.HubCheck
		for i, problem := range []string{"", "away", "", "away"} {
			c := check(w, string(rune('1'+i)))
			insert(w, c)
			list = append(list, end(w, c, problem))
		}
		repairing := list[0]
		repairing.Repair = provisioning.HubRepair{At: w.now, By: "operator:ann", Removes: true}
		w.update(func(tx provisioning.Tx) error { return tx.MoveHubCheck(list[0], repairing) })
		same(w, view(w, provisioning.Tx.HubRepairs), []provisioning.HubCheck{repairing})
		w.update(func(tx provisioning.Tx) error { return tx.DeleteHubChecks(far, "4", true) })
		same(w, on(w), []provisioning.HubCheck{list[3], list[2], repairing})
		w.update(func(tx provisioning.Tx) error { return tx.DeleteHubChecks(far, "4", false) })
		same(w, on(w), []provisioning.HubCheck{list[3], repairing})
		repaired := repairing
		repaired.Repair.Cursor, repaired.Repair.Devices, repaired.Repair.Done = "a/x", 1, w.now
		w.update(func(tx provisioning.Tx) error { return tx.MoveHubCheck(repairing, repaired) })
		w.update(func(tx provisioning.Tx) error { return tx.DeleteHubChecks(far, "4", false) })
		same(w, on(w), []provisioning.HubCheck{list[3]})
	})
	t.Run("drift is listed by grade and device, and goes with its check and its hub", func(t *testing.T) {
		w := newWorld(t, open)
		w.linked()
		insert(w, check(w, "1"))
		drift := func(kind provisioning.HubDriftKind, device string) provisioning.HubDrift {
			return provisioning.HubDrift{Kind: kind, HubPlace: provisioning.HubPlace{Hub: far, Device: w.id(device)}, Spelled: device, Registration: w.id(device), Generation: 7}
		}
		a, b, c := drift(provisioning.DriftEnabled, "Z"), drift(provisioning.DriftMissing, "A"), drift(provisioning.DriftMissing, "B")
		for range 2 {
			w.update(func(tx provisioning.Tx) error { return tx.PutHubDrifts("1", []provisioning.HubDrift{c, b, a}) })
		}
		list := func(after string, limit int) []provisioning.HubDrift {
			return view(w, func(tx provisioning.Tx) ([]provisioning.HubDrift, error) { return tx.HubDrifts("1", after, limit) })
		}
		same(w, list("", 0), []provisioning.HubDrift{a, b, c})
		same(w, list(a.Key(), 1), []provisioning.HubDrift{b})
		same(w, list(b.Key(), 5), []provisioning.HubDrift{c})
		w.update(func(tx provisioning.Tx) error { return tx.ForgetHubDrifts("1") })
		same(w, len(list("", 0)), 0)
		w.update(func(tx provisioning.Tx) error { return tx.PutHubDrifts("1", []provisioning.HubDrift{a}) })
		w.update(func(tx provisioning.Tx) error {
			if err := tx.DeleteHub(far, 1); err != nil {
				return err
			}
			return tx.Append(w.note(audit.HubUnlinked, "hub:"+far))
		})
		same(w, len(on(w)), 0)
		same(w, len(list("", 0)), 0)
	})
}

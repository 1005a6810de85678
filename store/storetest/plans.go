package storetest

import (
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

// fullPlan sets every field.
func (w *world) fullPlan(name string) provisioning.Plan {
	return provisioning.Plan{
		RotationPlan: policies.RotationPlan{
			Name: name, Role: policies.RollGroups, Paused: true, Entries: []string{"line-1", "line-2"}, Profiles: []string{"gate"},
			Windows:    policies.Windows{{Opens: "0 2 * * 6", Length: 2 * time.Hour, Zone: "Europe/Berlin"}, {Opens: "0 3 * * *", Length: time.Hour}},
			MaxPerHour: 200, Jitter: .1, PrepareAt: .5, Overlap: time.Hour, Every: 2 * time.Hour, Deadline: 3 * time.Hour, Auto: true, Publish: 4 * time.Hour,
		},
		Hour: 7, Moved: 3, Created: w.now, Updated: w.now.Add(time.Second), Version: 5,
	}
}

func plans(t *testing.T, open Open) {
	plan := func(name string) func(provisioning.Tx) (provisioning.Plan, error) {
		return func(tx provisioning.Tx) (provisioning.Plan, error) { return tx.Plan(name) }
	}
	t.Run("a plan keeps every setting, and a change leaves what was counted", func(t *testing.T) {
		w := newWorld(t, open)
		p, q := w.fullPlan("p"), provisioning.Plan{RotationPlan: policies.RotationPlan{Name: "a", Role: policies.RollDevices}, Created: w.now, Updated: w.now, Version: 1}
		w.update(func(tx provisioning.Tx) error {
			if err := tx.InsertPlan(p); err != nil {
				return err
			}
			return tx.InsertPlan(q)
		})
		same(w, view(w, func(tx provisioning.Tx) ([]provisioning.Plan, error) { return tx.Plans() }), []provisioning.Plan{q, p})
		absent(w, plan("gone"))
		w.refused(fault.Conflict, "plan-exists", func(tx provisioning.Tx) error { return tx.InsertPlan(p) })

		changed := p
		changed.Paused, changed.Hour, changed.Moved, changed.Version = false, 99, 99, 6
		w.update(func(tx provisioning.Tx) error { return tx.UpdatePlan(changed, 5) })
		changed.Hour, changed.Moved = p.Hour, p.Moved
		same(w, view(w, plan("p")), changed)
		w.refused(fault.PreconditionFailed, "plan-changed", func(tx provisioning.Tx) error { return tx.UpdatePlan(changed, 5) })
		w.refused(fault.PreconditionFailed, "plan-changed", func(tx provisioning.Tx) error { return tx.DeletePlan("p", 5) })
		w.update(func(tx provisioning.Tx) error { return tx.DeletePlan("p", 6) })
		absent(w, plan("p"))
	})
	t.Run("moves are counted by the hour, whichever it is", func(t *testing.T) {
		w := newWorld(t, open)
		p := w.fullPlan("p")
		p.Hour, p.Moved = 0, 0
		w.update(func(tx provisioning.Tx) error { return tx.InsertPlan(p) })
		for _, c := range []struct{ hour, n, wantHour, wantMoved int64 }{{10, 3, 10, 3}, {10, 4, 10, 7}, {11, 1, 11, 1}, {10, 5, 10, 5}, {12, 0, 12, 0}, {12, 2, 12, 2}, {12, -1, 12, 1}} {
			w.update(func(tx provisioning.Tx) error { return tx.CountMoves("p", c.hour, c.n) })
			if got := view(w, plan("p")); got.Hour != c.wantHour || got.Moved != c.wantMoved {
				t.Errorf("%d in hour %d: %d in hour %d, want %d in hour %d", c.n, c.hour, got.Moved, got.Hour, c.wantMoved, c.wantHour)
			}
		}
		w.update(func(tx provisioning.Tx) error { return tx.CountMoves("gone", 1, 1) })
	})
	t.Run("ten at once hold to a rate", func(t *testing.T) {
		w := newWorld(t, open)
		p := w.fullPlan("p")
		p.Hour, p.Moved, p.MaxPerHour = 0, 0, 5
		w.update(func(tx provisioning.Tx) error { return tx.InsertPlan(p) })
		hour := policies.HourOf(w.now)
		var movers sync.WaitGroup
		for range 10 {
			movers.Go(func() {
				err := w.store.Update(bg, func(tx provisioning.Tx) error {
					if err := tx.CountMoves("p", hour, 0); err != nil {
						return err
					}
					now, err := tx.Plan("p")
					if err != nil || now.Left(w.now) == 0 {
						return err
					}
					return tx.CountMoves("p", hour, 1)
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		movers.Wait()
		if got := view(w, plan("p")); got.Moved != 5 {
			t.Errorf("%d were moved, want 5", got.Moved)
		}
	})
}

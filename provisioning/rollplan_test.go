package provisioning_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

// devicePlan writes a rotation plan of devices.
func (w *world) devicePlan(name string, edit func(*policies.RotationPlan)) {
	w.t.Helper()
	p := provisioning.Plan{RotationPlan: policies.RotationPlan{Name: name, Role: policies.RollDevices}, Created: w.clock, Updated: w.clock, Version: 1}
	if edit != nil {
		edit(&p.RotationPlan)
	}
	w.must(p.Validate(w.clock))
	w.must(w.db.Provisioning().Update(w.ctx, func(tx provisioning.Tx) error { return tx.InsertPlan(p) }))
}

// fleet enrolls devices of one group.
func (w *world) fleet(n int) {
	w.t.Helper()
	f := testkit.Chain(w.t, "root > mid[ca]")
	w.anchor(f.Get("root"), true)
	w.group("g", f.Get("mid"))
	for i := range n {
		name := fmt.Sprintf("d%02d", i)
		_, err := w.engine.Register(w.ctx, w.asking(w.presenting(name, f.Get("mid").Issue(w.t, name).Chain()...)))
		w.must(err)
	}
}

// told counts the devices that were told.
func (w *world) told() int { w.t.Helper(); return w.found(audit.RollTold) }

func TestAPlanHoldsBackWhoIsTold(t *testing.T) {
	t.Parallel()
	nights := policies.Windows{{Opens: "0 2 * * *", Length: 3 * time.Hour}}
	for name, tt := range map[string]struct {
		plans func(w *world)
		after time.Duration // since they are late
		told  int
	}{
		"without a plan all are told at once": {func(*world) {}, time.Hour, 12},
		"a plan for others changes nothing": {func(w *world) {
			w.devicePlan("p", func(p *policies.RotationPlan) { p.Paused, p.Entries = true, []string{"h"} })
		}, time.Hour, 12},
		"one for other roles neither": {func(w *world) {
			w.devicePlan("p", func(p *policies.RotationPlan) { p.Paused, p.Role = true, policies.RollGroups })
		}, time.Hour, 12},
		"a paused one holds all back": {func(w *world) { w.devicePlan("p", func(p *policies.RotationPlan) { p.Paused = true }) }, 5 * day, 0},
		"the one that names the entry decides": {func(w *world) {
			w.devicePlan("p", func(p *policies.RotationPlan) { p.Paused = true })
			w.devicePlan("q", func(p *policies.RotationPlan) { p.Entries = []string{"G"} })
		}, time.Hour, 12},
		"then the one that names the profile": {func(w *world) {
			w.devicePlan("p", func(p *policies.RotationPlan) { p.Profiles = []string{"default"} })
			w.devicePlan("a", func(p *policies.RotationPlan) { p.Paused = true })
		}, time.Hour, 12},
		"outside its window nobody is told":              {func(w *world) { w.devicePlan("p", func(p *policies.RotationPlan) { p.Windows = nights }) }, 17 * time.Hour, 0},
		"in it everybody is":                             {func(w *world) { w.devicePlan("p", func(p *policies.RotationPlan) { p.Windows = nights }) }, 20 * time.Hour, 12},
		"a rate lets so many through in an hour":         {func(w *world) { w.devicePlan("p", func(p *policies.RotationPlan) { p.MaxPerHour = 5 }) }, time.Minute, 5},
		"and in the hours that it takes everybody":       {func(w *world) { w.devicePlan("p", func(p *policies.RotationPlan) { p.MaxPerHour = 5 }) }, 5 * time.Hour, 12},
		"of which the end is no later than half is left": {func(w *world) { w.devicePlan("p", func(p *policies.RotationPlan) { p.Jitter = 0.3 }) }, 10*day + time.Hour, 12},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fleet(12)
			tt.plans(w)
			w.pass(70 * day)
			for end := w.clock.Add(tt.after); ; w.pass(15 * time.Minute) {
				w.sweep()
				if !w.clock.Before(end) {
					break
				}
			}
			if got := w.told(); got != tt.told {
				t.Errorf("%d of 12 were told, want %d", got, tt.told)
			}
		})
	}
}

// Jitter gives each device its own place in a share of its certificate's life.
func TestJitterSpreadsWhatComesDueTogether(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet(12)
	w.devicePlan("p", func(p *policies.RotationPlan) { p.Jitter = 0.1 })
	w.pass(70 * day)
	for _, step := range []struct{ days, min, max int }{{0, 0, 3}, {4, 2, 9}, {3, 4, 12}, {2, 12, 12}} {
		w.pass(time.Duration(step.days)*day + time.Hour)
		w.sweep()
		if got := w.told(); got < step.min || got > step.max {
			t.Errorf("%d told, want %d to %d", got, step.min, step.max)
		}
	}
}

// However many sweep, a rate holds, nobody is told twice, and what is held back gets its turn.
func TestARateHoldsForAllWhoSweep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet(20)
	w.devicePlan("p", func(p *policies.RotationPlan) { p.MaxPerHour = 7 })
	w.pass(70*day + time.Minute)
	before := 0
	for range 5 {
		for range 6 {
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for more := true; more; {
						var err error
						if more, err = w.engine.SweepRegistrations(w.ctx, w.db.ProvisioningJobs()); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			w.pass(10 * time.Minute)
		}
		if got := w.told(); got > before+7 {
			t.Fatalf("%d were told in an hour", got-before)
		}
		before = w.told()
		w.clock = w.clock.Truncate(time.Hour).Add(time.Minute)
	}
	if before != 20 {
		t.Errorf("%d of 20 were told", before)
	}
}

// INV-S4: a clock that jumps a year ahead and back moves nothing, skips nothing, and is
// loud.
func TestAClockThatJumpsAYearAheadAndBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet(12)
	w.devicePlan("p", func(p *policies.RotationPlan) { p.MaxPerHour = 5 })
	w.sweep()
	w.pass(time.Minute)
	w.jump(365 * day)
	w.sweep()
	if c, err := w.engine.Clock(w.ctx); err != nil || c.Jump.IsZero() || w.found(audit.ClockJumped) != 1 {
		t.Fatalf("no alarm: %+v, %v", c, err)
	}
	for range 9 {
		w.pass(time.Minute)
		w.sweep()
	}
	if w.told() != 0 || w.found(audit.RollStuck) != 0 || w.found(audit.ClockJumped) != 1 {
		t.Fatal("something moved while the clock was not believed")
	}
	w.pass(time.Minute)
	w.sweep() // believed: the certificates have expired, as far as anybody can know
	if got := w.told(); got != 5 {
		t.Fatalf("%d told in the first hour, want the plan's 5", got)
	}
	w.jump(-365 * day)
	for range 10 {
		w.sweep()
		w.pass(time.Minute)
	}
	if got := w.found(audit.ClockJumped); got != 2 {
		t.Fatalf("%d alarms, want 2", got)
	}
	w.sweep()
	for i := range 12 {
		d := w.device(fmt.Sprintf("d%02d", i))
		late := d.Pair.Due(policies.DefaultRotationPolicy())
		if d.DueAt.Before(late) || d.DueAt.Sub(late) > time.Hour {
			t.Errorf("%s is due at %s, want %s", d.ID, d.DueAt, late)
		}
		if d.Roll != nil {
			t.Errorf("%s: %+v rests on the wrong clock", d.ID, d.Roll)
		}
	}
	w.clock = testkit.Now().Add(w.jumped + 71*day)
	for range 30 {
		w.sweep()
		w.pass(time.Hour)
	}
	if got := w.told(); got != 5+12 {
		t.Errorf("%d told in all, want each once by the right clock", got)
	}
}

// An overlap that a clock ahead began ends an overlap after the clock is right again.
func TestAnOverlapFromAheadIsHastened(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	w.sweep()
	first, err := w.enroll(device)
	w.must(err)
	w.assigned(w.presenting("d1", first))
	next := w.renew("d1", first)
	w.jump(30 * day)
	w.assigned(w.presenting("d1", next))
	w.sweep()
	w.jump(-30 * day)
	for range 11 {
		w.sweep()
		w.pass(time.Minute)
	}
	w.sweep()
	w.pass(day)
	w.sweep()
	w.rolled("d1", map[audit.Action]string{audit.RollRetired: "overlap-over"})
}

// jump moves the clock, and no time passes.
func (w *world) jump(d time.Duration) { w.clock, w.jumped = w.clock.Add(d), w.jumped+d }

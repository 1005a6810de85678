package provisioning_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
)

func TestOfTwoOperatorsWhoStageAtOnceOneWins(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		root := testkit.Root(t, "factory")
		for name, tc := range map[string]struct {
			read bool
			rule string
		}{
			"both-read-it":  {true, "etag-mismatch"},
			"neither-asked": {false, "slot-taken"},
		} {
			en := w.individual(name, root.Issue(t, name, testkit.WithDates(w.clock.Add(-oneDay), w.clock.Add(oneDay))), nil)
			pre := provisioning.Precondition{}
			if tc.read {
				pre.Version = en.Version
			}
			var all sync.WaitGroup
			errs := make([]error, 2)
			for i := range errs {
				next := root.Issue(t, name)
				all.Go(func() {
					_, _, errs[i] = w.engine.StageCredential(w.ctx, "operator:test", en.Owner, provisioning.Staging{Certificate: next.PEM()}, pre)
				})
			}
			all.Wait()
			w.check()
			if (errs[0] == nil) == (errs[1] == nil) || fault.RuleOf(errors.Join(errs...)) != tc.rule {
				t.Errorf("%s: %v", name, errs)
			}
			w.wantStates(en.Owner, "primary active, secondary staged")
			if n := w.said(en.Owner, audit.RollStaged); n != 1 {
				t.Errorf("%s: staged %d times", name, n)
			}
		}
	})
}

// However many processes sweep, each move is made once.
func TestSweepsAtOnceMakeEachMoveOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		root := testkit.Root(t, "factory")
		var owners []provisioning.Owner
		for _, name := range []string{"dev-1", "dev-2", "dev-3", "dev-4", "dev-5"} {
			a, b := root.Issue(t, name), root.Issue(t, name)
			owners = append(owners, w.individual(name, a, b).Owner)
			w.assigned(w.presenting(name, b.Cert))
		}
		together := func() {
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for range 3 {
						if _, err := w.engine.SweepEntries(w.ctx, w.db.ProvisioningJobs()); err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
			w.check()
		}
		together()
		w.pass(oneDay)
		together()
		for _, o := range owners {
			w.wantStates(o, "secondary active")
			if seen, retired := w.said(o, audit.RollSeen), w.said(o, audit.RollRetired); seen != 1 || retired != 1 {
				t.Errorf("%s: seen %d times and retired %d times", o, seen, retired)
			}
		}
	})
}

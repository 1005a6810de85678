package provisioning_test

import (
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
)

func TestTenProcessesRollEachKeyOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, database store.Engine) {
		kek, err := seal.CreateKEK(filepath.Join(t.TempDir(), "kek.pem"), nil)
		if err != nil {
			t.Fatal(err)
		}
		w := newWorldOn(t, database, seal.NewBox(kek))
		const devices = 30
		for n := range devices {
			w.keyed(provisioning.Individual, "dev-"+strconv.Itoa(n))
		}
		w.policy(provisioning.ServicePlane, "reader", policies.EnrollmentRead)
		w.planned(keysPlan(), accessPlan())
		w.sweepKeys()
		w.pass(every)
		var running sync.WaitGroup
		for range 10 {
			running.Go(func() {
				for more, err := true, error(nil); more; {
					if more, err = w.engine.SweepKeys(w.ctx, w.db.ProvisioningJobs()); err != nil {
						t.Error(err)
						return
					}
				}
				if _, err := w.engine.SweepAccessKeys(w.ctx, w.db.ProvisioningJobs()); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
		for n := range devices {
			wantRolls(t, w.rolls("enrollment:dev-"+strconv.Itoa(n)), map[audit.Action]int{audit.RollStaged: 1, audit.RollDropped: 1, audit.RollTold: 1})
		}
		wantRolls(t, w.rolls("access:service/reader"), map[audit.Action]int{audit.RollTold: 1})
	})
}

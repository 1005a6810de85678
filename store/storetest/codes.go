package storetest

import (
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// code is a one-time code for a device that lives an hour.
func (w *world) code(n byte, device string) provisioning.EnrollmentCode {
	return provisioning.EnrollmentCode{
		Hash: verify.CodeHash{n, 31: n}, ID: w.id(device), Created: w.now, CreatedBy: "operator:ann", Expires: w.now.Add(time.Hour),
	}
}

func (w *world) keep(codes ...provisioning.EnrollmentCode) {
	w.Helper()
	w.update(func(tx provisioning.Tx) error {
		for _, c := range codes {
			if err := tx.InsertEnrollmentCode(c); err != nil {
				return err
			}
		}
		return nil
	})
}

func (w *world) codes(f provisioning.CodeFilter) []provisioning.EnrollmentCode {
	w.Helper()
	return view(w, func(tx provisioning.Tx) ([]provisioning.EnrollmentCode, error) { return tx.EnrollmentCodes(f) })
}

func codes(t *testing.T, open Open) {
	t.Run("a code is read back as it was written", func(t *testing.T) {
		w := newWorld(t, open)
		one, two, other := w.code(1, "dev-1"), w.code(2, "dev-1"), w.code(3, "dev-2")
		two.Group, two.UsedAt = w.id("line-3"), w.now.Add(time.Minute)
		w.keep(one, two, other)
		for _, c := range []provisioning.EnrollmentCode{one, two, other} {
			same(w, view(w, func(tx provisioning.Tx) (provisioning.EnrollmentCode, error) { return tx.EnrollmentCode(c.Hash) }), c)
		}
		same(w, w.codes(provisioning.CodeFilter{}), []provisioning.EnrollmentCode{one, two, other})
		same(w, w.codes(provisioning.CodeFilter{ID: w.id("dev-1")}), []provisioning.EnrollmentCode{one, two})
		same(w, w.codes(provisioning.CodeFilter{After: one.Hash, Limit: 1}), []provisioning.EnrollmentCode{two})
		absent(w, func(tx provisioning.Tx) (provisioning.EnrollmentCode, error) {
			return tx.EnrollmentCode(verify.CodeHash{9})
		})
		w.refused(fault.Conflict, "code-exists", func(tx provisioning.Tx) error { return tx.InsertEnrollmentCode(one) })
	})
	t.Run("a code is found by the start of its hash, if that is its alone", func(t *testing.T) {
		w := newWorld(t, open)
		one, twin := w.code(1, "dev-1"), w.code(2, "dev-1")
		last := w.code(0xff, "dev-3")
		w.keep(one, twin, last)
		byName := func(start [8]byte) func(provisioning.Tx) (provisioning.EnrollmentCode, error) {
			return func(tx provisioning.Tx) (provisioning.EnrollmentCode, error) { return tx.EnrollmentCodeNamed(start) }
		}
		same(w, view(w, byName([8]byte{1})), one)
		same(w, view(w, byName([8]byte{0xff})), last)
		absent(w, byName([8]byte{1, 1}))
		double := twin
		double.Hash[20]++
		w.keep(double)
		absent(w, byName([8]byte{2}))
	})
	t.Run("a code is spent once and before it expires", func(t *testing.T) {
		w := newWorld(t, open)
		c := w.code(1, "dev-1")
		w.keep(c)
		spend := func(at time.Time) func(provisioning.Tx) error {
			return func(tx provisioning.Tx) error { return tx.SpendEnrollmentCode(c.Hash, at) }
		}
		w.refused(fault.Conflict, provisioning.RuleCodeMoved, spend(c.Expires))
		w.update(spend(c.Expires.Add(-time.Microsecond)))
		w.refused(fault.Conflict, provisioning.RuleCodeMoved, spend(w.now))
		c.UsedAt = c.Expires.Add(-time.Microsecond)
		same(w, w.codes(provisioning.CodeFilter{}), []provisioning.EnrollmentCode{c})
		w.refused(fault.Conflict, provisioning.RuleCodeMoved, func(tx provisioning.Tx) error { return tx.SpendEnrollmentCode(verify.CodeHash{9}, w.now) })
	})
	t.Run("of two that spend it at once one wins", func(t *testing.T) {
		w := newWorld(t, open)
		for n := range byte(8) {
			c := w.code(n, "dev-1")
			w.keep(c)
			var racing sync.WaitGroup
			errs := make([]error, 4)
			for i := range errs {
				racing.Go(func() {
					errs[i] = w.store.Update(bg, func(tx provisioning.Tx) error { return tx.SpendEnrollmentCode(c.Hash, w.now) })
				})
			}
			racing.Wait()
			won := 0
			for _, err := range errs {
				if err == nil {
					won++
				} else if fault.RuleOf(err) != provisioning.RuleCodeMoved {
					t.Errorf("a loser got %v", err)
				}
			}
			if won != 1 {
				t.Errorf("%d won", won)
			}
		}
	})
	t.Run("what fails spends nothing", func(t *testing.T) {
		w := newWorld(t, open)
		c := w.code(1, "dev-1")
		w.keep(c)
		w.refused(fault.Conflict, "code-exists", func(tx provisioning.Tx) error {
			if err := tx.SpendEnrollmentCode(c.Hash, w.now); err != nil {
				return err
			}
			return tx.InsertEnrollmentCode(c)
		})
		same(w, w.codes(provisioning.CodeFilter{}), []provisioning.EnrollmentCode{c})
	})
	t.Run("what was spent stays", func(t *testing.T) {
		w := newWorld(t, open)
		open1, spent, other := w.code(1, "dev-1"), w.code(2, "dev-1"), w.code(3, "dev-2")
		spent.UsedAt = w.now
		w.keep(open1, spent, other)
		w.refused(fault.NotFound, "", func(tx provisioning.Tx) error { return tx.DeleteEnrollmentCode(spent.Hash) })
		w.update(func(tx provisioning.Tx) error { return tx.DeleteOpenEnrollmentCodes(w.id("dev-1")) })
		same(w, w.codes(provisioning.CodeFilter{}), []provisioning.EnrollmentCode{spent, other})
		w.update(func(tx provisioning.Tx) error { return tx.DeleteOpenEnrollmentCodes(w.id("dev-1")) })
		w.update(func(tx provisioning.Tx) error { return tx.DeleteEnrollmentCode(other.Hash) })
		w.refused(fault.NotFound, "", func(tx provisioning.Tx) error { return tx.DeleteEnrollmentCode(other.Hash) })
	})
}

package provisioning_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
)

// BenchmarkADisallowance measures what follows the act, by device below a stolen CA, and the act
// itself: its preview reads all registrations, its transaction none.
func BenchmarkADisallowance(b *testing.B) {
	const devices = 50_000
	w := newWorld(b)
	f := testkit.Chain(b, "root > mid > d1")
	mid := f.Get("mid")
	w.anchor(f.Get("root"), true)
	w.group("line", mid, livingOn(builtIn))
	w.assigned(w.presenting("d1", f.Get("d1").Chain()...))
	like := w.registration("d1")
	for done := 0; done < devices; {
		w.must(w.db.Provisioning().Update(w.ctx, func(tx provisioning.Tx) error {
			for range 1000 {
				reg := like
				reg.Spelled = fmt.Sprintf("dev-%06d", done)
				reg.ID, reg.DeviceID, reg.Version = id(w, reg.Spelled), reg.Spelled, 1
				reg.Operation.ID, reg.DueAt = "op-"+reg.Spelled, time.Time{}
				if err := tx.PutRegistration(reg); err != nil {
					return err
				}
				done++
			}
			return nil
		}))
	}
	var look, act, follow time.Duration
	for b.Loop() {
		r := provisioning.DisallowRequest{Certificate: mid.Cert.Raw}
		began := time.Now()
		p, err := w.engine.PreviewDisallow(w.ctx, r)
		w.must(err)
		look += time.Since(began)
		began = time.Now()
		i, err := w.engine.Disallow(w.ctx, ann, r, p.ID)
		w.must(err)
		act += time.Since(began)
		began = time.Now()
		for more := true; more; {
			more, err = w.engine.SweepIncidents(w.ctx, w.db.ProvisioningJobs())
			w.must(err)
		}
		follow += time.Since(began)
		if got, err := w.engine.Disallowance(w.ctx, i.ID); err != nil || got.Devices != devices+1 || got.Done.IsZero() {
			b.Fatalf("%+v, %v", got, err)
		}
		_, err = w.engine.LiftDisallowance(w.ctx, ann, i.ID)
		w.must(err)
		for more := true; more; {
			more, err = w.engine.SweepIncidents(w.ctx, w.db.ProvisioningJobs())
			w.must(err)
		}
		w.clock = w.clock.Add(time.Minute)
	}
	b.ReportMetric(look.Seconds()*1e3/float64(b.N), "preview-ms")
	b.ReportMetric(act.Seconds()*1e3/float64(b.N), "act-ms")
	b.ReportMetric(devices*float64(b.N)/follow.Seconds(), "devices/s")
}

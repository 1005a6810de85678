package provisioning_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
)

// One registration without TLS and HTTP, many at once so that commits are shared. The
// figures to hold against each other are these, and those of ca's BenchmarkIssue.
func BenchmarkRegister(b *testing.B) {
	for name, withCSR := range map[string]bool{"with a CSR": true, "without": false} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b)
			f := testkit.Chain(b, "root > mid[ca]")
			w.anchor(f.Get("root"), true)
			w.group("g", f.Get("mid"))
			const devices = 64
			attempts := make([]provisioning.Attempt, devices)
			csrs := make([][]byte, devices)
			for i := range attempts {
				name := fmt.Sprintf("dev-%d", i)
				attempts[i] = w.presenting(name, f.Get("mid").Issue(b, name).Chain()...)
			}
			for i := range csrs {
				csrs[i] = testkit.CSR(b, testkit.NewKey(b, "p256"), fmt.Sprintf("dev-%d", i))
			}
			var next atomic.Int64
			b.SetParallelism(8)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := next.Add(1)
					r := provisioning.RegisterRequest{Attempt: attempts[i%devices]}
					if withCSR {
						r.CSR = csrs[i%devices]
					}
					if _, err := w.engine.Register(w.ctx, r); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

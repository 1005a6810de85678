package provisioning_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
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

// Finding the group of a device among a thousand whose keys might yield its own: every key is
// tried for a device that is new, the owner's alone for one that is known.
func BenchmarkRegisterAmongKeyGroups(b *testing.B) {
	w := newWorld(b)
	const groups = 1000
	var last []byte
	for i := range groups {
		last = w.keyed(provisioning.Group, fmt.Sprintf("g-%04d", i))
	}
	attempt := func(n int) provisioning.Attempt {
		name := fmt.Sprintf("dev-%d", n)
		return w.signing(name, verify.DeriveKey(verify.NewSecret(last), name).Reveal())
	}
	register := func(b *testing.B, a provisioning.Attempt) {
		if _, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: a}); err != nil {
			b.Fatal(err)
		}
	}
	register(b, attempt(0))
	new := 0
	b.Run("new", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			new++
			a := attempt(new)
			b.StartTimer()
			register(b, a)
		}
	})
	b.Run("known", func(b *testing.B) {
		a := attempt(0)
		for b.Loop() {
			register(b, a)
		}
	})
}

// A device of one among ten thousand X.509 groups, each on a trust anchor of its own: what a
// request costs may not grow with them, since a chain is looked up and never searched for.
func BenchmarkRegisterAmongX509Groups(b *testing.B) {
	for _, groups := range []int{1, 10_000} {
		b.Run(fmt.Sprint(groups), func(b *testing.B) {
			w := newWorld(b)
			f := testkit.Chain(b, "root > mid[ca]")
			w.anchor(f.Get("root"), true)
			w.group("g", f.Get("mid"))
			for n := range groups - 1 {
				other := testkit.Chain(b, fmt.Sprintf("ca-%d[ca]", n)).Leaf()
				name := fmt.Sprintf("other-%d", n)
				_, err := w.engine.UploadAnchor(w.ctx, "operator:test", name, other.PEM(), true, provisioning.Precondition{})
				w.must(err)
				_, _, err = w.engine.Put(w.ctx, "operator:test", provisioning.Draft{
					Owner: provisioning.Owner{Kind: provisioning.Group, ID: id(w, name)}, Spelled: name, Enabled: true, Allocation: policies.Hashed,
					Attestation: provisioning.Attestation{Role: provisioning.RoleSigning, Slots: [2]provisioning.SlotDraft{{Certificate: other.PEM()}}},
				}, provisioning.Precondition{})
				w.must(err)
			}
			n := 0
			b.ResetTimer()
			for b.Loop() {
				b.StopTimer()
				n++
				name := fmt.Sprintf("dev-%d", n)
				a := w.presenting(name, f.Get("mid").Issue(b, name).Chain()...)
				b.StartTimer()
				if _, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: a}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Every linked hub draws for a device, so what a registration costs grows with them: a third
// of a microsecond each.
func BenchmarkRegisterAmongHubs(b *testing.B) {
	w := newWorld(b)
	f := testkit.Chain(b, "root > mid[ca]")
	w.anchor(f.Get("root"), true)
	w.group("g", f.Get("mid"))
	for n := range 10_000 {
		_, err := w.engine.PutHub(w.ctx, "operator:test", provisioning.Hub{Name: fmt.Sprintf("many-%d.example.net", n), Driver: provisioning.BuiltIn, Weight: 1}, provisioning.Precondition{})
		w.must(err)
	}
	a := w.presenting("dev-1", f.Get("mid").Issue(b, "dev-1").Chain()...)
	for b.Loop() {
		if _, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: a}); err != nil {
			b.Fatal(err)
		}
	}
}

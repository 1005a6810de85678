package storetest

import (
	"crypto/x509"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// fullProfile sets every field.
func fullProfile(name string) policies.Profile {
	return policies.Profile{
		Name: name, Lifetime: time.Hour, Backdate: time.Minute, Keys: []policies.KeyType{policies.KeyEd25519}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		Renewal: policies.RotationPolicy{PrepareAt: .5, Overlap: time.Minute}, Template: "{\n\"\u00e9\": {{ toJson .SANs }}}",
		Names: &policies.Names{
			Permitted: policies.NameRules{DNS: []string{"a"}, IP: []string{"10.0.0.0/8"}, Email: []string{"@a"}, URI: []string{"b"}, CommonName: []string{"c"}, Principal: []string{"*"}},
			Excluded:  policies.NameRules{DNS: []string{"d", "e"}},
		},
		Extensions: []string{"1.2.3"}, MinLifetime: time.Minute, MaxLifetime: 2 * time.Hour, KeyReuse: policies.KeyReuseNever, KeyAttestation: policies.KeyAttestationTPM, KeyAttestationExtension: "1.2.4", ServerKeygen: true, EmbedSCT: true,
	}
}

func profiles(t *testing.T, open Open) {
	t.Run("a profile keeps every setting, and so does its version", func(t *testing.T) {
		w := newWorld(t, open)
		p := provisioning.Profile{Profile: fullProfile("p"), Created: w.now, Updated: w.now, Version: 3}
		v := provisioning.ProfileVersion{Profile: p.Profile, Version: 3, At: w.now, Actor: "operator:ann"}
		w.update(func(tx provisioning.Tx) error {
			if err := tx.InsertProfile(p); err != nil {
				return err
			}
			return tx.InsertProfileVersion(v)
		})
		same(w, view(w, func(tx provisioning.Tx) (provisioning.Profile, error) { return tx.Profile("p") }), p)
		same(w, view(w, func(tx provisioning.Tx) (provisioning.ProfileVersion, error) { return tx.ProfileVersion("p", 3) }), v)
		absent(w, func(tx provisioning.Tx) (provisioning.ProfileVersion, error) { return tx.ProfileVersion("p", 4) })
		w.refused(fault.Conflict, "", func(tx provisioning.Tx) error { return tx.InsertProfileVersion(v) })
	})
	t.Run("versions are listed newest first, and outlast their profile", func(t *testing.T) {
		w := newWorld(t, open)
		w.update(func(tx provisioning.Tx) error {
			for n := range int64(4) {
				for _, name := range []string{"p", "q"} {
					if err := tx.InsertProfileVersion(provisioning.ProfileVersion{Profile: fullProfile(name), Version: n + 1, At: w.now, Actor: "job:test"}); err != nil {
						return err
					}
				}
			}
			return nil
		})
		for _, c := range []struct {
			before int64
			limit  int
			want   string
		}{{0, 10, "4 3 2 1"}, {0, 2, "4 3"}, {3, 10, "2 1"}, {1, 10, ""}} {
			got := ""
			for _, v := range view(w, func(tx provisioning.Tx) ([]provisioning.ProfileVersion, error) {
				return tx.ProfileVersions("p", c.before, c.limit)
			}) {
				got += fmt.Sprintf(" %d", v.Version)
			}
			if len(got) > 0 {
				got = got[1:]
			}
			if got != c.want {
				t.Errorf("before %d, at most %d: %q, want %q", c.before, c.limit, got, c.want)
			}
		}
	})
	t.Run("the newest recent requests are kept", func(t *testing.T) {
		w := newWorld(t, open)
		request := func(n int) provisioning.RecentRequest {
			return provisioning.RecentRequest{At: w.now.Add(time.Duration(n) * time.Second), ID: w.id(fmt.Sprintf("dev-%d", n)), Profile: "p", CSR: []byte{byte(n), 1}}
		}
		n := 0
		for _, some := range []int{3, provisioning.MaxRecent - 1, 5} {
			var list []provisioning.RecentRequest
			for range some {
				list = append(list, request(n))
				n++
			}
			w.update(func(tx provisioning.Tx) error { return tx.AppendRecentRequests(list) })
		}
		all := view(w, func(tx provisioning.Tx) ([]provisioning.RecentRequest, error) {
			return tx.RecentRequests(provisioning.MaxRecent)
		})
		if len(all) != provisioning.MaxRecent {
			t.Fatalf("%d are kept, want %d", len(all), provisioning.MaxRecent)
		}
		for i, r := range all {
			same(w, r, request(n-1-i))
		}
		two := view(w, func(tx provisioning.Tx) ([]provisioning.RecentRequest, error) { return tx.RecentRequests(2) })
		same(w, two, []provisioning.RecentRequest{request(n - 1), request(n - 2)})
	})
	t.Run("a key has one holder", func(t *testing.T) {
		w := newWorld(t, open)
		hold := func(key byte, device string, again bool) func(provisioning.Tx) error {
			return func(tx provisioning.Tx) error { return tx.HoldKey(verify.KeyHash{key}, w.id(device), again) }
		}
		w.update(hold(1, "dev-1", true))
		w.update(hold(1, "dev-1", true))
		w.refused(fault.Malformed, "key-reused", hold(1, "dev-2", true))
		w.refused(fault.Malformed, "key-reused", hold(1, "dev-1", false))
		w.update(hold(2, "dev-1", false))
		w.refused(fault.Malformed, "key-reused", hold(2, "dev-2", false))
		w.update(hold(2, "dev-1", true))
	})
	t.Run("of two that take a key at once one has it", func(t *testing.T) {
		w := newWorld(t, open)
		var all sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			device := w.id(fmt.Sprintf("dev-%d", i))
			all.Go(func() {
				errs[i] = w.store.Update(bg, func(tx provisioning.Tx) error { return tx.HoldKey(verify.KeyHash{9}, device, i%2 == 0) })
			})
		}
		all.Wait()
		held := 0
		for _, err := range errs {
			if err == nil {
				held++
			} else if fault.RuleOf(err) != "key-reused" {
				t.Errorf("refused by %v", err)
			}
		}
		if held != 1 {
			t.Errorf("%d devices hold the key", held)
		}
	})
}

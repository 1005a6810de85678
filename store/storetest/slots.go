package storetest

import (
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

func slots(t *testing.T, open Open) {
	t.Run("entries are due oldest first, and those with keys are another sweep's", dueEntries(open))
	t.Run("what is claimed is not shown to another who claims", claimedEntries(open))
	t.Run("a woken entry is not dated over", wokenEntries(open))
	t.Run("a move changes where credentials stand and nothing else", movedEntries(open))
	t.Run("devices hang on a slot by their leaf or by what stands above it", hangingDevices(open))
}

// enrollDue writes an entry that is due at a time.
func (w *world) enrollDue(e provisioning.Enrollment, at time.Time) provisioning.Enrollment {
	w.Helper()
	e.DueAt = at
	w.enroll(e)
	return e
}

func dueEntries(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		f := testkit.Chain(t, "root > a; root > b; root > c; root > d")
		w.enrollDue(w.entry(w.individual("b"), pin(f.Get("b"), rotation.Primary)), w.now.Add(-time.Hour))
		w.enrollDue(w.entry(w.individual("a"), pin(f.Get("a"), rotation.Primary)), w.now)
		w.enrollDue(w.entry(w.group("g"), signing(f.Get("root"), rotation.Primary)), w.now.Add(-2*time.Hour))
		w.enrollDue(w.entry(w.individual("later"), pin(f.Get("c"), rotation.Primary)), w.now.Add(time.Microsecond))
		w.enrollDue(w.entry(w.individual("keyed"), key("k", rotation.Primary)), w.now.Add(-time.Hour))
		w.enrollDue(w.entry(w.individual("never"), pin(f.Get("d"), rotation.Primary)), time.Time{})
		w.enrollDue(w.entry(w.individual("empty")), w.now)
		names := func(limit int) map[string]time.Time {
			out := map[string]time.Time{}
			for _, e := range view(w, func(tx provisioning.Tx) ([]provisioning.Enrollment, error) { return tx.DueEntries(w.now, limit) }) {
				out[e.ID.String()] = e.DueAt
			}
			return out
		}
		same(w, names(10), map[string]time.Time{"a": w.now, "b": w.now.Add(-time.Hour), "g": w.now.Add(-2 * time.Hour), "empty": w.now})
		same(w, names(2), map[string]time.Time{"g": w.now.Add(-2 * time.Hour), "b": w.now.Add(-time.Hour)})
		w.update(func(tx provisioning.Tx) error { return tx.DateEntry(w.individual("b"), time.Time{}, 1) })
		same(w, names(2), map[string]time.Time{"g": w.now.Add(-2 * time.Hour), "a": w.now})
		w.refused(fault.PreconditionFailed, "", func(tx provisioning.Tx) error { return tx.DateEntry(w.individual("a"), time.Time{}, 7) })
	}
}

func claimedEntries(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		f := testkit.Chain(t, "root > a; root > b")
		for _, name := range []string{"a", "b"} {
			w.enrollDue(w.entry(w.individual(name), pin(f.Get(name), rotation.Primary)), w.now)
		}
		var mu sync.Mutex
		claims := map[string]int{}
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 2 {
					var mine []provisioning.DueEntry
					err := w.store.Update(bg, func(tx provisioning.Tx) (err error) {
						if mine, err = tx.ClaimEntries(w.now, 1); err != nil {
							return err
						}
						for _, c := range mine {
							if err := tx.DateEntry(c.Owner, w.now.Add(time.Hour), c.Version); err != nil {
								return err
							}
						}
						return nil
					})
					if err != nil {
						t.Error(err)
					}
					mu.Lock()
					for _, c := range mine {
						claims[c.ID.String()]++
					}
					mu.Unlock()
				}
			})
		}
		all.Wait()
		same(w, claims, map[string]int{"a": 1, "b": 1})
	}
}

func wokenEntries(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		f := testkit.Chain(t, "root > a")
		owner := w.individual("a")
		w.enrollDue(w.entry(owner, pin(f.Get("a"), rotation.Primary)), time.Time{})
		wake := func(at time.Time) time.Time {
			w.update(func(tx provisioning.Tx) error { return tx.WakeEntry(owner, at) })
			return view(w, func(tx provisioning.Tx) (provisioning.Enrollment, error) { return tx.Enrollment(owner) }).DueAt
		}
		same(w, wake(w.now), w.now)
		same(w, wake(w.now.Add(time.Hour)), w.now.Add(-time.Microsecond)) // due already: it stays so, and shows that it was woken
		w.update(func(tx provisioning.Tx) error { return tx.DateEntry(owner, w.now.Add(time.Hour), 1) })
		same(w, wake(w.now), w.now)
		w.update(func(tx provisioning.Tx) error { return tx.WakeEntry(w.individual("gone"), w.now) })
	}
}

func movedEntries(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		f := testkit.Chain(t, "root > a; root > b [cn=a]")
		e := w.enrollDue(w.entry(w.individual("a"), pin(f.Get("a"), rotation.Primary), pin(f.Get("b"), rotation.Secondary)), w.now)
		facts := view(w, func(tx provisioning.Tx) (provisioning.Facts, error) {
			return tx.Facts(provisioning.FactsQuery{ID: e.ID})
		})
		e.Version, e.DueAt = 2, w.now.Add(time.Hour)
		e.Credentials[0].State, e.Credentials[0].RetireAt = rotation.Retiring, w.now.Add(time.Hour)
		e.Credentials[1].State, e.Credentials[1].SeenAt = rotation.Active, w.now
		w.update(func(tx provisioning.Tx) error { return tx.MoveEntry(e, 1) })
		read := func(tx provisioning.Tx) (provisioning.Enrollment, error) { return tx.Enrollment(e.Owner) }
		same(w, view(w, read), e)
		w.update(func(tx provisioning.Tx) error {
			if unmoved, err := tx.Unmoved(facts, verify.KeyHash{}); err != nil || !unmoved {
				t.Errorf("devices had to be decided on anew: %v", err)
			}
			return nil
		})
		w.refused(fault.PreconditionFailed, "", func(tx provisioning.Tx) error { return tx.MoveEntry(e, 1) })
		gone := e
		gone.Credentials = append([]provisioning.Credential(nil), e.Credentials...)
		gone.Version = 3
		w.update(func(tx provisioning.Tx) error {
			one := e
			one.Version, one.Credentials = 3, e.Credentials[1:]
			return tx.UpdateEnrollment(one, 2)
		})
		gone.Version = 4
		w.refused(fault.PreconditionFailed, "", func(tx provisioning.Tx) error { return tx.MoveEntry(gone, 3) })
	}
}

func hangingDevices(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		f := testkit.Chain(t, "root > mid-1 > d1; mid-1 > d2; root > mid-2 > d3; root > own")
		g := w.group("g")
		w.enroll(w.entry(g, signing(f.Get("mid-1"), rotation.Primary), signing(f.Get("mid-2"), rotation.Secondary)))
		w.enroll(w.entry(w.individual("own"), pin(f.Get("own"), rotation.Primary)))
		link := func(name string) verify.Link { return verify.NewLink(f.Get(name).Cert) }
		w.update(func(tx provisioning.Tx) error {
			if err := tx.PutChain(1, []verify.Link{link("mid-1"), link("root")}); err != nil {
				return err
			}
			return tx.PutChain(2, []verify.Link{link("mid-2"), link("root")})
		})
		for name, chain := range map[string]provisioning.ChainID{"d1": 1, "d2": 1, "d3": 2, "d4": 0} {
			r := w.registration(name, g)
			r.Chain = chain
			if name == "d2" {
				pair, err := r.Pair.Stage(rotation.Ref{1}, w.now, w.now.Add(time.Hour))
				if err != nil {
					t.Fatal(err)
				}
				r.Pair = pair
			}
			w.put(r)
		}
		other := w.registration("elsewhere", provisioning.Owner{})
		other.Chain = 1
		w.put(other)
		own := w.registration("own", w.individual("own"))
		own.Leaf = link("own").Thumbprint
		w.put(own)
		for name, tc := range map[string]struct {
			hang            provisioning.Hang
			at              time.Time
			devices, locked int64
			first           string
		}{
			"below the one":                   {provisioning.Hang{Owner: g, On: link("mid-1").Thumbprint, But: link("mid-2").Thumbprint}, w.now, 2, 1, "d1"},
			"when its own certificate ended":  {provisioning.Hang{Owner: g, On: link("mid-1").Thumbprint, But: link("mid-2").Thumbprint}, w.now.Add(time.Hour), 2, 2, "d1"},
			"below the other":                 {provisioning.Hang{Owner: g, On: link("mid-2").Thumbprint}, w.now, 1, 1, "d3"},
			"below the root of both":          {provisioning.Hang{Owner: g, On: link("root").Thumbprint}, w.now, 3, 2, "d1"},
			"but what hangs on a nearer one":  {provisioning.Hang{Owner: g, On: link("root").Thumbprint, But: link("mid-1").Thumbprint}, w.now, 1, 1, "d3"},
			"on nothing":                      {provisioning.Hang{Owner: g}, w.now, 0, 0, ""},
			"one device on its leaf":          {provisioning.Hang{Owner: w.individual("own"), On: own.Leaf}, w.now, 1, 1, "own"},
			"one device on another leaf":      {provisioning.Hang{Owner: w.individual("own"), On: link("d1").Thumbprint}, w.now, 0, 0, ""},
			"a group of the device's name":    {provisioning.Hang{Owner: w.group("own"), On: own.Leaf}, w.now, 0, 0, ""},
			"the group's name for one device": {provisioning.Hang{Owner: w.individual("g"), On: link("mid-1").Thumbprint}, w.now, 0, 0, ""},
		} {
			w.update(func(tx provisioning.Tx) error {
				devices, locked, err := tx.HangCount(tc.hang, tc.at)
				if err != nil || devices != tc.devices || locked != tc.locked {
					t.Errorf("%s: %d devices, %d locked out (%v), want %d and %d", name, devices, locked, err, tc.devices, tc.locked)
				}
				some, err := tx.HangsAny(tc.hang)
				if err != nil || some != (tc.devices > 0) {
					t.Errorf("%s: any %v (%v)", name, some, err)
				}
				list, err := tx.Hanging(tc.hang, verify.RegistrationID{}, 10)
				if err != nil || int64(len(list)) != tc.devices || tc.first != "" && list[0].ID.String() != tc.first {
					t.Errorf("%s: %d listed (%v)", name, len(list), err)
				}
				if tc.first == "" {
					return nil
				}
				rest, err := tx.Hanging(tc.hang, list[0].ID, 10)
				if err != nil || len(rest) != len(list)-1 {
					t.Errorf("%s: %d behind the first (%v), want %d", name, len(rest), err, len(list)-1)
				}
				return nil
			})
		}
	}
}

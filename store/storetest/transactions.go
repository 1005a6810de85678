package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/verify"
)

// transactions tells what becomes of neighbours. Each failure is tried among many
// Updates at once, so that on an engine which commits them together they share a commit.
func transactions(t *testing.T, open Open) {
	errMine := errors.New("mine")
	for _, c := range []struct {
		name string
		fail func(w *world, tx provisioning.Tx) error
		want func(error) bool
	}{
		{"a function's error is its own, and its rows are gone",
			func(*world, provisioning.Tx) error { return errMine },
			func(err error) bool { return errors.Is(err, errMine) }},
		{"a panic is an internal error for its caller alone",
			func(*world, provisioning.Tx) error { panic("boom") },
			func(err error) bool { return fault.RuleOf(err) == "panic" && fault.KindOf(err) == fault.Internal }},
		{"a constraint in the middle is a conflict for its caller alone",
			func(w *world, tx provisioning.Tx) error {
				return tx.InsertCertificate(w.certificate(w.issuer(99), "dev"))
			},
			func(err error) bool { return fault.RuleOf(err) == "issuer-not-active" }},
		{"a function that swallows a statement's error fails all the same",
			func(w *world, tx provisioning.Tx) error {
				_ = tx.InsertHub(provisioning.Hub{Name: "twice", Version: 1})
				_ = tx.InsertHub(provisioning.Hub{Name: "twice", Version: 1})
				return nil
			},
			func(err error) bool { return fault.RuleOf(err) == "hub-exists" }},
		{"a row the checks refuse fails its caller alone",
			func(w *world, tx provisioning.Tx) error {
				return tx.InsertHub(provisioning.Hub{Name: "light", Weight: -1, Version: 1})
			},
			func(err error) bool { return err != nil && fault.KindOf(err) == fault.Internal }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, open)
			const n = 24
			errs := w.together(n, func(i int, tx provisioning.Tx) error {
				if err := tx.PutRegistration(w.registration(fmt.Sprintf("dev-%02d", i), provisioning.Owner{})); err != nil {
					return err
				}
				if i%3 == 1 {
					return c.fail(w, tx)
				}
				return nil
			})
			for i, err := range errs {
				failed := i%3 == 1
				if failed && !c.want(err) || !failed && err != nil {
					t.Errorf("Update %d: %v", i, err)
				}
				if got := w.registered(fmt.Sprintf("dev-%02d", i)); got == failed {
					t.Errorf("Update %d (failed: %v) left its row: %v", i, failed, got)
				}
			}
		})
	}
	t.Run("two writers of one row end in one success", func(t *testing.T) {
		w := newWorld(t, open)
		r := w.registration("dev-1", provisioning.Owner{})
		w.put(r)
		r.Version = 2
		won := 0
		for _, err := range w.together(8, func(_ int, tx provisioning.Tx) error { return tx.PutRegistration(r) }) {
			switch {
			case err == nil:
				won++
			case fault.RuleOf(err) != "registration-moved":
				t.Errorf("the loser was told: %v", err)
			}
		}
		if won != 1 {
			t.Errorf("%d writers won", won)
		}
	})
	t.Run("counting together loses nothing", func(t *testing.T) {
		w := newWorld(t, open)
		w.update(func(tx provisioning.Tx) error { return w.create(tx, w.issuer(1)) })
		const n = 16
		certs := w.together(n, func(_ int, tx provisioning.Tx) error {
			c := w.certificate(w.issuer(1), "dev-1")
			if err := w.record(tx, c); err != nil {
				return err
			}
			c.RevokedAt, c.Reason = w.now, "superseded"
			if err := tx.MarkRevoked(c); err != nil {
				return err
			}
			return tx.Append(w.revoked(c))
		})
		if err := errors.Join(certs...); err != nil {
			t.Fatal(err)
		}
		if got := view(w, provisioning.Tx.CRLShards)[0].Revocations; got != n {
			t.Errorf("%d revocations counted, want %d", got, n)
		}
		Check(t, w.db)
	})
	t.Run("a View sees one snapshot, whatever is committed meanwhile", snapshot(open))
	t.Run("a View that goes on after Facts is still one snapshot", snapshotAfterFacts(open))
	t.Run("a caller who gave up before its turn changes nothing", func(t *testing.T) {
		w := newWorld(t, open)
		ctx, cancel := context.WithCancel(bg)
		cancel()
		err := w.store.Update(ctx, func(tx provisioning.Tx) error {
			return tx.PutRegistration(w.registration("dev-1", provisioning.Owner{}))
		})
		if !fault.Is(err, fault.Unavailable) || !errors.Is(err, context.Canceled) || w.registered("dev-1") {
			t.Errorf("Update: %v, row there: %v", err, w.registered("dev-1"))
		}
		err = w.store.View(ctx, func(tx provisioning.Tx) error { _, err := tx.Hubs(); return err })
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("View: %v", err)
		}
	})
	t.Run("an Update that has begun is finished though its caller gave up", func(t *testing.T) {
		w := newWorld(t, open)
		ctx, cancel := context.WithCancel(bg)
		err := w.store.Update(ctx, func(tx provisioning.Tx) error {
			cancel()
			return tx.PutRegistration(w.registration("dev-1", provisioning.Owner{}))
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Update: %v", err)
		}
		w.put(w.registration("dev-2", provisioning.Owner{})) // stands behind it
		if !w.registered("dev-1") {
			t.Error("its row is not there")
		}
	})
	t.Run("a View that panics hurts nobody else", func(t *testing.T) {
		w := newWorld(t, open)
		for range 6 { // more often than there are connections
			err := w.store.View(bg, func(tx provisioning.Tx) error { _, _ = tx.Hubs(); panic("boom") })
			if fault.RuleOf(err) != "panic" {
				t.Fatalf("View: %v", err)
			}
		}
		view(w, provisioning.Tx.Hubs)
	})
	t.Run("trust changes and registrations take turns", trustInOrder(open))
	t.Run("jobs and devices are both served", func(t *testing.T) {
		w := newWorld(t, open)
		var all sync.WaitGroup
		for i := range 40 {
			s := w.store
			if i%2 == 1 {
				s = w.db.ProvisioningJobs()
			}
			all.Go(func() {
				if err := s.Update(bg, func(tx provisioning.Tx) error { return tx.Append(w.note(audit.ActRefused, "x")) }); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if got := view(w, func(tx provisioning.Tx) ([]audit.Entry, error) { return tx.LedgerEntries(provisioning.LedgerFilter{}) }); len(got) != 40 {
			t.Errorf("%d rows, want 40", len(got))
		}
	})
}

// together starts n Updates at once and returns their errors.
func (w *world) together(n int, f func(int, provisioning.Tx) error) []error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = w.store.Update(bg, func(tx provisioning.Tx) error { return f(i, tx) }) })
	}
	all.Wait()
	return errs
}

func (w *world) registered(device string) bool {
	w.Helper()
	err := w.store.View(bg, func(tx provisioning.Tx) error {
		_, err := tx.Registration(w.id(device))
		return err
	})
	if err != nil && !fault.Is(err, fault.NotFound) {
		w.Fatal(err)
	}
	return err == nil
}

func snapshot(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		err := w.store.View(bg, func(tx provisioning.Tx) error {
			if _, err := tx.Hubs(); err != nil {
				return err
			}
			w.put(w.registration("dev-1", provisioning.Owner{}))
			_, err := tx.Registration(w.id("dev-1"))
			if !fault.Is(err, fault.NotFound) {
				t.Errorf("the snapshot moved: %v", err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// snapshotAfterFacts allows an engine that reads Facts without a transaction to give
// up, but not to answer from two snapshots.
func snapshotAfterFacts(open Open) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, open)
		query := provisioning.FactsQuery{ID: w.id("dev-1")}
		read := func(between func()) error {
			return w.store.View(bg, func(tx provisioning.Tx) error {
				f, err := tx.Facts(query)
				if err != nil {
					return err
				}
				between()
				_, err = tx.Registration(w.id("dev-1"))
				if there := err == nil; err != nil && !fault.Is(err, fault.NotFound) {
					return err
				} else if there != (f.Registration != nil) {
					t.Error("one View answered from two snapshots")
				}
				return nil
			})
		}
		if err := read(func() {}); err != nil {
			t.Error(err)
		}
		if err := read(func() { w.put(w.registration("dev-1", provisioning.Owner{})) }); err != nil && !fault.Is(err, fault.Unavailable) {
			t.Error(err)
		}
		if err := read(func() {}); err != nil {
			t.Error(err)
		}
	}
}

// trustInOrder races registrations against a disallowance: none may commit after it
// without having seen it (INV-D1).
func trustInOrder(open Open) func(*testing.T) {
	return func(t *testing.T) {
		for round := range 5 {
			w := newWorld(t, open)
			leaf := verify.Thumbprint{1, byte(round)}
			query := func(i int) provisioning.FactsQuery {
				return provisioning.FactsQuery{ID: w.id(fmt.Sprintf("dev-%d", i)), Thumbs: []verify.Thumbprint{leaf}}
			}
			var all sync.WaitGroup
			for i := range 12 {
				all.Go(func() {
					err := w.store.Update(bg, func(tx provisioning.Tx) error {
						f, err := tx.Facts(query(i))
						if err != nil {
							return err
						}
						action := audit.Registered
						if len(f.Disallowances) > 0 {
							action = audit.ActRefused
						}
						return tx.Append(w.note(action, "race"))
					})
					if err != nil {
						t.Error(err)
					}
				})
				if i == 6 {
					all.Go(func() {
						err := w.store.UpdateTrust(bg, func(tx provisioning.Tx) error {
							d := provisioning.Disallowance{ID: "d", Digest: leaf, Reason: "keyCompromise", Actor: "a", Created: w.now}
							if err := tx.InsertDisallowance(d); err != nil {
								return err
							}
							return tx.Append(w.note(audit.KeyDisallowed, "race"))
						})
						if err != nil {
							t.Error(err)
						}
					})
				}
			}
			all.Wait()
			w.ordered()
		}
	}
}

// ordered wants every row before the disallowance to tell of a registration and every
// one after it of a refusal. Under the exclusive lock sequence numbers are in commit order
// as far as this row is concerned.
func (w *world) ordered() {
	w.Helper()
	rows := view(w, func(tx provisioning.Tx) ([]audit.Entry, error) { return tx.LedgerEntries(provisioning.LedgerFilter{}) })
	after := true // newest first
	for _, r := range rows {
		switch {
		case r.Action == audit.KeyDisallowed:
			after = false
		case after != (r.Action == audit.ActRefused):
			w.Errorf("row %d tells of %s on the wrong side of the disallowance", r.Seq, r.Action)
		}
	}
}

// Budget asserts what a registration with CSR costs (store design §8): at most four
// statements, and on an engine with a network two round trips.
func Budget(t *testing.T, open Open, trips int64) {
	w := newWorld(t, open)
	w.update(func(tx provisioning.Tx) error { return w.create(tx, w.issuer(1)) })
	register := func(version int64) func(provisioning.Tx) error {
		return func(tx provisioning.Tx) error {
			if _, err := tx.Facts(provisioning.FactsQuery{ID: w.id("dev-1"), Thumbs: make([]verify.Thumbprint, 2), Keys: make([]verify.KeyHash, 3), Profiles: true}); err != nil {
				return err
			}
			if err := w.record(tx, w.certificate(w.issuer(1), "dev-1")); err != nil {
				return err
			}
			r := w.assigned("dev-1", "a.example", "dev-1", provisioning.Owner{})
			r.Version = version
			return tx.PutRegistration(r)
		}
	}
	for version := int64(1); version <= 3; version++ {
		before := w.db.Stats()
		w.update(register(version))
		after := w.db.Stats()
		cost := store.Stats{
			Updates: after.Updates - before.Updates, Statements: after.Statements - before.Statements,
			Trips: after.Trips - before.Trips, Commits: after.Commits - before.Commits,
		}
		if want := (store.Stats{Updates: 1, Statements: 4, Trips: trips, Commits: 1}); cost != want {
			t.Errorf("registering cost %+v, want %+v", cost, want)
		}
	}
	before := w.db.Stats()
	view(w, func(tx provisioning.Tx) (provisioning.Facts, error) {
		return tx.Facts(provisioning.FactsQuery{ID: w.id("dev-1")})
	})
	if got := w.db.Stats().Views - before.Views; got != 1 {
		t.Errorf("%d Views counted", got)
	}
}

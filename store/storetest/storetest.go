// Package storetest holds every engine of package store to the same behaviour.
//
// [Run] is the conformance suite: each method of a transaction, the version rules, what
// Facts must find, and what becomes of neighbours when a function fails. [Check] asserts
// the invariants of architecture §7 on whatever a test has left behind.
//
// It is test support: only _test.go files import it.
package storetest

import (
	"context"
	"testing"

	"github.com/passmuster/muster/store"
)

// Open makes an empty, migrated engine that is closed when the test ends.
type Open func(t testing.TB) store.Engine

// Run is the conformance suite.
func Run(t *testing.T, open Open) {
	for _, suite := range []struct {
		name string
		run  func(*testing.T, Open)
	}{
		{"versions", versions},
		{"certificates", certificates},
		{"upstreams", upstreams},
		{"issuers", issuers},
		{"status", status},
		{"registrations", registrations},
		{"lists", lists},
		{"texts", texts},
		{"hub devices", hubDevices},
		{"hub identities", hubIdentities},
		{"hub checks", hubChecks},
		{"profiles", profiles},
		{"plans", plans},
		{"horizon", horizon},
		{"facts", facts},
		{"ordinary facts", ordinary},
		{"transactions", transactions},
		{"one-time codes", codes},
		{"TPMs", tpms},
		{"campaigns", campaigns},
		{"lineage", lineage},
		{"states", states},
		{"check", checks},
		{"lint", lints},
		{"ledger log", ledgerLog},
		{"subscriptions", subscriptions},
		{"slots", slots},
		{"rolls", rolls},
		{"keys", keys},
		{"retained requests", retained},
		{"incidents", incidents},
		{"retirements", retirements},
		{"tripwires", tripwires},
	} {
		t.Run(suite.name, func(t *testing.T) { suite.run(t, open) })
	}
}

// Check fails the test with every invariant that does not hold in db, and with every
// rule that a certificate in it breaks (see [testkit.Lint]).
func Check(t testing.TB, db *store.DB) {
	t.Helper()
	violations, err := store.Check(context.Background(), db)
	if err != nil {
		t.Fatalf("checking the store: %v", err)
	}
	for _, v := range violations {
		t.Errorf("invariant broken: %s", v)
	}
	broken, err := lint(context.Background(), db)
	if err != nil {
		t.Fatalf("linting certificates: %v", err)
	}
	for _, b := range broken {
		t.Errorf("certificate breaks a rule: %s", b)
	}
}

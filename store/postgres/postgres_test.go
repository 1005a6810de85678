package postgres_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testpg"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/postgres"
	"github.com/passmuster/muster/store/storetest"
)

// openDSN opens a schema and migrates it.
func openDSN(t testing.TB, dsn string) *postgres.Engine {
	t.Helper()
	e, err := postgres.Open(t.Context(), dsn, postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := e.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return e
}

// emptied opens one schema for a whole suite, whose tests run one after another, and
// empties it for each: migrating a schema takes as long as twenty of these tests.
func emptied(t *testing.T) storetest.Open {
	dsn := testpg.DSN(t)
	e := openDSN(t, dsn)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	// Without triggers and foreign keys, which would refuse it.
	empty := "BEGIN; SET LOCAL session_replication_role = replica; "
	for table := range strings.FieldsSeq("meta issuers crl_shards certificates ledger crls ocsp_responders issuer_requests cross_certificates intents " +
		"trust_anchors entries entry_credentials enrollment_codes chains profile_versions recent_requests " +
		"chain_links registrations twins hubs hub_devices hub_links hub_identities hub_checks hub_drifts hub_entries profiles disallowances incidents incident_devices retirements quarantines tripwires seen_keys tokens " +
		"rolls retained_csrs rotation_plans campaign_devices campaigns subscriptions tpm_challenges tpm_devices endorsement_keys") {
		empty += "DELETE FROM " + table + "; "
	}
	empty += "ALTER SEQUENCE certificates_position_seq RESTART; ALTER SEQUENCE ledger_seq_seq RESTART; COMMIT"
	return func(t testing.TB) store.Engine {
		t.Helper()
		if _, err := conn.Exec(t.Context(), empty, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
		return e
	}
}

func text(s string) *store.Stmt { return &store.Stmt{Text: s, Numbered: s} }

func TestConformance(t *testing.T) { storetest.Run(t, emptied(t)) }

func TestARegistrationCostsTwoTrips(t *testing.T) { storetest.Budget(t, emptied(t), 2) }

func TestAScopeIsASchema(t *testing.T) {
	a, b := store.New(openDSN(t, testpg.DSN(t))), store.New(openDSN(t, testpg.DSN(t)))
	for want, db := range map[string]*store.DB{"scope-a": a, "scope-b": b} {
		if got, err := db.IDScope(t.Context(), want); err != nil || got != want {
			t.Errorf("scope %q, %v, want %q", got, err, want)
		}
	}
}

func TestASettingThatLosesCommitsIsRefused(t *testing.T) {
	for _, setting := range []string{"off", "local", "remote_write"} {
		dsn := testpg.DSN(t)
		separator := " "
		if strings.Contains(dsn, "://") {
			separator = "&"
		}
		e, err := postgres.Open(t.Context(), dsn+separator+"synchronous_commit="+setting, postgres.Options{})
		if err == nil {
			e.Close()
			t.Errorf("synchronous_commit=%s was accepted", setting)
		} else if !strings.Contains(err.Error(), "synchronous_commit") {
			t.Errorf("synchronous_commit=%s: %v", setting, err)
		}
	}
}

func TestMigrationsGoForwardOnlyAndOneProcessAtATime(t *testing.T) {
	dsn := testpg.DSN(t)
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			e, err := postgres.Open(t.Context(), dsn, postgres.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			defer e.Close()
			if err := e.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
			if pending, err := e.PendingMigrations(t.Context()); err != nil || len(pending) != 0 {
				t.Errorf("pending afterwards: %v, %v", pending, err)
			}
		})
	}
	all.Wait()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)"); err != nil {
		t.Fatal(err)
	}
	e, err := postgres.Open(t.Context(), dsn, postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.Migrate(t.Context()); fault.RuleOf(err) != "schema-newer" {
		t.Errorf("a newer schema: %v", err)
	}
	if _, err := conn.Exec(t.Context(), "DELETE FROM goose_db_version WHERE version_id > 5"); err != nil {
		t.Fatal(err)
	}
	if err := e.Rows(t.Context(), nil); fault.RuleOf(err) != "schema-outdated" {
		t.Errorf("the rows of an older schema: %v", err)
	}
}

// Two Updates that take two rows in opposite order cannot both go on. The one that
// PostgreSQL ends is run again, and both succeed.
func TestADeadlockIsRunAgain(t *testing.T) {
	e := openDSN(t, testpg.DSN(t))
	update := func(f func(store.Conn) error) error {
		return e.Update(context.Background(), store.Devices, f)
	}
	err := update(func(c store.Conn) error {
		return c.Exec(text("INSERT INTO meta VALUES ('a', '0'), ('b', '0')"))
	})
	if err != nil {
		t.Fatal(err)
	}
	read := text("SELECT value FROM meta WHERE key = 'a'")
	ignore := func([]any) error { return nil }
	var both, meet sync.WaitGroup
	meet.Add(2)
	errs := make([]error, 2)
	for i, order := range [][2]string{{"a", "b"}, {"b", "a"}} {
		met := false
		both.Go(func() {
			errs[i] = update(func(c store.Conn) error {
				for n, key := range order {
					if err := c.Exec(text("UPDATE meta SET value = (value::int + 1)::text WHERE key = '" + key + "'")); err != nil {
						return err
					}
					if n == 0 {
						if err := c.Query(read, ignore); err != nil { // sends the write
							return err
						}
						if !met {
							met = true
							meet.Done()
							meet.Wait()
						}
					}
				}
				return nil
			})
		})
	}
	both.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if s := e.Stats(); s.Reruns == 0 {
		t.Errorf("nothing was run again: %+v", s)
	}
	sum := ""
	err = e.View(t.Context(), func(c store.Conn) error {
		return c.Query(text("SELECT string_agg(value, ',') FROM meta"), func(row []any) error { sum = row[0].(string); return nil })
	})
	if err != nil || sum != "2,2" {
		t.Errorf("counted %q, %v, want 2,2", sum, err)
	}
}

func TestAServerThatIsNotThereIsUnavailable(t *testing.T) {
	e := openDSN(t, testpg.DSN(t))
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := e.Update(t.Context(), store.Devices, func(store.Conn) error { return nil }); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Update: %v", err)
	}
	if err := e.View(t.Context(), func(store.Conn) error { return nil }); !fault.Is(err, fault.Unavailable) {
		t.Errorf("View: %v", err)
	}
}

package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/internal/testpg"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
)

// listener hears what an Update reads.
type listener struct {
	store.Engine
	heard func(s *store.Stmt)
}

func (l listener) Update(ctx context.Context, lane store.Lane, f func(store.Conn) error) error {
	return l.Engine.Update(ctx, lane, func(c store.Conn) error { return f(overheard{c, l.heard}) })
}

type overheard struct {
	store.Conn
	heard func(s *store.Stmt)
}

func (o overheard) Query(s *store.Stmt, each func([]any) error, args ...any) error {
	o.heard(s)
	return o.Conn.Query(s, each, args...)
}

// What is due is found by the index of what is due, in its order, among many registrations,
// and rows that another process has claimed are passed over.
func TestWhatIsDueIsFoundByItsIndex(t *testing.T) {
	dsn := testpg.DSN(t)
	e := openDSN(t, dsn)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	const cell = "'', 0, 0, 0, 0, 0, "
	now := testkit.Now().UnixMicro()
	if _, err := conn.Exec(t.Context(), fmt.Sprintf("INSERT INTO registrations SELECT 'dev-' || i, '', NULL, NULL, 'x509', 'unassigned', '', '', '', '', 0, '', NULL, 0, 0, 1, '', '', 0, "+
		cell+cell+"'', '', '', '', NULL, NULL, %d + i::bigint * 1000000 FROM generate_series(1, 20000) i", now)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "ANALYZE registrations"); err != nil {
		t.Fatal(err)
	}
	for name, read := range map[string]func(provisioning.Tx) error{
		"a claim": func(tx provisioning.Tx) error { _, err := tx.ClaimPairs(testkit.Now(), 64); return err },
		"a count": func(tx provisioning.Tx) error { _, err := tx.CountDue(testkit.Now(), 1); return err },
	} {
		var text string
		db := store.New(listener{e, func(s *store.Stmt) { text = s.Numbered }})
		if err := db.ProvisioningJobs().Update(t.Context(), read); err != nil {
			t.Fatal(err)
		}
		text = strings.NewReplacer("$1", fmt.Sprint(now+64_000_000), "$2", "64").Replace(text)
		rows, err := conn.Query(t.Context(), "EXPLAIN "+text)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(plan, "\n")
		found := got
		if name == "a claim" { // the page that was taken may be sorted, not what it is taken from
			_, found, _ = strings.Cut(got, "LockRows")
			if !strings.Contains(text, "SKIP LOCKED") {
				t.Errorf("a claim waits for others: %s", text)
			}
		}
		if !strings.Contains(found, "registrations_due") || strings.Contains(found, "Sort") || strings.Contains(got, "Seq Scan on registrations") {
			t.Errorf("%s:\n%s", name, got)
		}
	}
}

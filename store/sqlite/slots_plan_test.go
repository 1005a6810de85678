package sqlite_test

import (
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/verify"
)

// The sweep of entries looks every few seconds: where nothing is due it reads an index and no
// table, and the devices of an entry are found by their owner.
func TestTheSweepOfEntriesWalksNoLargeTable(t *testing.T) {
	e := open(t)
	id, err := verify.ParseRegistrationID("line-3")
	if err != nil {
		t.Fatal(err)
	}
	type heard struct {
		text string
		args []any
	}
	var statements []heard
	db := store.New(listener{e, func(s *store.Stmt, args []any) { statements = append(statements, heard{s.Text, args}) }})
	err = db.Provisioning().View(t.Context(), func(tx provisioning.Tx) error {
		if _, err := tx.DueEntries(testkit.Now(), 100); err != nil {
			return err
		}
		if _, err := tx.ClaimEntries(testkit.Now(), 100); err != nil {
			return err
		}
		for _, kind := range []provisioning.Kind{provisioning.Individual, provisioning.Group} {
			hang := provisioning.Hang{Owner: provisioning.Owner{Kind: kind, ID: id}, On: verify.Thumbprint{1}, But: verify.Thumbprint{2}}
			if _, err := tx.HangsAny(hang); err != nil {
				return err
			}
			if _, _, err := tx.HangCount(hang, time.Time{}); err != nil {
				return err
			}
			if _, err := tx.Hanging(hang, verify.RegistrationID{}, 10); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(statements) != 8 {
		t.Fatalf("%d statements were heard, want 8", len(statements))
	}
	for i, h := range statements {
		var plan []string
		err := e.View(t.Context(), func(c store.Conn) error {
			return c.Query(&store.Stmt{Text: "EXPLAIN QUERY PLAN " + h.text}, func(row []any) error {
				plan = append(plan, row[3].(string))
				return nil
			}, h.args...)
		})
		if err != nil {
			t.Fatal(err)
		}
		all := strings.Join(plan, "; ")
		want := "registrations_owner (owner_kind=? AND owner_id=?"
		if i < 2 {
			want = "entries_due (due_at<?)"
		}
		if !strings.Contains(all, want) || strings.Contains(all, "SCAN r") || strings.Contains(all, "SCAN entries") {
			t.Errorf("statement %d is planned as %s, want it by %s", i, all, want)
		}
	}
}

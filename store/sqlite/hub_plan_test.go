package sqlite_test

import (
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/verify"
)

// A hub may have a million devices: finding, listing and counting them goes by index, and
// no page is sorted.
func TestDevicesOfAHubAreFoundByIndex(t *testing.T) {
	e := open(t)
	id, err := verify.ParseRegistrationID("dev-1")
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
		_, _ = tx.HubRecord("a.example", id) // nothing is there
		if _, err := tx.HubRecords("a.example", id, 100); err != nil {
			return err
		}
		if _, _, err := tx.HubCount("a.example"); err != nil {
			return err
		}
		if _, _, err := tx.CountHubAhead("a.example"); err != nil {
			return err
		}
		_, err := tx.TakeHubIdentities("a.example", time.Now(), time.Now(), 32) // nothing is there to take
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range statements {
		err := e.View(t.Context(), func(c store.Conn) error {
			return c.Query(&store.Stmt{Text: "EXPLAIN QUERY PLAN " + h.text}, func(row []any) error {
				step := row[3].(string)
				if strings.Contains(step, "TEMP B-TREE") || strings.HasPrefix(step, "SCAN ") && !strings.Contains(step, "CONSTANT ROW") {
					t.Errorf("%s\nin %s", step, h.text)
				}
				return nil
			}, h.args...)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(statements) != 7 {
		t.Errorf("%d statements were heard, want 7", len(statements))
	}
}

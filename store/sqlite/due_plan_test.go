package sqlite_test

import (
	"context"
	"strings"
	"testing"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/verify"
)

// Update lets the listener hear an Update too.
func (l listener) Update(ctx context.Context, lane store.Lane, f func(store.Conn) error) error {
	return l.Engine.Update(ctx, lane, func(c store.Conn) error { return f(overheard{c, l.heard}) })
}

// What is due is found by the index of what is due, in its order, however many
// registrations there are; and what is done about one is found by its id.
func TestWhatIsDueIsFoundByItsIndex(t *testing.T) {
	e := open(t)
	id, err := verify.ParseRegistrationID("dev-1")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		read func(provisioning.Tx) error
		by   []string
	}{
		"a claim": {func(tx provisioning.Tx) error { _, err := tx.ClaimPairs(testkit.Now(), 64); return err },
			[]string{"registrations_due", "SEARCH e USING PRIMARY KEY (kind=? AND id=?)", "SEARCH w USING PRIMARY KEY (registration_id=?)"}},
		"a count":                  {func(tx provisioning.Tx) error { _, err := tx.CountDue(testkit.Now(), 1); return err }, []string{"COVERING INDEX registrations_due"}},
		"a page of all":            {func(tx provisioning.Tx) error { _, err := tx.Pairs("dev-1", 64); return err }, []string{"SEARCH r USING PRIMARY KEY (id>?)"}},
		"certificates of a device": {func(tx provisioning.Tx) error { _, err := tx.GoodCertificates(id, testkit.Now()); return err }, []string{"INDEX certificates_registration (registration_id=?)"}},
	} {
		var text string
		var args []any
		db := store.New(listener{e, func(s *store.Stmt, a []any) { text, args = s.Text, a }})
		if err := db.ProvisioningJobs().Update(t.Context(), c.read); err != nil {
			t.Fatal(err)
		}
		var plan []string
		err := e.View(t.Context(), func(conn store.Conn) error {
			return conn.Query(&store.Stmt{Text: "EXPLAIN QUERY PLAN " + text}, func(row []any) error {
				plan = append(plan, row[3].(string))
				return nil
			}, args...)
		})
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(plan, "\n")
		for _, by := range c.by {
			if !strings.Contains(got, by) {
				t.Errorf("%s: want %q in the plan\n%s", name, by, got)
			}
		}
		if strings.Contains(got, "TEMP B-TREE") || strings.Contains(got, "SCAN r\n") {
			t.Errorf("%s: it sorts or walks all\n%s", name, got)
		}
	}
}

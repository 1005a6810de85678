package sqlite_test

import (
	"strings"
	"testing"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/verify"
)

// A page costs the same at any depth: it is found by its key, in the order of the key.
func TestPagesAreFoundByTheirKey(t *testing.T) {
	e := open(t)
	after, err := verify.ParseRegistrationID("press-1")
	if err != nil {
		t.Fatal(err)
	}
	now := testkit.Now()
	group := provisioning.Owner{Kind: provisioning.Group, ID: after}
	for name, c := range map[string]struct {
		read func(provisioning.Tx) error
		by   string
	}{
		"enrollments": {func(tx provisioning.Tx) error {
			_, err := tx.Enrollments(provisioning.EnrollmentFilter{After: after, Limit: 100})
			return err
		}, "SEARCH entries USING PRIMARY KEY (kind=? AND id>?)"},
		"registrations": {func(tx provisioning.Tx) error {
			_, err := tx.Registrations(provisioning.RegistrationFilter{After: after, Limit: 100})
			return err
		}, "SEARCH registrations USING PRIMARY KEY (id>?)"},
		"registrations of a group": {func(tx provisioning.Tx) error {
			_, err := tx.Registrations(provisioning.RegistrationFilter{Owner: group, After: after, Limit: 100})
			return err
		}, "SEARCH registrations USING INDEX registrations_owner (owner_kind=? AND owner_id=? AND id>?)"},
		"registrations without an owner": {func(tx provisioning.Tx) error {
			_, err := tx.Registrations(provisioning.RegistrationFilter{Orphaned: true, After: after, Limit: 100})
			return err
		}, "SEARCH registrations USING INDEX registrations_owner (owner_kind=? AND owner_id=? AND id>?)"},
		"how many of them there are": {func(tx provisioning.Tx) error {
			_, err := tx.CountRegistrations(provisioning.RegistrationFilter{Orphaned: true})
			return err
		}, "SEARCH registrations USING INDEX registrations_owner (owner_kind=? AND owner_id=?)"},
		"registrations that are held": {func(tx provisioning.Tx) error {
			_, err := tx.Registrations(provisioning.RegistrationFilter{Held: true, After: after, Limit: 100})
			return err
		}, "SEARCH registrations USING INDEX registrations_held (id>?)"},
		"how many are held": {func(tx provisioning.Tx) error {
			_, err := tx.CountHeld()
			return err
		}, "SEARCH registrations USING INDEX registrations_held (id>?)"},
		"registrations that are due": {func(tx provisioning.Tx) error {
			_, err := tx.NextRegistrations(now, 100)
			return err
		}, "SEARCH registrations USING INDEX registrations_due (due_at"},
		"entries that are due": {func(tx provisioning.Tx) error {
			_, err := tx.NextEntries(now, 100)
			return err
		}, "SEARCH entries USING INDEX entries_due (due_at"},
		"how many are due": {func(tx provisioning.Tx) error {
			_, err := tx.CountAllDue(now, 100)
			return err
		}, "SEARCH registrations USING COVERING INDEX registrations_due (due_at"},
		"registrations for a survey": {func(tx provisioning.Tx) error {
			_, err := tx.SurveyedDevices(after, 100)
			return err
		}, "SEARCH r USING PRIMARY KEY (id>?)"},
		"devices stuck for a reason": {func(tx provisioning.Tx) error {
			_, err := tx.StuckDevices("renewal-late", after, 100)
			return err
		}, "SEARCH rolls USING INDEX rolls_stuck (stuck=? AND registration_id>?)"},
	} {
		var text string
		var args []any
		db := store.New(listener{e, func(s *store.Stmt, a []any) { text, args = s.Text, a }})
		if err := db.Provisioning().View(t.Context(), c.read); err != nil {
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
		if got := strings.Join(plan, "\n"); !strings.Contains(got, c.by) || strings.Contains(got, "SCAN entries") || strings.Contains(got, "SCAN registrations") {
			t.Errorf("%s: want %q in the plan\n%s", name, c.by, got)
		}
	}
}

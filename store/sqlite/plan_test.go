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

// listener hears every statement of a View.
type listener struct {
	store.Engine
	heard func(s *store.Stmt, args []any)
}

func (l listener) View(ctx context.Context, f func(store.Conn) error) error {
	return l.Engine.View(ctx, func(c store.Conn) error { return f(overheard{c, l.heard}) })
}

type overheard struct {
	store.Conn
	heard func(s *store.Stmt, args []any)
}

func (o overheard) Query(s *store.Stmt, each func([]any) error, args ...any) error {
	o.heard(s, args)
	return o.Conn.Query(s, each, args...)
}

// Facts stands in front of every registration: none of its questions may walk a table
// that grows with the fleet.
func TestFactsWalksNoLargeTable(t *testing.T) {
	e := open(t)
	c := testkit.Chain(t, "root > mid > dev-1").Leaf().Cert
	link := verify.NewLink(c)
	id, err := verify.ParseRegistrationID("dev-1")
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []provisioning.FactsQuery{
		{ID: id},
		{ID: id, SharedKey: true},
		{ID: id, Thumbs: []verify.Thumbprint{link.Thumbprint}, Keys: []verify.KeyHash{link.KeyHash}, Issuers: [][32]byte{verify.NameHash(c.RawIssuer)}},
		{ID: id, Thumbs: make([]verify.Thumbprint, 10), Keys: make([]verify.KeyHash, 11), Issuers: make([][32]byte, 10), Profiles: true},
	} {
		var text string
		var args []any
		db := store.New(listener{e, func(s *store.Stmt, a []any) { text, args = s.Text, a }})
		err := db.Provisioning().View(t.Context(), func(tx provisioning.Tx) error {
			_, err := tx.Facts(q)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		err = e.View(t.Context(), func(c store.Conn) error {
			return c.Query(&store.Stmt{Text: "EXPLAIN QUERY PLAN " + text}, func(row []any) error {
				step := row[3].(string)
				walks, table := strings.CutPrefix(step, "SCAN ")
				if table && largeTable(walks) {
					t.Errorf("with %d certificates: %s", len(q.Thumbs), step)
				}
				return nil
			}, args...)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// largeTable says whether a step of a plan walks all of something large. Tables go by
// their alias in the statement; the key groups are walked in an index of their own, and
// hubs and profiles are few.
func largeTable(step string) bool {
	name, rest, _ := strings.Cut(step, " ")
	if strings.Contains(rest, "entry_credentials_group_keys") {
		return false
	}
	switch name {
	case "registrations", "entries", "entry_credentials", "certificates", "chain_links", "trust_anchors", "disallowances", "a", "c", "l", "r":
		return true
	}
	return false
}

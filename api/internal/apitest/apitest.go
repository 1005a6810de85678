// Package apitest opens what stands behind a door, for the tests of doors: a real engine and
// authority on SQLite, and a log to read.
//
// It is test support: only _test.go files import it.
package apitest

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/keys"
	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/sqlite"
	"github.com/passmuster/muster/store/storetest"
)

// Scope is one id scope, empty but for a root and an issuing CA.
type Scope struct {
	Engine    *provisioning.Engine
	Authority *ca.Authority
	Issuing   ca.Issuer
	Jobs      provisioning.Store // as sweeps have it
	Close     func() error       // of the database, as often as one likes
}

// Open makes an id scope that is checked, unless the test has closed it, and closed when
// the test ends. Each edit changes the engine's
// configuration.
func Open(t testing.TB, idScope string, now func() time.Time, edits ...func(*provisioning.Config)) Scope {
	t.Helper()
	return OpenBehind(t, nil, idScope, now, edits...)
}

// OpenBehind is Open with authorities elsewhere that may be adopted.
func OpenBehind(t testing.TB, upstreams map[string]ca.Upstream, idScope string, now func() time.Time, edits ...func(*provisioning.Config)) Scope {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	database := must(sqlite.Open(ctx, filepath.Join(dir, "muster.db"), sqlite.Options{}))(t)
	var closed atomic.Bool
	s := Scope{Close: sync.OnceValue(func() error { closed.Store(true); return database.Close() })}
	check(t, database.Migrate(ctx))
	db := store.New(database)
	t.Cleanup(func() {
		if !closed.Load() {
			storetest.Check(t, db)
		}
		check(t, s.Close())
	})
	folder := must(keys.OpenFolder(filepath.Join(dir, "keys"), nil))(t)
	box := seal.NewBox(must(seal.CreateKEK(filepath.Join(dir, "kek.pem"), nil))(t))
	s.Authority = must(ca.New(ctx, db.CA(), folder, ca.Config{PKIURL: "http://pki.example", Upstreams: upstreams, StatusConfig: ca.StatusConfig{Box: box}}, now))(t)
	root := must(s.Authority.CreateRoot(ctx, "operator:test", ca.RootRequest{Name: "Example Root"}))(t)
	s.Issuing = must(s.Authority.CreateIssuing(ctx, "operator:test", root.ID, ca.IssuingRequest{Name: "Example Issuing"}))(t)
	config := provisioning.Config{
		IDScope: idScope, Store: db.Provisioning(), Authority: s.Authority, Box: box,
		Now: now, Log: slog.New(slog.DiscardHandler),
	}
	for _, edit := range edits {
		edit(&config)
	}
	s.Engine, s.Jobs = provisioning.New(config), db.ProvisioningJobs()
	return s
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		check(t, err)
		return v
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Lines is a log that tests read. The zero value is empty.
type Lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *Lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *Lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

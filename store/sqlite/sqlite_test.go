package sqlite_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/sqlite"
	"github.com/passmuster/muster/store/storetest"
)

// template is a migrated, empty database, made once: migrating takes longer than most
// tests do.
var template = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "muster-store")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "db.sqlite")
	e, err := sqlite.Open(context.Background(), path, sqlite.Options{})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(e.Migrate(context.Background()), e.Close()); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// open makes an empty, migrated database in a folder of its own.
func open(t testing.TB) store.Engine {
	t.Helper()
	empty, err := template()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "db.sqlite")
	if err := os.WriteFile(path, empty, 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func openAt(t testing.TB, path string) *sqlite.Engine {
	t.Helper()
	e, err := sqlite.Open(t.Context(), path, sqlite.Options{})
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

func TestConformance(t *testing.T) { storetest.Run(t, open) }

func TestARegistrationCostsFourStatements(t *testing.T) { storetest.Budget(t, open, 0) }

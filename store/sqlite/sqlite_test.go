package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/sqlite"
	"github.com/passmuster/muster/store/storetest"
)

// open makes an empty, migrated database in a folder of its own.
func open(t testing.TB) store.Engine {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "db.sqlite"))
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

package sqlite_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/sqlite"
	"github.com/passmuster/muster/store/storetest"
)

func TestTheFilesAreTheirOwnersAlone(t *testing.T) {
	dir := t.TempDir()
	openAt(t, filepath.Join(dir, "db.sqlite"))
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 3 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f.Name(), info.Mode())
		}
	}
}

func TestASecondWriterIsRefusedAndAReaderIsNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db.sqlite")
	db := store.New(openAt(t, path))
	if e, err := sqlite.Open(t.Context(), path, sqlite.Options{}); err == nil || !strings.Contains(err.Error(), "another process has it open") {
		if err == nil {
			e.Close()
		}
		t.Errorf("a second writer: %v", err)
	}
	hub := provisioning.Hub{Name: "a.example", Driver: "registry", Version: 1}
	err := db.Provisioning().Update(t.Context(), func(tx provisioning.Tx) error { return tx.InsertHub(hub) })
	if err != nil {
		t.Fatal(err)
	}
	e, err := sqlite.OpenReadOnly(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	beside := store.New(e)
	err = beside.Provisioning().View(t.Context(), func(tx provisioning.Tx) error {
		got, err := tx.Hub("a.example")
		if err == nil && got != hub {
			t.Errorf("read %+v", got)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	err = beside.Provisioning().Update(t.Context(), func(tx provisioning.Tx) error { return nil })
	if fault.RuleOf(err) != "read-only" {
		t.Errorf("writing beside it: %v", err)
	}
}

func TestAReaderOpensAFileNobodyWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db.sqlite")
	e, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := sqlite.OpenReadOnly(t.Context(), path); err == nil {
		r.Close()
		t.Error("a file without a schema was opened")
	}
	if err := e.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := sqlite.OpenReadOnly(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	storetest.Check(t, store.New(r))
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if r, err := sqlite.OpenReadOnly(t.Context(), filepath.Join(t.TempDir(), "none.sqlite")); err == nil {
		r.Close()
		t.Error("a file that is not there was opened")
	}
}

func TestMigrationsGoForwardOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db.sqlite")
	e, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	pending, err := e.PendingMigrations(t.Context())
	if err != nil || len(pending) == 0 || pending[0] != "00001_schema.sql" {
		t.Fatalf("pending in an empty file: %v, %v", pending, err)
	}
	for range 2 {
		if err := e.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if pending, err := e.PendingMigrations(t.Context()); err != nil || len(pending) != 0 {
			t.Fatalf("pending afterwards: %v, %v", pending, err)
		}
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)"); err != nil {
		t.Fatal(err)
	}
	if err := e.Migrate(t.Context()); fault.RuleOf(err) != "schema-newer" {
		t.Errorf("a newer schema: %v", err)
	}
}

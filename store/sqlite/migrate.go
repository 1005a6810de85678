package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"

	"github.com/passmuster/muster/store"
)

// Each file is one statement to goose, which otherwise looks for the end of one line by line,
// with a buffer of 4 MiB for each: under the race detector that was half of our tests.
//
//go:embed migrations/*.sql
var migrations embed.FS

// provider reads the embedded migrations; db is closed by its caller.
func provider(db *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithDisableGlobalRegistry(true))
}

// Migrate brings the schema up to date. A schema newer than this program is refused.
func (e *Engine) Migrate(ctx context.Context) (err error) {
	if _, err := e.PendingMigrations(ctx); err != nil {
		return err
	}
	db, err := pool(e.path, "rw")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	p, err := provider(db)
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrating database %s: %w", e.path, err)
	}
	return nil
}

// PendingMigrations names the migrations that Migrate would run, and runs none. A schema
// newer than this program is an error.
func (e *Engine) PendingMigrations(ctx context.Context) ([]string, error) {
	current, err := e.schemaVersion(ctx)
	if err != nil {
		return nil, err
	}
	return store.PendingMigrations(migrations, current)
}

// schemaVersion is the last migration that was run; 0 for an empty file.
func (e *Engine) schemaVersion(ctx context.Context) (version int64, err error) {
	err = e.View(ctx, func(c store.Conn) error {
		exists := false
		err := c.Query(&store.Stmt{Text: "SELECT 1 FROM sqlite_schema WHERE name = 'goose_db_version'"}, func([]any) error {
			exists = true
			return nil
		})
		if err != nil || !exists {
			return err
		}
		return c.Query(&store.Stmt{Text: "SELECT max(version_id) FROM goose_db_version WHERE is_applied = 1"}, func(row []any) error {
			version, _ = row[0].(int64)
			return nil
		})
	})
	return version, err
}

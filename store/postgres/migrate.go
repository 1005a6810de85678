package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/passmuster/muster/store"
)

// Each file is one statement to goose, which otherwise looks for the end of one line by line,
// with a buffer of 4 MiB for each: under the race detector that was half of our tests.
//
//go:embed migrations/*.sql
var migrations embed.FS

// Migrate brings the schema up to date, one process at a time. A schema newer than this
// program is refused.
func (e *Engine) Migrate(ctx context.Context) (err error) {
	if _, err := e.PendingMigrations(ctx); err != nil {
		return err
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(e.lock+1), lock.WithLockTimeout(1, 120))
	if err != nil {
		return err
	}
	db := stdlib.OpenDBFromPool(e.pool)
	defer func() { err = errors.Join(err, db.Close()) }()
	p, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithDisableGlobalRegistry(true), goose.WithSessionLocker(locker))
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrating the database: %w", err)
	}
	return nil
}

// PendingMigrations names the migrations that Migrate would run, and runs none. A schema
// newer than this program is an error.
func (e *Engine) PendingMigrations(ctx context.Context) ([]string, error) {
	var exists bool
	var current int64
	err := e.pool.QueryRow(ctx, "SELECT to_regclass(quote_ident(current_schema()) || '.goose_db_version') IS NOT NULL").Scan(&exists)
	if err == nil && exists {
		err = e.pool.QueryRow(ctx, "SELECT COALESCE(max(version_id), 0) FROM goose_db_version WHERE is_applied").Scan(&current)
	}
	if err != nil {
		return nil, store.ErrUnavailable(err)
	}
	return store.PendingMigrations(migrations, current)
}

package jobs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	_ "modernc.org/sqlite" // the driver of the file
)

// database is where River's tables are.
type database struct {
	sql  *sql.DB
	pool *pgxpool.Pool // nil on SQLite
}

// connections to PostgreSQL that a process holds at most, beside the store's and the one
// on which it listens.
const connections = 4

func openDatabase(ctx context.Context, c Config) (*database, error) {
	if c.DSN != "" {
		return openPostgres(ctx, c.DSN)
	}
	return openSQLite(c.File)
}

// openSQLite makes the file anew. What an earlier process left in it is a leader that
// would have to be outwaited, and jobs that nobody works any more.
func openSQLite(path string) (*database, error) {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return nil, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	settings := url.Values{
		"_pragma": {"journal_mode(WAL)", "synchronous(NORMAL)", "busy_timeout(5000)", "cache_size(-500)"}, "_time_format": {"sqlite"}, "_txlock": {"immediate"},
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+settings.Encode())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1) // River's own parts would lock each other out
	return &database{sql: db}, nil
}

func openPostgres(ctx context.Context, dsn string) (*database, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("reading the database's address: %w", err)
	}
	config.MaxConns = connections
	if named := config.ConnConfig.RuntimeParams; named["application_name"] == "" {
		named["application_name"] = "muster jobs"
	}
	config.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		// Nothing here is truth: a commit that is lost is a job more or less.
		_, err := c.Exec(ctx, "SET synchronous_commit = off; SET statement_timeout = '30s'")
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("opening database: %w", err)
	}
	return &database{stdlib.OpenDBFromPool(pool), pool}, nil
}

func (d *database) close() error {
	err := d.sql.Close()
	if d.pool != nil {
		d.pool.Close()
	}
	return err
}

func (d *database) client(c *river.Config) (client, error) {
	if d.pool != nil {
		return river.NewClient(riverpgxv5.New(d.pool), c)
	}
	return river.NewClient(bearing{riversqlite.New(d.sql)}, c)
}

// migrate brings River's tables and ours up to date, one process at a time.
func (d *database) migrate(ctx context.Context, log *slog.Logger) error {
	if d.pool == nil {
		return d.bringUp(ctx, log)
	}
	c, err := d.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("opening database: %w", err)
	}
	defer c.Release()
	var schema string
	if err := c.QueryRow(ctx, "SELECT current_schema()").Scan(&schema); err != nil {
		return err
	}
	h := fnv.New64a()
	h.Write([]byte("muster jobs " + schema))
	if _, err := c.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(h.Sum64())); err != nil {
		return err
	}
	err = d.bringUp(ctx, log)
	_, unlocking := c.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", int64(h.Sum64()))
	return errors.Join(err, unlocking)
}

func (d *database) bringUp(ctx context.Context, log *slog.Logger) (err error) {
	config := &rivermigrate.Config{Logger: log}
	if d.pool != nil {
		err = up(ctx, riverpgxv5.New(d.pool), config)
	} else {
		err = up(ctx, riversqlite.New(d.sql), config)
	}
	if err == nil {
		err = d.exec(ctx, createRuns)
	}
	if err != nil {
		return fmt.Errorf("migrating the jobs' tables: %w", err)
	}
	return nil
}

func up[T any](ctx context.Context, driver riverdriver.Driver[T], c *rivermigrate.Config) error {
	m, err := rivermigrate.New(driver, c)
	if err == nil {
		_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	}
	return err
}

// in is a statement in the database's own way to name arguments.
func (d *database) in(statement string) string {
	if d.pool != nil {
		return statement
	}
	return strings.ReplaceAll(statement, "$", "?")
}

func (d *database) exec(ctx context.Context, statement string, args ...any) error {
	_, err := d.sql.ExecContext(ctx, d.in(statement), args...)
	return err
}

// Package sqlite is the store's engine on one SQLite file.
//
// One goroutine owns the only connection that writes and commits the waiting Updates
// together (group commit, store design §3); four read-only connections answer Views.
// Every commit is synced before its callers are answered (WAL, synchronous=FULL,
// INV-S1). A second process may read the file, never write it: a lock file beside it
// says so.
//
// Called by cmd, which migrates before it serves.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/passmuster/muster/store"
)

// Options change how an engine is opened. The zero value is the usual one.
type Options struct {
	Observe func(store.Sample) // see store.Meter

	settings []string // more of the writer's; tests make a small disk of them
}

// Engine is an open SQLite file; see store.Engine.
type Engine struct {
	path    string
	meter   store.Meter
	lock    *os.File // nil when opened to read only
	writer  *writer  // nil when opened to read only
	readers *readers
	closing sync.Once
}

var _ store.Engine = (*Engine)(nil)

// writerSettings are those of store design §3. A larger page cache makes commits slower;
// a larger checkpoint interval is worth its 16 MiB of log.
var writerSettings = []string{
	"journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "busy_timeout(5000)",
	"cache_size(-4000)", "wal_autocheckpoint(4000)", "temp_store(2)",
}

var readerSettings = []string{"query_only(1)", "busy_timeout(5000)", "cache_size(-4000)", "temp_store(2)"}

// Open opens the file at path for this process alone, and makes it (mode 0600) when it
// is not there. It fails when another process has it open to write, or when the settings
// that make commits durable do not hold.
func Open(_ context.Context, path string, o Options) (*Engine, error) {
	lock, err := lockFile(path)
	if err != nil {
		return nil, err
	}
	e := &Engine{path: path, lock: lock}
	e.meter.Observe = o.Observe
	if err := e.open(o); err != nil {
		return nil, errors.Join(fmt.Errorf("opening database %s: %w", path, err), e.Close())
	}
	return e, nil
}

func (e *Engine) open(o Options) error {
	if err := create(e.path); err != nil {
		return err
	}
	var err error
	if e.writer, err = startWriter(dsn(e.path, "rw", slices.Concat(writerSettings, o.settings)), &e.meter); err != nil {
		return err
	}
	e.readers, err = openReaders(e.path)
	return err
}

// OpenReadOnly opens the file beside the process that writes it. Update is refused, and
// so is a file whose schema is not the one this program knows.
func OpenReadOnly(ctx context.Context, path string) (*Engine, error) {
	e := &Engine{path: path}
	var err error
	if e.readers, err = openReaders(path); err != nil {
		return nil, fmt.Errorf("opening database %s: %w", path, err)
	}
	pending, err := e.PendingMigrations(ctx)
	if err == nil && len(pending) > 0 {
		err = fmt.Errorf("its schema is older than this program: %s is missing", pending[0])
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening database %s: %w", path, err), e.Close())
	}
	return e, nil
}

// Close finishes the Updates that are waiting, writes the log back into the file and
// lets go of it. Calls after it are answered fault.Unavailable.
func (e *Engine) Close() (err error) {
	e.closing.Do(func() { err = e.close() })
	return err
}

func (e *Engine) close() error {
	var errs []error
	if e.readers != nil {
		errs = append(errs, e.readers.close())
	}
	if e.writer != nil {
		errs = append(errs, e.writer.close())
	}
	if e.lock != nil {
		errs = append(errs, e.lock.Close())
	}
	return errors.Join(errs...)
}

// TrustChanges is exact in the process that writes: the lock file sees to that.
func (e *Engine) TrustChanges() (uint64, bool) {
	if e.writer == nil {
		return 0, false
	}
	return e.writer.changes.Load(), true
}

// Stats are the counters since Open.
func (e *Engine) Stats() store.Stats { return e.meter.Stats() }

// create makes the file before SQLite does, which would ask the umask; its log and
// index files get the same mode.
func create(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// dsn names the file with settings.
func dsn(path, mode string, settings []string) string {
	q := url.Values{"mode": {mode}, "_pragma": settings}
	abs, err := filepath.Abs(path)
	if err != nil {
		abs = path
	}
	return "file:" + (&url.URL{Path: abs}).EscapedPath() + "?" + q.Encode()
}

// pool opens the file through database/sql, for migrations.
func pool(path, mode string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", dsn(path, mode, writerSettings))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// lockPath is where the lock of a database lies: DIR/db.lock for DIR/db.sqlite.
func lockPath(path string) string {
	return strings.TrimSuffix(path, filepath.Ext(path)) + ".lock"
}

// Snapshot writes a copy of the database at path, as of one moment, into a new file. It may
// be running in another process.
func Snapshot(ctx context.Context, path, into string) error {
	db, err := sql.Open("sqlite", dsn(path, "ro", []string{"busy_timeout(5000)"}))
	if err != nil {
		return err
	}
	if _, err = db.ExecContext(ctx, "VACUUM INTO ?", into); err != nil {
		err = fmt.Errorf("copying database %s: %w", path, err)
	}
	return errors.Join(err, db.Close())
}

// Package postgres is the store's engine on one PostgreSQL schema.
//
// A View of one read is one statement; others run in a read-only REPEATABLE READ
// transaction. An Update is two round trips at best (store design §5): BEGIN, the trust
// lock and the first read together; then the queued writes and COMMIT together. Updates
// take the trust lock shared and store.Trust takes it exclusively, so that commit order
// is the order of "contained" (INV-D1). synchronous_commit is on for every transaction
// (INV-S1).
//
// Called by cmd, which migrates before it serves. Several processes may share a schema.
package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"hash/maphash"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/passmuster/muster/store"
)

// Options change how an engine is opened. The zero value is the usual one.
type Options struct {
	Observe        func(store.Sample) // see store.Meter
	MaxConnections int                // 0: four for each processor (store design §5)
	LeadEvery      time.Duration      // between tries to lead, and looks whether it is still so; 0: 5 s
}

// Engine is an open schema; see store.Engine.
type Engine struct {
	pool  *pgxpool.Pool
	meter store.Meter
	lock  int64 // the trust lock's key: advisory locks are the database's, not the schema's
	seed  maphash.Seed

	leadEvery time.Duration
}

var _ store.Engine = (*Engine)(nil)

// statementTimeout bounds what a statement may wait or run; nothing here comes near it.
const statementTimeout = 30 * time.Second

// Open connects to the database that dsn names; its search_path is the schema used. It
// fails when synchronous_commit cannot be had.
func Open(ctx context.Context, dsn string, o Options) (*Engine, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("reading the database's address: %w", err)
	}
	config.MaxConns = int32(o.MaxConnections)
	if config.MaxConns <= 0 {
		config.MaxConns = int32(4 * runtime.NumCPU())
	}
	config.AfterConnect = prepare
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("opening database: %w", err)
	}
	e := &Engine{pool: pool, seed: maphash.MakeSeed(), leadEvery: cmp.Or(o.LeadEvery, 5*time.Second)}
	e.meter.Observe = o.Observe
	if err := e.identify(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("opening database: %w", err)
	}
	return e, nil
}

// prepare sets up a new connection and refuses one on which a commit could be lost
// (INV-S1): a server or a role may set synchronous_commit off for everybody.
func prepare(ctx context.Context, c *pgx.Conn) error {
	if _, err := c.Exec(ctx, fmt.Sprintf("SET statement_timeout = %d", statementTimeout.Milliseconds())); err != nil {
		return err
	}
	var commit string
	err := c.QueryRow(ctx, "SELECT current_setting('synchronous_commit')").Scan(&commit)
	if err != nil {
		return err
	}
	switch commit {
	case "on", "remote_apply":
		return nil
	}
	return fmt.Errorf("the setting synchronous_commit is %s, and must be on for commits to be safe", commit)
}

// identify makes the lock's key of the schema.
func (e *Engine) identify(ctx context.Context) error {
	var schema *string
	if err := e.pool.QueryRow(ctx, "SELECT current_schema()").Scan(&schema); err != nil {
		return err
	}
	if schema == nil {
		return errors.New("the schema named in search_path does not exist")
	}
	h := fnv.New64a()
	h.Write([]byte("muster trust " + *schema))
	e.lock = int64(h.Sum64())
	return nil
}

// Close waits for the transactions at work.
func (e *Engine) Close() error {
	e.pool.Close()
	return nil
}

// TrustChanges is not known here: other processes write too.
func (*Engine) TrustChanges() (uint64, bool) { return 0, false }

// Stats are the counters since Open.
func (e *Engine) Stats() store.Stats { return e.meter.Stats() }

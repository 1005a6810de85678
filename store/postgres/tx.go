package postgres

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/passmuster/muster/store"
)

// reruns bounds how often an Update that lost against another is run again.
const reruns = 8

// transactionTime bounds a transaction whose caller may be gone.
const transactionTime = time.Minute

// acquire waits for a connection as long as the caller does.
func (e *Engine) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	c, err := e.pool.Acquire(ctx)
	switch {
	case err == nil:
		return c, nil
	case ctx.Err() != nil:
		return nil, store.ErrCancelled(ctx)
	default:
		return nil, store.ErrUnavailable(err)
	}
}

// View runs f on one snapshot. The caller's context ends it.
func (e *Engine) View(ctx context.Context, f func(store.Conn) error) error {
	pg, err := e.acquire(ctx)
	if err != nil {
		return err
	}
	defer pg.Release()
	c := &conn{ctx: ctx, pg: pg.Conn(), seed: e.seed, opening: []request{{text: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"}}}
	err = call(c, f)
	e.meter.View()
	if len(c.queue) > 0 && err == nil {
		err = errors.New("internal error: a View writes")
	}
	if c.began {
		// The pool drops a connection that is still in a transaction, should this fail.
		_, end := c.pg.Exec(ctx, "ROLLBACK")
		if err == nil && end != nil {
			err = store.ErrUnavailable(end)
		}
	}
	if err != nil && ctx.Err() != nil {
		return store.ErrCancelled(ctx)
	}
	return err
}

// Update runs f and commits. The caller's context ends the wait for a connection; what
// has begun runs to its end, as a statement cut off would cost the connection.
func (e *Engine) Update(ctx context.Context, lane store.Lane, f func(store.Conn) error) error {
	queued := time.Now()
	pg, err := e.acquire(ctx)
	if err != nil {
		return err
	}
	defer pg.Release()
	inside, cancel := context.WithTimeout(context.WithoutCancel(ctx), transactionTime)
	defer cancel()
	s := store.Sample{Lane: lane, Batch: 1, Waited: time.Since(queued)}
	for again := range reruns + 1 {
		err = e.once(inside, pg, lane, f, again > 0, &s)
		if !errors.Is(err, errAgain) {
			break
		}
	}
	if errors.Is(err, errAgain) {
		err = store.ErrUnavailable(err)
	}
	s.Failed = err != nil
	e.meter.Sample(s)
	return err
}

// once is one attempt at an Update.
func (e *Engine) once(ctx context.Context, pg *pgxpool.Conn, lane store.Lane, f func(store.Conn) error, again bool, s *store.Sample) error {
	lock := "SELECT pg_advisory_xact_lock_shared($1)"
	if lane == store.Trust {
		lock = "SELECT pg_advisory_xact_lock($1)"
	}
	// The lock is a statement of its own: each statement has a new snapshot, and the first
	// read must see what was committed before the lock was had (store design §5).
	c := &conn{ctx: ctx, pg: pg.Conn(), seed: e.seed, opening: []request{
		{text: "BEGIN ISOLATION LEVEL READ COMMITTED"}, {text: lock, args: []any{e.lock}},
	}}
	began := time.Now()
	err := call(c, f)
	committing := time.Now()
	if err == nil && (c.began || len(c.queue) > 0) {
		err = c.send(nil, request{text: "COMMIT"})
		e.meter.Commit(err == nil)
	}
	if err != nil && c.began {
		_, _ = c.pg.Exec(ctx, "ROLLBACK") // the pool drops the connection should this fail
	}
	s.Ran, s.Committed = committing.Sub(began), time.Since(committing)
	e.meter.Function(c.count, again)
	for range c.trips {
		e.meter.Trip()
	}
	return err
}

// call runs f and turns a panic into an error for its caller alone.
func call(c *conn, f func(store.Conn) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = store.ErrPanic(p, debug.Stack())
		}
	}()
	return f(c)
}

package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/jackc/pgx/v5"
)

// leadLook is how long a connection may take to answer before it is taken for lost.
const leadLook = 4 * time.Second

// Lead runs f in one of the processes that share a schema, and no other, again and again
// until ctx ends. Its context ends when the connection that holds the office does. A
// connection may be lost to this process after the server gave the office away: f must
// bear a moment of two.
func (e *Engine) Lead(ctx context.Context, office string, f func(context.Context)) {
	for ctx.Err() == nil {
		_ = e.lead(ctx, office, f) // not elected, or cut off: tried again
		select {
		case <-ctx.Done():
		case <-time.After(e.leadEvery):
		}
	}
}

func (e *Engine) lead(ctx context.Context, office string, f func(context.Context)) error {
	// A connection of its own: one of the pool's would be missing there.
	c, err := pgx.ConnectConfig(ctx, e.pool.Config().ConnConfig)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }() // the server lets go of the lock by itself
	h := fnv.New64a()
	fmt.Fprintf(h, "muster %s %d", office, e.lock)
	var elected bool
	if err := c.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", int64(h.Sum64())).Scan(&elected); err != nil || !elected {
		return err
	}
	inside, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); f(inside) }()
	defer func() { stop(); <-done }()
	for {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(e.leadEvery):
		}
		look, cancel := context.WithTimeout(ctx, leadLook)
		err := c.Ping(look)
		cancel()
		if err != nil {
			return errors.Join(errors.New("the office was lost"), err)
		}
	}
}

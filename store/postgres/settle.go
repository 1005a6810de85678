package postgres

import (
	"context"
	"slices"
	"time"
)

// settlePause is between looks at who is still at work; an Update takes milliseconds.
const settlePause = 20 * time.Millisecond

// lockHolders are the transactions that hold the trust lock, shared or not: every Update
// does, from before its first statement to its end.
const lockHolders = "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 " +
	"AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) " +
	"AND classid = (($1::bigint >> 32) & 4294967295)::oid AND objid = ($1::bigint & 4294967295)::oid"

// Settle waits until the Updates that are running now, in any process, have ended. What
// they wrote is visible then, or never will be. It takes no lock, so nobody waits for it.
// Transaction ids would not do in its place: a sequence gives its number before the
// transaction has one, and a restored database begins them anew.
func (e *Engine) Settle(ctx context.Context) error {
	waiting, err := e.holders(ctx)
	for err == nil && len(waiting) > 0 {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(settlePause):
		}
		var now []string
		now, err = e.holders(ctx)
		waiting = slices.DeleteFunc(waiting, func(one string) bool { return !slices.Contains(now, one) })
	}
	return err
}

func (e *Engine) holders(ctx context.Context) ([]string, error) {
	rows, err := e.pool.Query(ctx, lockHolders, e.lock)
	if err != nil {
		return nil, err
	}
	var all []string
	for rows.Next() {
		var one string
		if err := rows.Scan(&one); err != nil {
			rows.Close()
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

package store

import (
	"context"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
)

// LedgerLog is the ledger, and the inventory beside it, as their log reads them: forwards,
// in pages, each a snapshot of its own.
type LedgerLog struct{ db *DB }

// Log is the store as package ctlog asks for it.
func (db *DB) Log() LedgerLog { return LedgerLog{db} }

// settler is an engine on which a row may become visible after one with a higher seq.
type settler interface {
	// Settle waits until the Updates that are running now have ended.
	Settle(ctx context.Context) error
}

var (
	lastSeq      = statement("SELECT COALESCE(max(seq), 0) FROM ledger")
	ledgerAfter  = statement("SELECT " + ledgerColumns + " FROM ledger WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?")
	lastPosition = statement("SELECT COALESCE(max(position), 0) FROM certificates")
	certsAfter   = statement("SELECT " + certificateColumns.list("") + ", der FROM certificates WHERE position > ? ORDER BY position LIMIT ?")
)

// Horizon is the highest seq up to which the ledger is settled: no row at or below it is
// still to come.
func (l LedgerLog) Horizon(ctx context.Context) (int64, error) {
	return l.settled(ctx, lastSeq)
}

// LastPosition is a position in the inventory up to which it is settled.
func (l LedgerLog) LastPosition(ctx context.Context) (int64, error) {
	return l.settled(ctx, lastPosition)
}

// settled reads a number given in order, and waits until all lower ones have been
// committed or never will be: a sequence gives them out before the commit.
func (l LedgerLog) settled(ctx context.Context, s *Stmt) (last int64, err error) {
	err = l.db.view(ctx, func(t *tx) error {
		last, err = one(t, s, notFound("row"), (*row).int)
		return err
	})
	if e, ok := l.db.engine.(settler); ok && err == nil {
		err = e.Settle(ctx)
	}
	return last, err
}

// Rows lists ledger rows with after < seq ≤ upTo by seq, at most limit.
func (l LedgerLog) Rows(ctx context.Context, after, upTo int64, limit int) (rows []audit.Entry, err error) {
	err = l.db.view(ctx, func(t *tx) error {
		rows, err = all(t, ledgerAfter, scanLedger, after, upTo, int64(limit))
		return err
	})
	return rows, err
}

// Certificates lists certificates with position > after, oldest first, at most limit.
func (l LedgerLog) Certificates(ctx context.Context, after int64, limit int) (certs []ca.Certificate, err error) {
	err = l.db.view(ctx, func(t *tx) error {
		certs, err = all(t, certsAfter, scanCertificateDER, after, int64(limit))
		return err
	})
	return certs, err
}

const logKey = "log-key"

// Key is the public key under which this ledger is logged. The first call gives it, with
// its ledger row; later ones return what was given.
func (l LedgerLog) Key(ctx context.Context, initial string, e audit.Event) (key string, err error) {
	err = l.db.update(ctx, Jobs, func(t *tx) error {
		if key, err = t.logKey(); !fault.Is(err, fault.NotFound) {
			return err
		}
		key = initial
		if err := t.exec(insertMeta, logKey, initial); err != nil {
			return err
		}
		return t.Append(e)
	})
	return key, err
}

// GivenKey is the key that Key gave; NotFound if it gave none yet.
func (l LedgerLog) GivenKey(ctx context.Context) (key string, err error) {
	err = l.db.view(ctx, func(t *tx) error {
		key, err = t.logKey()
		return err
	})
	return key, err
}

func (t *tx) logKey() (string, error) {
	return one(t, selectMeta, notFound("log-key"), func(r *row) string { return r.text() }, logKey)
}

// leader is an engine that several processes may share.
type leader interface {
	Lead(ctx context.Context, office string, f func(context.Context))
}

// Lead runs f in one of the processes that share the store, again and again until ctx
// ends; see postgres.Engine.Lead. On SQLite that is the process which has it open.
func (l LedgerLog) Lead(ctx context.Context, f func(context.Context)) {
	if e, ok := l.db.engine.(leader); ok {
		e.Lead(ctx, "log", f)
		return
	}
	f(ctx)
}

var countAfter = statement("SELECT count(*) FROM ledger WHERE seq > ?")

// Behind counts the rows after a seq.
func (l LedgerLog) Behind(ctx context.Context, after int64) (n int64, err error) {
	err = l.db.view(ctx, func(t *tx) error {
		n, err = one(t, countAfter, notFound("row"), (*row).int, after)
		return err
	})
	return n, err
}

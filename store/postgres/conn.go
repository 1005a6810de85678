package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/store"
)

// conn is one transaction. What is queued goes out with the next read, or with the
// commit; opening is what begins the transaction and goes out before anything else. It
// implements store.Conn.
type conn struct {
	ctx     context.Context // of the transaction, not of its caller
	pg      *pgx.Conn
	opening []request
	queue   []request
	began   bool
	// lone is the read that was answered without a transaction; see alone.
	lone  *loneRead
	seed  maphash.Seed
	count int // statements asked for
	trips int
}

// request is a statement on its way to the server. stmt is nil for the engine's own.
type request struct {
	text string
	args []any
	stmt *store.Stmt
}

// loneRead is a read outside a transaction, and what its answer was.
type loneRead struct {
	request
	sum uint64
}

// must makes a write that touched no row fail in the server, so that the COMMIT behind
// it in the same batch is not reached: dividing by no rows is an error.
func must(s *store.Stmt) string {
	if s.Missed == nil {
		return s.Numbered
	}
	return "WITH touched AS (" + s.Numbered + " RETURNING 1) SELECT 1 / count(*) FROM touched"
}

// Exec queues a write.
func (c *conn) Exec(s *store.Stmt, args ...any) error {
	c.count++
	if !storable(args) {
		return fault.New(fault.Malformed, "text", "A text with a NUL, or one that is no UTF-8, cannot be kept.")
	}
	c.queue = append(c.queue, request{must(s), args, s})
	return nil
}

// Query sends what waits and the read in one round trip. A read that asks for what cannot be
// there finds nothing, and is not sent: the server would refuse it.
func (c *conn) Query(s *store.Stmt, each func([]any) error, args ...any) error {
	c.count++
	if !storable(args) {
		return nil
	}
	read := request{s.Numbered, args, s}
	if s.Apart && !c.began && c.readOnly() {
		return c.exchange([]request{read}, each)
	}
	if c.lone == nil && !c.began && s.Alone && c.readOnly() {
		return c.alone(read, each)
	}
	if err := c.settle(); err != nil {
		return err
	}
	return c.send(each, read)
}

// storable says whether PostgreSQL can have each text: it has none with a NUL, and none
// that is no UTF-8. Strangers send both (INV-R2).
func storable(args []any) bool {
	return !slices.ContainsFunc(args, func(a any) bool {
		text, is := a.(string)
		return is && (strings.IndexByte(text, 0) >= 0 || !utf8.ValidString(text))
	})
}

// readOnly says that the transaction, once begun, is a View's: nothing locks.
func (c *conn) readOnly() bool { return len(c.opening) == 1 }

// alone answers a View's first read without a transaction: a statement is a snapshot of
// its own, and usually nothing follows.
func (c *conn) alone(read request, each func([]any) error) error {
	print := store.NewFingerprint(c.seed)
	c.lone = &loneRead{request: read}
	err := c.exchange([]request{read}, func(row []any) error {
		print.Add(row)
		return each(row)
	})
	c.lone.sum = print.Sum()
	return err
}

// settle makes a lone read part of the snapshot that begins now: it is asked again, and
// the View fails in the rare case that the answer has changed since.
func (c *conn) settle() error {
	if c.lone == nil || c.began {
		return nil
	}
	print := store.NewFingerprint(c.seed)
	err := c.send(func(row []any) error { print.Add(row); return nil }, c.lone.request)
	if err == nil && print.Sum() != c.lone.sum {
		err = fault.New(fault.Unavailable, "snapshot-moved", "The data changed while it was being read; try again.")
	}
	return err
}

// send is a round trip: what opens the transaction, what is queued, and last. The rows
// of the last statement go to each.
func (c *conn) send(each func([]any) error, last ...request) error {
	batch := append(append(c.opening, c.queue...), last...)
	c.opening, c.queue, c.began = nil, nil, true
	return c.exchange(batch, each)
}

func (c *conn) exchange(requests []request, each func([]any) error) (err error) {
	c.trips++
	var batch pgx.Batch
	for _, r := range requests {
		batch.Queue(r.text, r.args...)
	}
	results := c.pg.SendBatch(c.ctx, &batch)
	defer func() {
		if end := results.Close(); err == nil {
			err = refusal(nil, end)
		}
	}()
	for _, r := range requests[:len(requests)-1] {
		if _, err := results.Exec(); err != nil {
			return refusal(r.stmt, err)
		}
	}
	last := requests[len(requests)-1]
	rows, err := results.Query()
	if err != nil {
		return refusal(last.stmt, err)
	}
	defer rows.Close()
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return err
		}
		if each == nil {
			continue
		}
		if err := each(values); err != nil {
			return err
		}
	}
	return refusal(last.stmt, rows.Err())
}

// Errors of PostgreSQL that mean something here (its Appendix A).
const (
	foreignKeyViolation  = "23503"
	uniqueViolation      = "23505"
	divisionByZero       = "22012"
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
)

// errAgain says that the transaction lost against another and may be run again.
var errAgain = errors.New("the transaction lost against another")

// refusal is the fault that an error of statement s stands for.
func refusal(s *store.Stmt, err error) error {
	if err == nil {
		return nil
	}
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return store.ErrUnavailable(err) // the connection, not the statement
	}
	if e.Code == serializationFailure || e.Code == deadlockDetected {
		return fmt.Errorf("%w: %w", errAgain, err)
	}
	var f *fault.Error
	if s != nil {
		switch e.Code {
		case uniqueViolation:
			f = s.Unique
		case foreignKeyViolation:
			f = s.Foreign
		case divisionByZero:
			f = s.Missed
		}
	}
	switch {
	case f != nil:
		return f.Because(err)
	case unavailable(e.Code):
		return store.ErrUnavailable(err)
	case s != nil:
		return fmt.Errorf("%w in %q", err, s.Text)
	}
	return err
}

// unavailable knows the classes of errors that are nothing the caller did: connection,
// read-only transaction, resources, intervention, system.
func unavailable(code string) bool {
	switch code[:2] {
	case "08", "53", "57", "58":
		return true
	}
	return code == "25006"
}

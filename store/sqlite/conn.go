package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/store"
)

// conn is one connection with its prepared statements. It speaks to the driver itself:
// database/sql would add a lock, a conversion and a copy for every value. It is used by
// one goroutine at a time and implements store.Conn.
type conn struct {
	driver.Conn
	kept  map[*store.Stmt]prepared
	own   map[string]prepared // BEGIN, COMMIT and their like
	args  []driver.NamedValue
	count int   // statements run for the function at work
	wrote bool  // one of them may have written
	trust bool  // a statement since the last COMMIT was a change of trust
	lost  error // one of them failed so that the transaction may be gone
	// waiting says that a View's snapshot begins with the next read that is not apart.
	waiting bool
}

type prepared interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

func open(name string) (*conn, error) {
	c, err := new(sqlite.Driver).Open(name)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, kept: make(map[*store.Stmt]prepared), own: make(map[string]prepared)}, nil
}

func (c *conn) close() error {
	for _, s := range c.kept {
		_ = s.Close() // the connection goes too
	}
	for _, s := range c.own {
		_ = s.Close() // the connection goes too
	}
	return c.Conn.Close()
}

func (c *conn) prepare(text string) (prepared, error) {
	s, err := c.Conn.Prepare(text)
	if err != nil {
		return nil, fmt.Errorf("preparing %q: %w", text, err)
	}
	return s.(prepared), nil
}

// statement returns s prepared, and what to do with it afterwards.
func (c *conn) statement(s *store.Stmt) (p prepared, done func() error, err error) {
	if !s.Kept {
		p, err = c.prepare(s.Text)
		if err != nil {
			return nil, nil, err
		}
		return p, p.Close, nil
	}
	p, ok := c.kept[s]
	if !ok {
		if p, err = c.prepare(s.Text); err != nil {
			return nil, nil, err
		}
		c.kept[s] = p
	}
	return p, func() error { return nil }, nil
}

// run executes one of the connection's own statements.
func (c *conn) run(text string) error {
	p, ok := c.own[text]
	if !ok {
		var err error
		if p, err = c.prepare(text); err != nil {
			return err
		}
		c.own[text] = p
	}
	_, err := p.ExecContext(context.Background(), nil)
	return err
}

// bind fills the argument list, which is used again by the next statement.
func (c *conn) bind(args []any) []driver.NamedValue {
	c.args = c.args[:0]
	for i, a := range args {
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: a})
	}
	return c.args
}

// Query runs under no caller's context: an interrupted statement can take the whole
// transaction with it, and every statement here is short.
func (c *conn) Query(s *store.Stmt, each func([]any) error, args ...any) (err error) {
	c.count++
	if c.waiting && !s.Apart {
		if err := c.run("BEGIN"); err != nil {
			return broken(err)
		}
		c.waiting = false
	}
	p, done, err := c.statement(s)
	if err != nil {
		return err
	}
	defer func() { err = first(err, done()) }()
	rows, err := p.QueryContext(context.Background(), c.bind(args))
	if err != nil {
		return refusal(s, err)
	}
	defer func() { err = first(err, rows.Close()) }()
	values := make([]driver.Value, len(rows.Columns()))
	row := make([]any, len(values))
	for {
		switch err := rows.Next(values); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return refusal(s, err)
		}
		for i, v := range values {
			row[i] = v
		}
		if err := each(row); err != nil {
			return err
		}
	}
}

func (c *conn) Exec(s *store.Stmt, args ...any) (err error) {
	c.count++
	c.wrote, c.trust = true, c.trust || s.Trust
	p, done, err := c.statement(s)
	if err != nil {
		return err
	}
	defer func() { err = first(err, done()) }()
	result, err := p.ExecContext(context.Background(), c.bind(args))
	if err != nil {
		err = refusal(s, err)
		if fault.Is(err, fault.Unavailable) {
			c.lost = err
		}
		return err
	}
	if s.Missed == nil {
		return nil
	}
	n, err := result.RowsAffected()
	if err != nil {
		return err
	}
	if n == 0 {
		return s.Missed
	}
	return nil
}

// pragma reads one setting back.
func (c *conn) pragma(name string) (value any, err error) {
	err = c.Query(&store.Stmt{Text: "PRAGMA " + name}, func(row []any) error {
		value = row[0]
		return nil
	})
	return value, err
}

// durable refuses settings under which a commit could be lost (INV-S1).
func (c *conn) durable() error {
	for name, want := range map[string]any{"journal_mode": "wal", "synchronous": int64(2), "foreign_keys": int64(1)} {
		got, err := c.pragma(name)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("the setting %s is %v, and must be %v for commits to be safe", name, got, want)
		}
	}
	return nil
}

// writeBack brings the log into the file and empties it, so that the file alone is the
// whole store. Closing does that by itself only on a connection that has read the log,
// and the checkpoint waits for itself on one that has not.
func (c *conn) writeBack() error {
	return first(c.run("SELECT count(*) FROM sqlite_schema"), c.run("PRAGMA wal_checkpoint(TRUNCATE)"))
}

// refusal is the fault that an error of statement s stands for.
func refusal(s *store.Stmt, err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	var f *fault.Error
	switch e.Code() {
	case lib.SQLITE_CONSTRAINT_UNIQUE, lib.SQLITE_CONSTRAINT_PRIMARYKEY, lib.SQLITE_CONSTRAINT_ROWID:
		f = s.Unique
	case lib.SQLITE_CONSTRAINT_FOREIGNKEY:
		f = s.Foreign
	}
	if f == nil {
		return broken(fmt.Errorf("%w in %q", err, s.Text))
	}
	return f.Because(err)
}

// broken marks an error of the file, the disk or the memory: nothing the caller did.
func broken(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case lib.SQLITE_FULL, lib.SQLITE_IOERR, lib.SQLITE_NOMEM, lib.SQLITE_BUSY, lib.SQLITE_LOCKED, lib.SQLITE_READONLY,
		lib.SQLITE_CANTOPEN, lib.SQLITE_CORRUPT, lib.SQLITE_PROTOCOL, lib.SQLITE_INTERRUPT, lib.SQLITE_NOTADB:
		return store.ErrUnavailable(err)
	}
	return err
}

// first is the error that came first: what follows from it says nothing new.
func first(err, next error) error {
	if err != nil {
		return err
	}
	return next
}

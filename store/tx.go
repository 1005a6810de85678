package store

import (
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

// tx is one transaction as every domain sees it.
type tx struct {
	conn Conn
	db   *DB
	// failed is the first statement's error. After it nothing more is run: PostgreSQL
	// has ended the transaction, and SQLite may have rolled all of it back, so that what
	// followed would be committed on its own.
	failed error
	// trust says that the epoch must move with this transaction.
	trust bool
	// seen is the registration read last: an update whose owner and hub are still those
	// leaves them and their indexes alone.
	seen place
}

var _ provisioning.Tx = (*tx)(nil)

func (t *tx) exec(s *Stmt, args ...any) error {
	if t.failed == nil {
		t.trust = t.trust || s.Trust
		t.failed = t.conn.Exec(s, args...)
	}
	return t.failed
}

func (t *tx) query(s *Stmt, each func(*row) error, args ...any) error {
	if t.failed == nil {
		var r row
		t.failed = t.conn.Query(s, func(values []any) error {
			r = row{values: values}
			if err := each(&r); err != nil {
				return err
			}
			return r.err
		}, args...)
	}
	return t.failed
}

// all reads every row of a statement.
func all[T any](t *tx, s *Stmt, scan func(*row) T, args ...any) ([]T, error) {
	var out []T
	err := t.query(s, func(r *row) error {
		out = append(out, scan(r))
		return nil
	}, args...)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// one reads the row of a statement, or answers absent.
func one[T any](t *tx, s *Stmt, absent *fault.Error, scan func(*row) T, args ...any) (T, error) {
	var out T
	found := false
	err := t.query(s, func(r *row) error {
		out, found = scan(r), true
		return nil
	}, args...)
	if err != nil {
		var zero T
		return zero, err
	}
	if !found {
		return out, absent
	}
	return out, nil
}

// notFound, exists and stale are the faults of the version rules.
func notFound(noun string) *fault.Error {
	return fault.New(fault.NotFound, noun+"-not-found", "There is no such %s.", noun)
}

func exists(noun string) *fault.Error {
	return fault.New(fault.Conflict, noun+"-exists", "There is such a %s already.", noun)
}

func stale(noun string) *fault.Error {
	return fault.New(fault.PreconditionFailed, noun+"-changed", "The %s was changed or deleted by somebody else; read it again.", noun)
}

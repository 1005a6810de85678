package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/jackc/pgx/v5"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/store"
)

// Rows gives the rows of every table of the schema as of one moment, with the names of its columns.
// It writes nothing and holds up nobody. Conflict, rule "schema-outdated", where
// migrations are to be run first.
func (e *Engine) Rows(ctx context.Context, each func(table string, columns []string, rows iter.Seq2[[]any, error]) error) error {
	pending, err := e.PendingMigrations(ctx)
	if err != nil {
		return err
	}
	if len(pending) > 0 {
		return fault.New(fault.Conflict, "schema-outdated", "the database is of an older program: start the server once, which migrates it")
	}
	return e.readOnly(ctx, func(tx pgx.Tx) error {
		found, err := tx.Query(ctx, "SELECT table_name::text FROM information_schema.tables WHERE table_schema = current_schema() AND table_type = 'BASE TABLE' AND table_name <> 'goose_db_version' ORDER BY 1")
		if err != nil {
			return err
		}
		tables, err := pgx.CollectRows(found, pgx.RowTo[string])
		if err != nil {
			return err
		}
		for _, table := range tables {
			if err := rowsOf(ctx, tx, table, each); err != nil {
				return fmt.Errorf("reading table %s: %w", table, err)
			}
		}
		return nil
	})
}

// readOnly is a transaction in which all is seen as of one moment, and which may take long.
func (e *Engine) readOnly(ctx context.Context, f func(pgx.Tx) error) error {
	tx, err := e.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return store.ErrUnavailable(err)
	}
	_, err = tx.Exec(ctx, "SET LOCAL statement_timeout = 0")
	if err == nil {
		err = f(tx)
	}
	return errors.Join(err, tx.Rollback(context.WithoutCancel(ctx)))
}

func rowsOf(ctx context.Context, tx pgx.Tx, table string, each func(string, []string, iter.Seq2[[]any, error]) error) error {
	rows, err := tx.Query(ctx, "SELECT * FROM "+pgx.Identifier{table}.Sanitize())
	if err != nil {
		return err
	}
	defer rows.Close()
	var columns []string
	for _, c := range rows.FieldDescriptions() {
		columns = append(columns, c.Name)
	}
	return each(table, columns, func(yield func([]any, error) bool) {
		for rows.Next() {
			if !yield(rows.Values()) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(nil, err)
		}
	})
}

package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"strings"
)

// Fill makes a new database at path, of the rows that another engine gives, table by table, as they
// are. Its schema is this program's.
func Fill(ctx context.Context, path string, tables func(ctx context.Context, each func(table string, columns []string, rows iter.Seq2[[]any, error]) error) error) (err error) {
	e, err := Open(ctx, path, Options{})
	if err != nil {
		return err
	}
	if err := errors.Join(e.Migrate(ctx), e.Close()); err != nil {
		return err
	}
	db, err := pool(path, "rw")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, "PRAGMA foreign_keys = OFF"); err != nil { // rows come in any order
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := fill(ctx, tx, tables); err != nil {
		return errors.Join(fmt.Errorf("filling database %s: %w", path, err), tx.Rollback())
	}
	return tx.Commit()
}

func fill(ctx context.Context, tx *sql.Tx, tables func(ctx context.Context, each func(table string, columns []string, rows iter.Seq2[[]any, error]) error) error) error {
	if err := empty(ctx, tx); err != nil {
		return err
	}
	err := tables(ctx, func(table string, columns []string, rows iter.Seq2[[]any, error]) error {
		return fillTable(ctx, tx, table, columns, rows)
	})
	if err != nil {
		return err
	}
	var table string
	switch err := tx.QueryRowContext(ctx, `SELECT "table" FROM pragma_foreign_key_check LIMIT 1`).Scan(&table); {
	case err == nil:
		return fmt.Errorf("a row of %s names another that is not there", table)
	case !errors.Is(err, sql.ErrNoRows):
		return err
	}
	return nil
}

func fillTable(ctx context.Context, tx *sql.Tx, table string, columns []string, rows iter.Seq2[[]any, error]) error {
	places := strings.TrimSuffix(strings.Repeat("?, ", len(columns)), ", ")
	into, err := tx.PrepareContext(ctx, "INSERT INTO "+quoted(table)+" ("+quoted(columns...)+") VALUES ("+places+")") //nolint:sqlclosecheck // it is closed: a range over a function hides that
	if err != nil {
		return err
	}
	defer into.Close()
	for values, err := range rows {
		if err != nil {
			return err
		}
		if _, err := into.ExecContext(ctx, values...); err != nil {
			return err
		}
	}
	return nil
}

// empty takes out what migrations put into a new database.
func empty(ctx context.Context, tx *sql.Tx) error {
	found, err := tx.QueryContext(ctx, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'goose_db_version'")
	if err != nil {
		return err
	}
	defer found.Close()
	var tables []string
	for found.Next() {
		var table string
		if err := found.Scan(&table); err != nil {
			return err
		}
		tables = append(tables, table)
	}
	if err := found.Err(); err != nil {
		return err
	}
	for _, table := range tables {
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+quoted(table)); err != nil {
			return err
		}
	}
	return nil
}

func quoted(names ...string) string { return `"` + strings.Join(names, `", "`) + `"` }

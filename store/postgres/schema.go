package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/pgdsn"
)

// CreateSchema makes an empty schema in the database that dsn names and returns the
// connection string whose search path it is. Conflict, rule "schema-exists", when there is
// one already.
func CreateSchema(ctx context.Context, dsn, schema string) (string, error) {
	exists := false
	err := once(ctx, dsn, func(c *pgx.Conn) error {
		if err := c.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", schema).Scan(&exists); err != nil || exists {
			return err
		}
		_, err := c.Exec(ctx, "CREATE SCHEMA "+pgx.Identifier{schema}.Sanitize())
		return err
	})
	if err == nil && exists {
		err = fault.New(fault.Conflict, "schema-exists", "the database has a schema %s already", schema)
	}
	return pgdsn.Within(dsn, schema), err
}

// DropSchema removes the schema that is the search path of dsn, with everything in it.
func DropSchema(ctx context.Context, dsn string) error {
	return once(ctx, dsn, func(c *pgx.Conn) error {
		schema := c.Config().RuntimeParams["search_path"]
		if schema == "" {
			return fault.New(fault.Internal, "no-search-path", "the connection string names no schema")
		}
		_, err := c.Exec(ctx, "DROP SCHEMA "+pgx.Identifier{schema}.Sanitize()+" CASCADE")
		return err
	})
}

func once(ctx context.Context, dsn string, f func(*pgx.Conn) error) error {
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connecting to the database: %w", err)
	}
	defer c.Close(context.WithoutCancel(ctx))
	return f(c)
}

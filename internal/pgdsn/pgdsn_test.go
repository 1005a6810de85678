package pgdsn_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/passmuster/muster/internal/pgdsn"
)

func TestTheSearchPathJoinsAnyFormOfDSN(t *testing.T) {
	for name, dsn := range map[string]string{
		"a URL":                      "postgres://muster@127.0.0.1:5432/postgres",
		"a URL with a socket folder": "postgres://muster@/postgres?host=/tmp/x",
		"a URL with a search path":   "postgres://muster@/postgres?host=/tmp/x&search_path=public",
		"key=value":                  "host=127.0.0.1 user=muster dbname=postgres",
	} {
		t.Run(name, func(t *testing.T) {
			config, err := pgx.ParseConfig(pgdsn.Within(dsn, "test_a"))
			if err != nil {
				t.Fatal(err)
			}
			if got := config.RuntimeParams["search_path"]; got != "test_a" {
				t.Errorf("search_path = %q", got)
			}
			if config.User != "muster" || config.Database != "postgres" {
				t.Errorf("user %q, database %q", config.User, config.Database)
			}
		})
	}
}

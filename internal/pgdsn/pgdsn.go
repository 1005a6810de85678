// Package pgdsn says in a PostgreSQL connection string which schema is meant.
//
// It is called by store/postgres, for tenants that have a schema each, and by internal/testpg.
package pgdsn

import "net/url"

// Within sets the search path of a connection string to one schema. It takes both forms that
// PostgreSQL knows: a URL, and key=value.
func Within(dsn, schema string) string {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme == "" {
		return dsn + " search_path=" + schema
	}
	q := u.Query()
	q.Set("search_path", schema)
	u.RawQuery = q.Encode()
	return u.String()
}

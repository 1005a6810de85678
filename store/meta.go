package store

import (
	"context"

	"github.com/passmuster/muster/internal/fault"
)

var (
	selectMeta = statement("SELECT value FROM meta WHERE key = ?")
	insertMeta = statement("INSERT INTO meta (key, value) VALUES (?, ?)").unique(exists("meta"))
)

// IDScope is the name of the tenant whose database this is (architecture §7). The
// first call gives it, to be kept for good; later ones ignore initial.
func (db *DB) IDScope(ctx context.Context, initial string) (string, error) {
	const key = "id-scope"
	scope := ""
	err := db.update(ctx, Jobs, func(t *tx) (err error) {
		scope, err = one(t, selectMeta, notFound("meta"), func(r *row) string { return r.text() }, key)
		if fault.Is(err, fault.NotFound) {
			scope = initial
			err = t.exec(insertMeta, key, initial)
		}
		return err
	})
	return scope, err
}

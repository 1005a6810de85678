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
	scope := ""
	err := db.update(ctx, Jobs, func(t *tx) (err error) {
		if scope, err = t.idScope(); fault.Is(err, fault.NotFound) {
			scope = initial
			err = t.exec(insertMeta, idScopeKey, initial)
		}
		return err
	})
	return scope, err
}

// GivenIDScope is the name that IDScope gave; NotFound if it gave none yet.
func (db *DB) GivenIDScope(ctx context.Context) (scope string, err error) {
	err = db.view(ctx, func(t *tx) error {
		scope, err = t.idScope()
		return err
	})
	return scope, err
}

const idScopeKey = "id-scope"

func (t *tx) idScope() (string, error) {
	return one(t, selectMeta, notFound("meta"), func(r *row) string { return r.text() }, idScopeKey)
}

package store

import (
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/passmuster/muster/internal/fault"
)

// PendingMigrations names the files in migrations/ that a schema at version current has
// not run, in order. Files are named NUMBER_WORD.sql. A current that none of them has
// reached is of a newer program, which this one must not write beside: migrations only
// go forward.
func PendingMigrations(files fs.FS, current int64) ([]string, error) {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var pending []string
	var latest int64
	for _, name := range names {
		number, _, _ := strings.Cut(path.Base(name), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("migration %s has no number: %w", name, err)
		}
		latest = max(latest, version)
		if version > current {
			pending = append(pending, path.Base(name))
		}
	}
	if current > latest {
		return nil, fault.New(fault.Conflict, "schema-newer",
			"The database has schema version %d, and this program knows %d: it was written by a newer one.", current, latest)
	}
	return pending, nil
}

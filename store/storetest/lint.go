package storetest

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/sqlite"
)

// LintFolder fails the test with every rule that a certificate breaks in the SQLite
// databases below a folder whose server has ended. A test of that server defers it.
func LintFolder(t testing.TB, folder string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && (d.IsDir() || filepath.Base(path) != "muster.db") {
			return nil
		}
		if err != nil {
			return err
		}
		return lintFile(t, path)
	})
	if err != nil {
		t.Errorf("linting the certificates below %s: %v", folder, err)
	}
}

func lintFile(t testing.TB, path string) error {
	t.Helper()
	database, err := sqlite.OpenReadOnly(context.Background(), path)
	if err != nil {
		return err
	}
	broken, err := lint(context.Background(), store.New(database))
	for _, b := range broken {
		t.Errorf("%s: certificate breaks a rule: %s", path, b)
	}
	return errors.Join(err, database.Close())
}

// lint names every rule that a certificate in db breaks, its issuers' and those issued.
// Where an issuer's own certificate does not parse, a test has made up its row and all
// below it; those of others' CAs are not ours to answer for.
func lint(ctx context.Context, db *store.DB) (broken []string, err error) {
	err = db.Provisioning().View(ctx, func(tx provisioning.Tx) error {
		broken = nil
		issuers, err := tx.Issuers()
		if err != nil {
			return err
		}
		for _, i := range issuers {
			if _, err := x509.ParseCertificate(i.Certificate); err != nil || i.Role == ca.RoleExternal {
				continue
			}
			for _, b := range testkit.Lint(i.Certificate) {
				broken = append(broken, fmt.Sprintf("issuer %s: %s", i.Name, b))
			}
			if err := eachIssued(tx, i.ID, func(c ca.Certificate) {
				for _, b := range testkit.Lint(c.DER) {
					broken = append(broken, fmt.Sprintf("certificate %s/%s of %s: %s", c.Issuer, c.Serial, c.RegistrationID, b))
				}
			}); err != nil {
				return err
			}
		}
		return nil
	})
	return broken, err
}

// eachIssued goes through the certificates of an issuer, newest first.
func eachIssued(tx provisioning.Tx, by ca.IssuerID, f func(ca.Certificate)) error {
	const page = 500
	filter := provisioning.CertificateFilter{Issuer: by, Limit: page}
	for {
		list, err := tx.Certificates(filter)
		if err != nil {
			return err
		}
		for _, c := range list {
			f(c)
		}
		if len(list) < page {
			return nil
		}
		filter.Before = list[len(list)-1].Position
	}
}

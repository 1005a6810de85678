package years_test

import (
	"context"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/keys"
	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/sqlite"
	"github.com/passmuster/muster/verify"
)

const (
	scope    = "0neYEARS"
	operator = "operator:ann"
	hubName  = "hub.example.net"
	line     = "line"
)

// world is one installation. All that lasts is in dir; the rest is what a process holds.
type world struct {
	*testing.T
	dir string

	file      *sqlite.Engine
	db        *store.DB
	authority *ca.Authority
	engine    *provisioning.Engine
	box       *seal.Box
}

func newWorld(t *testing.T) *world {
	w := &world{T: t, dir: t.TempDir()}
	kek, err := seal.CreateKEK(filepath.Join(w.dir, "kek.pem"), nil)
	w.must(err)
	w.box = seal.NewBox(kek)
	t.Cleanup(func() { // goroutines in a bubble end within it
		if w.file != nil {
			w.must(w.file.Close())
		}
	})
	w.open()
	root, err := w.authority.CreateRoot(w.ctx(), operator, ca.RootRequest{Name: "Root"})
	w.must(err)
	_, err = w.authority.CreateIssuing(w.ctx(), operator, root.ID, ca.IssuingRequest{Name: "Issuing 1"})
	w.must(err)
	profile := policies.DefaultProfile()
	profile.Renewal.Grace = 30 * day
	_, err = w.engine.PutProfile(w.ctx(), operator, profile, provisioning.Precondition{})
	w.must(err)
	_, err = w.engine.PutHub(w.ctx(), operator, provisioning.Hub{Name: hubName, Driver: provisioning.BuiltIn, Weight: 1}, provisioning.Precondition{})
	w.must(err)
	return w
}

func (w *world) ctx() context.Context { return context.Background() }

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatalf("on %s: %v", today(), err)
	}
}

func today() string { return time.Now().UTC().Format(time.DateOnly) }

// open is the start of a process on what is in the folder.
func (w *world) open() {
	w.Helper()
	var err error
	w.file, err = sqlite.Open(w.ctx(), filepath.Join(w.dir, "muster.db"), sqlite.Options{})
	w.must(err)
	w.must(w.file.Migrate(w.ctx()))
	w.db = store.New(w.file)
	folder, err := keys.OpenFolder(filepath.Join(w.dir, "keys"), nil)
	w.must(err)
	w.authority, err = ca.New(w.ctx(), w.db.CA(), folder, ca.Config{PKIURL: "http://pki.example.net", StatusConfig: ca.StatusConfig{Box: w.box}}, time.Now)
	w.must(err)
	w.engine = provisioning.New(provisioning.Config{
		IDScope: scope, Store: w.db.Provisioning(), Authority: w.authority, Box: w.box, Now: time.Now, Log: slog.New(slog.DiscardHandler), Ledger: w.db.Log(),
	})
}

// crash leaves the files as a process does that is killed now: the write-ahead log is as it
// is, and nothing of what was in memory is written down.
func (w *world) crash() {
	w.Helper()
	for _, name := range []string{"muster.db", "muster.db-wal"} {
		data, err := os.ReadFile(filepath.Join(w.dir, name))
		w.must(err)
		w.must(os.WriteFile(filepath.Join(w.dir, "image-"+name), data, 0o600))
	}
	w.must(w.file.Close())
	w.must(os.Remove(filepath.Join(w.dir, "muster.db")))
	for _, name := range []string{"muster.db-wal", "muster.db-shm"} {
		if err := os.Remove(filepath.Join(w.dir, name)); err != nil && !os.IsNotExist(err) {
			w.must(err)
		}
	}
	for _, name := range []string{"muster.db", "muster.db-wal"} {
		w.must(os.Rename(filepath.Join(w.dir, "image-"+name), filepath.Join(w.dir, name)))
	}
	w.open()
}

// sweep does what the jobs of a server do. A process that is killed gets no further than
// ctx lets it.
func (w *world) sweep(ctx context.Context) error {
	jobs := w.db.ProvisioningJobs()
	for _, s := range []func(context.Context, provisioning.Store) (bool, error){w.engine.SweepRegistrations, w.engine.SweepEntries} {
		for more := true; more; {
			var err error
			if more, err = s(ctx, jobs); err != nil {
				return err
			}
		}
	}
	if err := w.authority.SweepIssuers(ctx); err != nil {
		return err
	}
	return w.authority.SweepStatus(ctx)
}

// anchor lets a CA vouch for others: it proves possession of its key.
func (w *world) anchor(e *testkit.Entity) {
	w.Helper()
	name := e.Cert.Subject.CommonName
	_, err := w.engine.UploadAnchor(w.ctx(), operator, name, e.PEM(), false, provisioning.Precondition{})
	w.must(err)
	a, err := w.engine.NewVerificationCode(w.ctx(), operator, name, provisioning.Precondition{})
	w.must(err)
	_, err = w.engine.ProveAnchor(w.ctx(), operator, name, e.Prove(w, a.Record().Code, dates()).Raw, provisioning.Precondition{})
	w.must(err)
}

// dates are those of the factory's certificates: longer than anybody here lives.
func dates() testkit.Option {
	return testkit.WithDates(time.Now().Add(-time.Hour), time.Now().AddDate(25, 0, 0))
}

func (w *world) id(s string) verify.RegistrationID {
	w.Helper()
	id, err := verify.ParseRegistrationID(s)
	w.must(err)
	return id
}

// showing is an attempt of a device that shows certificates.
func (w *world) showing(name string, certs ...*x509.Certificate) provisioning.Attempt {
	w.Helper()
	chain, err := verify.ReadChain(certs)
	w.must(err)
	return provisioning.Attempt{ID: w.id(name), Spelled: name, Evidence: provisioning.Evidence{Chain: chain}, Door: "years"}
}

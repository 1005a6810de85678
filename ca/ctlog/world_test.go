package ctlog_test

import (
	"crypto/ed25519"
	"database/sql"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/ctlog"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/sqlite"
	"github.com/passmuster/muster/verify"
)

const origin = "muster.test/log/0ne00000001"

// world is a real database with a ledger, an inventory, and the log of them.
type world struct {
	*testing.T
	dir    string // of the log
	path   string // of the database
	engine *sqlite.Engine
	db     *store.DB
	key    ctlog.Key
	seq    *ctlog.Sequencer
	now    time.Time
	issued int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{T: t, dir: filepath.Join(dir, "log"), path: filepath.Join(dir, "muster.db"), now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}
	w.engine = must(sqlite.Open(t.Context(), w.path, sqlite.Options{}))
	t.Cleanup(func() { _ = w.engine.Close() })
	w.check(w.engine.Migrate(t.Context()))
	w.db = store.New(w.engine)
	w.key = must(ctlog.NewKey(origin, ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))))
	w.seq = w.sequencer()
	w.update(func(tx ca.Tx) error {
		return tx.InsertIssuer(ca.Issuer{ID: "0123456789abcdef", Name: "T", Role: ca.RoleIssuing, State: ca.IssuerActive, Parent: "0123456789abcdef", KeyURI: "softkms:t.pem", Certificate: []byte("x"), Created: w.now})
	})
	return w
}

func (w *world) sequencer() *ctlog.Sequencer {
	return ctlog.NewSequencer(w.dir, w.key, w.db.Log(), func() time.Time { return w.now })
}

func (w *world) log() *ctlog.Log { return ctlog.OpenLog(w.dir, w.key.Public()) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) update(f func(ca.Tx) error) {
	w.Helper()
	w.check(w.db.CA().Update(w.Context(), f))
}

// issue puts n certificates with their rows on record, as ca.Record does.
func (w *world) issue(n int) {
	w.Helper()
	for n > 0 {
		now := min(n, 200)
		w.update(func(tx ca.Tx) error {
			for i := range now {
				c := w.certificate(w.issued + i)
				if err := tx.InsertCertificate(c); err != nil {
					return err
				}
				if err := tx.Append(told(c)); err != nil {
					return err
				}
			}
			return nil
		})
		w.issued, n = w.issued+now, n-now
	}
}

func (w *world) certificate(i int) ca.Certificate {
	der := fmt.Appendf(nil, "certificate %d", i)
	return ca.Certificate{
		Issuer: "0123456789abcdef", Serial: ca.Serial(hex.EncodeToString(fmt.Appendf(nil, "serial%010d", i))), Thumbprint: verify.ThumbprintOf(der), DER: der,
		RegistrationID: must(verify.ParseRegistrationID(fmt.Sprintf("dev-%d", i))), NotBefore: w.now, NotAfter: w.now.Add(time.Hour), Issued: w.now,
	}
}

func told(c ca.Certificate) audit.Event {
	return audit.Event{At: c.Issued, Actor: "device:" + c.RegistrationID.String(), Action: audit.Issued, Subject: "registration:" + c.RegistrationID.String(), Body: audit.Body(map[string]any{
		"issuer": string(c.Issuer), "serial": string(c.Serial), "sha256": c.Thumbprint.String(),
	})}
}

// step runs the sequencer until nothing waits.
func (w *world) step() {
	w.Helper()
	for more := true; more; {
		var err error
		more, err = w.seq.Step(w.Context())
		w.check(err)
	}
}

func (w *world) verify(kept *ctlog.Checkpoint) ctlog.Report {
	w.Helper()
	v := ctlog.NewVerifier(w.key.Public(), kept)
	for at := (ctlog.Cursor{}); !at.Done; {
		page, next, err := ctlog.Page(w.Context(), w.db.Log(), w.log(), at)
		w.check(err)
		if next == at {
			w.Fatal("the evidence does not go on")
		}
		for _, e := range page {
			v.Add(e)
		}
		at = next
	}
	return v.Report()
}

// byHand changes the database as its administrator can: with the triggers off.
func (w *world) byHand(statement string, args ...any) {
	w.Helper()
	db := must(sql.Open("sqlite", w.path+"?_pragma=busy_timeout(5000)"))
	defer db.Close()
	for _, trigger := range []string{"ledger_is_append_only", "ledger_keeps_rows", "certificates_keep_rows", "certificates_are_fixed"} {
		_ = must(db.Exec("DROP TRIGGER IF EXISTS " + trigger))
	}
	if n, err := must(db.Exec(statement, args...)).RowsAffected(); err != nil || n == 0 {
		w.Fatalf("%s changed %d rows, %v", statement, n, err)
	}
}

func (w *world) file(name string) string { return filepath.Join(w.dir, filepath.FromSlash(name)) }

func (w *world) edit(name string, change func([]byte) []byte) {
	w.Helper()
	w.check(os.WriteFile(w.file(name), change(must(os.ReadFile(w.file(name)))), 0o600))
}

// Command log measures the log of the ledger: how long a million issuings take to get
// their leaves, and how long muster audit verify takes to compare them all.
//
// It fills a store with certificates of the usual size and their ledger rows through the
// store's own statements, has a sequencer make the log, and runs the binary.
//
// Called by scripts/bench.sh.
package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/ctlog"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/sqlite"
	"github.com/passmuster/muster/verify"
)

func main() {
	muster := flag.String("muster", "", "the muster binary")
	rows := flag.Int("rows", 1_000_000, "certificates, each with its ledger row")
	flag.Parse()
	if err := run(context.Background(), *muster, *rows); err != nil {
		fmt.Fprintln(os.Stderr, "log:", err)
		os.Exit(1)
	}
}

const (
	goal   = 60 * time.Second // for a million leaves
	issuer = ca.IssuerID("0123456789abcdef")
	size   = 700 // bytes of a certificate
	page   = 250 // an Update has at most 500 writes
)

func run(ctx context.Context, muster string, n int) (err error) {
	if muster == "" || n < 1 {
		return errors.New("-muster is needed, and one row at least")
	}
	dir, err := os.MkdirTemp("", "muster-log-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	engine, err := sqlite.Open(ctx, filepath.Join(dir, "muster.db"), sqlite.Options{})
	if err != nil {
		return err
	}
	took, err := log(ctx, engine, dir, n)
	if err = errors.Join(err, engine.Close()); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, muster, "audit", "verify", "--local", "--data", dir)
	began := time.Now()
	out, err := cmd.CombinedOutput()
	verified := time.Since(began)
	if err != nil {
		return fmt.Errorf("audit verify: %w: %s", err, out)
	}
	limit := time.Duration(float64(goal) * max(1, float64(n)/1e6))
	met := "met"
	if verified > limit {
		met = "MISSED"
	}
	usage, _ := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	fmt.Printf("The log of %d issuings\n\n", n)
	fmt.Printf("  leaves made          %6.1f s  %.0f a second\n", took.Seconds(), float64(n)/took.Seconds())
	fmt.Printf("  audit verify         %6.1f s  ≤ %.0f  %s\n", verified.Seconds(), limit.Seconds(), met)
	fmt.Printf("  its memory at most   %6d MiB\n", usage.Maxrss>>10)
	return nil
}

// log fills the store and makes the log of it, as a server does that has been behind.
func log(ctx context.Context, engine *sqlite.Engine, dir string, n int) (time.Duration, error) {
	if err := engine.Migrate(ctx); err != nil {
		return 0, err
	}
	db := store.New(engine)
	if err := fill(ctx, db, n); err != nil {
		return 0, fmt.Errorf("filling: %w", err)
	}
	_, signer, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return 0, err
	}
	key, err := ctlog.NewKey("bench.invalid/log", signer)
	if err != nil {
		return 0, err
	}
	if _, err := db.Log().Key(ctx, key.Public(), audit.Event{At: time.Now(), Actor: "job:log", Action: audit.LogStarted, Subject: "log:bench", Body: []byte("{}")}); err != nil {
		return 0, err
	}
	began := time.Now()
	s := ctlog.NewSequencer(filepath.Join(dir, "log", "ledger"), key, db.Log(), time.Now)
	defer s.Close()
	for more := true; more && err == nil; {
		more, err = s.Step(ctx)
	}
	return time.Since(began), err
}

func fill(ctx context.Context, db *store.DB, n int) error {
	now := time.Now()
	err := db.CAJobs().Update(ctx, func(tx ca.Tx) error {
		return tx.InsertIssuer(ca.Issuer{ID: issuer, Name: "bench", Role: ca.RoleIssuing, State: ca.IssuerActive, Parent: issuer, KeyURI: "softkms:none.pem", Certificate: []byte("bench"), Created: now})
	})
	for from := 0; from < n && err == nil; from += page {
		err = db.CAJobs().Update(ctx, func(tx ca.Tx) error {
			for i := from; i < min(from+page, n); i++ {
				c, err := certificate(i, now)
				if err != nil {
					return err
				}
				if err := tx.InsertCertificate(c); err != nil {
					return err
				}
				if err := tx.Append(told(c)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return err
}

func certificate(i int, now time.Time) (ca.Certificate, error) {
	id, err := verify.ParseRegistrationID(fmt.Sprintf("device-%07d", i))
	der := append(make([]byte, size), fmt.Sprint(i)...)
	return ca.Certificate{
		Issuer: issuer, Serial: ca.Serial(hex.EncodeToString(fmt.Appendf(nil, "%016d", i))), Thumbprint: verify.ThumbprintOf(der), DER: der,
		RegistrationID: id, NotBefore: now, NotAfter: now.Add(90 * 24 * time.Hour), Issued: now,
	}, err
}

// told is the row of an issuing as a registration writes it.
func told(c ca.Certificate) audit.Event {
	id := c.RegistrationID.String()
	return audit.Event{At: c.Issued, Actor: "device:" + id, Action: audit.Issued, Subject: "registration:" + id, Body: audit.Body(map[string]any{
		"operation": "5.0123456789abcdef.01234567-89ab-cdef-0123-456789abcdef", "entry": "group line-3", "state": "assigned", "door": "dps", "mechanism": "x509", "hub": "local",
		"issuer": string(c.Issuer), "serial": string(c.Serial), "sha256": c.Thumbprint.String(), "notAfter": c.NotAfter.Format(time.RFC3339),
	})}
}

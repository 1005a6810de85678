package main

import (
	"context"
	"crypto/x509"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/keys"
	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/sqlite"
)

// What the server itself shows renews by itself: its TLS certificate, the OCSP answer that is
// stapled to it, the responder that signs that, and the issuing CA, which ends twice meanwhile.
func TestTheServerShowsNothingThatHasEnded(t *testing.T) {
	kek, err := seal.CreateKEK(filepath.Join(t.TempDir(), "kek.pem"), nil)
	if err != nil {
		t.Fatal(err)
	}
	// The goroutine that waits for signals is the process's: it must not be of the bubble.
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	signal.Stop(c)
	database, folders := filepath.Join(t.TempDir(), "muster.db"), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		w := openRenewals(t, ctx, database, folders, seal.NewBox(kek))
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.server.keep(ctx, slog.New(slog.DiscardHandler))
		}()
		w.server.staple(ctx, slog.New(slog.DiscardHandler))
		certificates, responders, issuers := map[string]bool{}, map[string]bool{}, map[string]bool{}
		for range 200 * 4 {
			w.tend(t, ctx)
			shown := w.server.current.Load()
			now := time.Now()
			leaf, issuer := shown.Leaf, w.parse(t, shown.Certificate[1])
			if left := leaf.NotAfter.Sub(now); left < 9*24*time.Hour || left > leaf.NotAfter.Sub(leaf.NotBefore) {
				t.Fatalf("at %s the server shows a certificate good until %s", now, leaf.NotAfter)
			}
			if now.After(issuer.NotAfter) || leaf.NotAfter.After(issuer.NotAfter) || leaf.CheckSignatureFrom(issuer) != nil {
				t.Fatalf("at %s its issuer is good until %s", now, issuer.NotAfter)
			}
			answer, err := ocsp.ParseResponseForCert(shown.OCSPStaple, leaf, issuer)
			if err != nil || answer.Status != ocsp.Good || now.After(answer.NextUpdate) || answer.Certificate == nil || now.After(answer.Certificate.NotAfter.Add(-time.Hour)) {
				t.Fatalf("at %s the stapled answer: %+v, %v", now, answer, err)
			}
			certificates[leaf.SerialNumber.String()], responders[answer.Certificate.SerialNumber.String()], issuers[issuer.Subject.CommonName] = true, true, true
			time.Sleep(6 * time.Hour)
			synctest.Wait()
		}
		if len(certificates) < 9 || len(responders) < 40 || len(issuers) < 3 {
			t.Errorf("in 200 days %d certificates, %d responders, %d issuing CAs", len(certificates), len(responders), len(issuers))
		}
		stop()
		<-done
		if err := w.file.Close(); err != nil {
			t.Error(err)
		}
	})
}

type renewals struct {
	file      *sqlite.Engine
	authority *ca.Authority
	server    *serverCertificate
}

func openRenewals(t *testing.T, ctx context.Context, database, folders string, box *seal.Box) *renewals {
	t.Helper()
	w := &renewals{}
	var err error
	must := func(e error) {
		t.Helper()
		if e != nil {
			t.Fatal(e)
		}
	}
	w.file, err = sqlite.Open(ctx, database, sqlite.Options{})
	must(err)
	must(w.file.Migrate(ctx))
	folder, err := keys.OpenFolder(folders, nil)
	must(err)
	w.authority, err = ca.New(ctx, store.New(w.file).CA(), folder, ca.Config{PKIURL: "http://pki.example.net", StatusConfig: ca.StatusConfig{Box: box}}, time.Now)
	must(err)
	root, err := w.authority.CreateRoot(ctx, actorHost, ca.RootRequest{Name: "Root"})
	must(err)
	_, err = w.authority.CreateIssuing(ctx, actorHost, root.ID, ca.IssuingRequest{Name: "Issuing", Lifetime: 120 * 24 * time.Hour})
	must(err)
	w.tend(t, ctx)
	w.server, err = newServerCertificate(ctx, tlsConfig{Names: []string{"muster.example.net"}}, w.authority)
	must(err)
	return w
}

// tend does what the sweeps do.
func (w *renewals) tend(t *testing.T, ctx context.Context) {
	t.Helper()
	plan := policies.RotationPlan{Role: policies.RollIssuers, Auto: true, Publish: 5 * 24 * time.Hour}
	lifetime := func(string) time.Duration { return serverLifetime }
	if _, err := w.authority.SweepIssuerRoll(ctx, ca.Schedule{Plans: []policies.RotationPlan{plan}, Lifetime: lifetime}); err != nil {
		t.Fatal(err)
	}
	if err := w.authority.SweepIssuers(ctx); err != nil {
		t.Fatal(err)
	}
	if err := w.authority.SweepStatus(ctx); err != nil {
		t.Fatal(err)
	}
}

func (w *renewals) parse(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

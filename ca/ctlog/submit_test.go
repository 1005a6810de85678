package ctlog_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	ct "github.com/google/certificate-transparency-go"
	"github.com/google/certificate-transparency-go/ctutil"
	"github.com/google/certificate-transparency-go/tls"
	ctx509 "github.com/google/certificate-transparency-go/x509"
	ctx509util "github.com/google/certificate-transparency-go/x509util"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/ctlog"
	"github.com/passmuster/muster/internal/fault"
)

var _ ca.SCTSource = (*ctlog.Submitter)(nil)

// authority is an issuer whose certificates a log takes, and what it signs.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  crypto.Signer
	next int64
}

func newAuthority(t testing.TB) *authority {
	a := &authority{t: t, key: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), next: 1}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key))))
	return a
}

// precert signs the next precertificate, and gives its chain.
func (a *authority) precert() [][]byte {
	a.next++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.next), Subject: pkix.Name{CommonName: "dev"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 3}, Critical: true, Value: asn1.NullBytes}},
	}
	return [][]byte{must(x509.CreateCertificate(rand.Reader, template, a.cert, a.key.Public(), a.key)), a.cert.Raw}
}

// ctLog is a log of an authority's certificates that runs until the test ends.
func (a *authority) ctLog(dir string) *ctlog.CT {
	a.t.Helper()
	l := a.closedLog(dir, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
	a.run(l)
	return l
}

func (a *authority) closedLog(dir string, key crypto.Signer) *ctlog.CT {
	return must(ctlog.NewCT(dir, "test.invalid/ct", key, func(der []byte) ([][]byte, bool) {
		return [][]byte{a.cert.Raw}, bytes.Equal(der, a.cert.Raw)
	}, time.Now))
}

func (a *authority) run(l *ctlog.CT) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { l.Run(ctx, slog.New(slog.NewTextHandler(io.Discard, nil))) })
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	a.t.Cleanup(stop)
	for {
		// It takes submissions once it runs; one that is there already costs nothing.
		if _, err := l.Add(a.t.Context(), a.precert(), true); fault.RuleOf(err) != "log-not-here" {
			return stop
		}
	}
}

// elsewhere serves a log over HTTP, as a client of RFC 6962 finds one.
func elsewhere(t *testing.T, l *ctlog.CT) ctlog.External {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Chain [][]byte }
		err := json.NewDecoder(r.Body).Decode(&body)
		var answer []byte
		if err == nil {
			answer, err = l.Add(r.Context(), body.Chain, true)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = w.Write(answer)
	}))
	t.Cleanup(s.Close)
	return ctlog.External{URL: s.URL, PublicKey: l.Public(), Client: s.Client()}
}

func parsed(t *testing.T, chain [][]byte) (all []*ctx509.Certificate) {
	for _, der := range chain {
		c, err := ctx509.ParseCertificate(der)
		if ctx509.IsFatal(err) {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

func TestPrecertificatesGoToEveryLog(t *testing.T) {
	a := newAuthority(t)
	own, other := a.ctLog(t.TempDir()), a.ctLog(t.TempDir())
	forger := a.ctLog(t.TempDir())
	lying := elsewhere(t, forger)
	lying.PublicKey = other.Public()
	foreign := newAuthority(t).ctLog(t.TempDir()) // takes no certificates of ours

	tests := map[string]struct {
		own      *ctlog.CT
		external []ctlog.External
		scts     int
		failing  bool
	}{
		"the own log":                           {own, nil, 1, false},
		"a log elsewhere":                       {nil, []ctlog.External{elsewhere(t, other)}, 1, false},
		"both":                                  {own, []ctlog.External{elsewhere(t, other)}, 2, false},
		"one whose SCT another key signed":      {own, []ctlog.External{lying}, 1, true},
		"one that does not take our root":       {own, []ctlog.External{elsewhere(t, foreign)}, 1, true},
		"the own one before this process leads": {a.closedLog(t.TempDir(), must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))), nil, 0, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			chain := a.sharedPrecert()
			required := must(ctlog.NewSubmitter(tt.own, true, tt.external...))
			list, err := required.AddPreChain(t.Context(), chain)
			if tt.failing != (fault.RuleOf(err) == "sct-unavailable") || (err != nil && !tt.failing) {
				t.Fatalf("required: %v", err)
			}
			if tt.failing {
				optional := must(ctlog.NewSubmitter(tt.own, false, tt.external...))
				if list, err = optional.AddPreChain(t.Context(), chain); err != nil {
					t.Fatal(err)
				}
			}
			if tt.scts == 0 {
				if list != nil {
					t.Fatal("a list of nothing")
				}
				return
			}
			var got ctx509.SignedCertificateTimestampList
			if _, err := tls.Unmarshal(list, &got); err != nil || len(got.SCTList) != tt.scts {
				t.Fatalf("%d SCTs, %v", len(got.SCTList), err)
			}
			for _, raw := range got.SCTList {
				sct := must(ctx509util.ExtractSCT(&raw))
				verified := false
				for _, l := range []*ctlog.CT{own, other} {
					verified = verified || ctutil.VerifySCT(must(x509.ParsePKIXPublicKey(l.Public())), parsed(t, chain), sct, false) == nil
				}
				if !verified {
					t.Error("an SCT that no log of these signed")
				}
			}
		})
	}
}

var precertLock sync.Mutex

func (a *authority) sharedPrecert() [][]byte {
	precertLock.Lock()
	defer precertLock.Unlock()
	return a.precert()
}

func TestALogThatDoesNotAnswerIsNotWaitedForLong(t *testing.T) {
	a := newAuthority(t)
	gone := ctlog.External{URL: "http://127.0.0.1:1", PublicKey: a.ctLog(t.TempDir()).Public(), Client: http.DefaultClient}
	s := must(ctlog.NewSubmitter(nil, true, gone))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.AddPreChain(ctx, a.precert()); fault.RuleOf(err) != "sct-unavailable" {
		t.Fatal(err)
	}
}

func TestTheCTLogGoesOnAfterAnyStop(t *testing.T) {
	a := newAuthority(t)
	dir := filepath.Join(t.TempDir(), "ct")
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	seen := map[string]bool{}
	for range 4 {
		l := a.closedLog(dir, key)
		stop := a.run(l)
		var asking sync.WaitGroup
		answers := make([]ct.AddChainResponse, 90)
		for i := range answers {
			chain := a.precert()
			asking.Go(func() {
				text, err := l.Add(t.Context(), chain, true)
				if err == nil {
					err = json.Unmarshal(text, &answers[i])
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		asking.Wait()
		for _, answer := range answers {
			if seen[answer.Extensions] {
				t.Fatal("two entries have one place")
			}
			seen[answer.Extensions] = true
		}
		stop()
		if _, err := l.Add(t.Context(), a.precert(), true); fault.RuleOf(err) != "log-not-here" {
			t.Fatalf("after its end: %v", err)
		}
	}
	// A key that is not the log's own writes nothing.
	l := a.closedLog(dir, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
	before := must(os.ReadFile(filepath.Join(dir, "checkpoint")))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); l.Run(ctx, slog.New(slog.NewTextHandler(io.Discard, nil))) }()
	if _, err := l.Add(t.Context(), a.precert(), true); fault.RuleOf(err) != "log-not-here" {
		t.Fatalf("under another key: %v", err)
	}
	cancel()
	<-done
	if !bytes.Equal(before, must(os.ReadFile(filepath.Join(dir, "checkpoint")))) {
		t.Fatal("the log goes on under another key")
	}
}

func TestTheCTLogsTimeDoesNotGoBackOverAStop(t *testing.T) {
	a, dir, key := newAuthority(t), t.TempDir(), must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	at := func(clock time.Time) (stamp uint64) {
		l := must(ctlog.NewCT(dir, "test.invalid/ct", key, func([]byte) ([][]byte, bool) { return [][]byte{a.cert.Raw}, true }, func() time.Time { return clock }))
		defer a.run(l)()
		var answer ct.AddChainResponse
		if err := json.Unmarshal(must(l.Add(t.Context(), a.precert(), true)), &answer); err != nil {
			t.Fatal(err)
		}
		return answer.Timestamp
	}
	now := time.Now()
	if first, second := at(now), at(now.Add(-time.Hour)); second < first {
		t.Errorf("after an entry of %d one of %d (static-ct-api: no entry is later than the checkpoint)", first, second)
	}
}

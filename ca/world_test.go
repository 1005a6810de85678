package ca_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/keys"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// world is an authority with a clock that tests move by hand.
type world struct {
	*ca.Authority
	store *memStore
	keys  *keys.Folder
	now   time.Time
	box   *seal.Box // nil: without OCSP
	edit  func(*ca.Config)
}

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

const operator = "operator:ann"

func newWorld(t testing.TB) *world {
	t.Helper()
	folder, err := keys.OpenFolder(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{store: &memStore{}, keys: folder, now: noon}
	w.Authority = w.replica(t)
	t.Cleanup(func() { w.lint(t) })
	return w
}

// lint holds all that the world has issued to the rules that its shapes were held to.
func (w *world) lint(t testing.TB) {
	t.Helper()
	stored := w.store.read()
	for _, i := range stored.issuers {
		if _, err := x509.ParseCertificate(i.Certificate); err != nil {
			continue // damaged by the test
		}
		for _, broken := range testkit.Lint(i.Certificate) {
			t.Errorf("issuer %s breaks a rule: %s", i.Name, broken)
		}
	}
	for _, c := range stored.certificates {
		if len(c.DER) == 0 {
			continue // a row of a test's own, for the CRL alone
		}
		for _, broken := range testkit.Lint(c.DER) {
			t.Errorf("certificate of %s breaks a rule: %s", c.RegistrationID, broken)
		}
	}
}

// replica is another Authority on the same store and keys.
func (w *world) replica(t testing.TB) *ca.Authority {
	t.Helper()
	config := ca.Config{PKIURL: "http://pki.example/", StatusConfig: ca.StatusConfig{Box: w.box}}
	if w.edit != nil {
		w.edit(&config)
	}
	a, err := ca.New(t.Context(), w.store, w.keys, config, func() time.Time { return w.now })
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// newHierarchy is a world with a root and an issuing CA of one key type.
func newHierarchy(t testing.TB, kt policies.KeyType) (w *world, root, issuing ca.Issuer) {
	t.Helper()
	w = newWorld(t)
	root, err := w.CreateRoot(t.Context(), operator, ca.RootRequest{Name: "Test Root", KeyType: kt})
	if err != nil {
		t.Fatal(err)
	}
	issuing, err = w.CreateIssuing(t.Context(), operator, root.ID, ca.IssuingRequest{Name: "Test Issuing", KeyType: kt})
	if err != nil {
		t.Fatal(err)
	}
	return w, root, issuing
}

func (w *world) issue(t testing.TB, id string, key crypto.Signer, p policies.Profile) ca.Unrecorded {
	t.Helper()
	u, err := w.Issue(t.Context(), identity(t, id), request(t, id, key), p, verify.Thumbprint{}, w.now)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (w *world) record(ctx context.Context, u ca.Unrecorded) (c ca.Certificate, err error) {
	err = w.store.Update(ctx, func(tx ca.Tx) (err error) {
		c, err = ca.Record(tx, u, audit.Event{Actor: "device:d"})
		return err
	})
	return c, err
}

// enroll issues and records, and reads the certificate back.
func (w *world) enroll(t testing.TB, id string, key crypto.Signer, p policies.Profile) (ca.Certificate, *x509.Certificate) {
	t.Helper()
	c, err := w.record(t.Context(), w.issue(t, id, key, p))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(c.DER)
	if err != nil {
		t.Fatal(err)
	}
	return c, leaf
}

func (w *world) revoke(ctx context.Context, c ca.Certificate, r ca.Reason) error {
	return w.store.Update(ctx, func(tx ca.Tx) error {
		stored, err := tx.Certificate(c.Issuer, c.Serial)
		if err != nil {
			return err
		}
		_, err = ca.RevokeIn(tx, stored, r, audit.Event{Actor: operator}, w.now)
		return err
	})
}

func (w *world) sweep(t testing.TB) {
	t.Helper()
	if err := w.SweepCRLs(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (w *world) crl(t testing.TB, id ca.IssuerID) *x509.RevocationList {
	t.Helper()
	return w.shardCRL(t, id, w.newestShard(id))
}

// newestShard is where devices are; a root has but shard 0.
func (w *world) newestShard(id ca.IssuerID) int {
	s, _ := w.store.read().NewestShard(id)
	return s.Shard
}

func (w *world) shardCRL(t testing.TB, id ca.IssuerID, shard int) *x509.RevocationList {
	t.Helper()
	published, err := w.PublishedCRL(t.Context(), id, shard)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(published.DER)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := w.IssuerCertificate(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(issuer); err != nil {
		t.Fatal(err)
	}
	return list
}

func identity(t testing.TB, id string) verify.Identity {
	t.Helper()
	rid, err := verify.ParseRegistrationID(id)
	if err != nil {
		t.Fatal(err)
	}
	key := verify.NewSecret([]byte("0123456789abcdef0123456789abcdef"))
	who, err := verify.SharedKey(verify.KeyEvidence{ID: rid, Key: key}, key, noon)
	if err != nil {
		t.Fatal(err)
	}
	return who
}

func request(t testing.TB, cn string, key crypto.Signer) *x509.CertificateRequest {
	t.Helper()
	return requestFor(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}, key)
}

func requestFor(t testing.TB, template *x509.CertificateRequest, key crypto.Signer) *x509.CertificateRequest {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// deviceKey makes a key of a type; RSA keys are made once for all tests.
func deviceKey(t testing.TB, kt policies.KeyType) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kt {
	case policies.KeyECP256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case policies.KeyECP384:
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case policies.KeyECP521:
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case policies.KeyEd25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		key, err = rsa2048()
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var rsa2048 = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func allKeys() policies.Profile {
	p := policies.DefaultProfile()
	p.Keys = append(p.Keys, policies.KeyECP521, policies.KeyEd25519)
	return p
}

// lintClean runs the linter over a certificate as it was signed.
func lintClean(t testing.TB, der []byte) {
	t.Helper()
	registry, err := lint.GlobalRegistry().Filter(lint.FilterOptions{
		IncludeSources: lint.SourceList{lint.RFC5280, lint.RFC5480, lint.RFC3279, lint.RFC8813, lint.Community},
	})
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := zx509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	for name, result := range zlint.LintCertificateEx(certificate, registry).Results {
		if result.Status >= lint.Warn {
			t.Errorf("%s: %v: %v %s", certificate.Subject, name, result.Status, result.Details)
		}
	}
}

// opensslVerify asks OpenSSL, strictly by RFC 5280, whether the leaf is good at w.now,
// with the CRLs of the whole chain.
func (w *world) opensslVerify(t testing.TB, leaf ca.Certificate) (output string, good bool) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, ders ...[]byte) string {
		var text bytes.Buffer
		for _, der := range ders {
			if err := pem.Encode(&text, &pem.Block{Type: kind, Bytes: der}); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	chain := w.Chain(leaf.Issuer)
	var crls [][]byte
	var options []string
	for _, row := range w.store.read().shards {
		crl, err := w.PublishedCRL(t.Context(), row.Issuer, row.Shard)
		if err != nil {
			t.Fatal(err)
		}
		crls = append(crls, crl.DER)
		if delta, err := w.PublishedDelta(t.Context(), row.Issuer, row.Shard); err == nil {
			crls, options = append(crls, delta.DER), []string{"-extended_crl", "-use_deltas"}
		}
	}
	out, err := exec.Command("openssl", append(append([]string{"verify"}, options...), "-x509_strict", "-purpose", "sslclient",
		"-attime", strconv.FormatInt(w.now.Unix(), 10), "-crl_check_all",
		"-CAfile", write("root.pem", "CERTIFICATE", chain[len(chain)-1]),
		"-untrusted", write("issuing.pem", "CERTIFICATE", chain[:len(chain)-1]...),
		"-CRLfile", write("crl.pem", "X509 CRL", crls...),
		write("leaf.pem", "CERTIFICATE", leaf.DER))...).CombinedOutput()
	return string(out), err == nil
}

package ca_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/keys"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

func TestARootAndAnIssuingCAAreWhatRFC5280Asks(t *testing.T) {
	w, rootRow, issuingRow := newHierarchy(t, "")
	root, _ := x509.ParseCertificate(rootRow.Certificate)
	issuing, _ := x509.ParseCertificate(issuingRow.Certificate)
	const usage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature

	if !root.IsCA || root.MaxPathLen != 2 || root.KeyUsage != usage || root.Subject.String() != "CN=Test Root" ||
		root.IssuingCertificateURL != nil || root.CRLDistributionPoints != nil {
		t.Errorf("root: CA %v, path length %d, usage %b, %s", root.IsCA, root.MaxPathLen, root.KeyUsage, root.Subject)
	}
	base := "http://pki.example/pki/" + string(rootRow.ID)
	if !issuing.IsCA || issuing.MaxPathLen != 0 || !issuing.MaxPathLenZero || issuing.KeyUsage != usage ||
		!slices.Equal(issuing.IssuingCertificateURL, []string{base + ".crt"}) ||
		!slices.Equal(issuing.CRLDistributionPoints, []string{base + ".crl"}) ||
		!bytes.Equal(issuing.AuthorityKeyId, root.SubjectKeyId) {
		t.Errorf("issuing: %+v", issuing)
	}
	for _, c := range []*x509.Certificate{root, issuing} {
		for _, e := range c.Extensions {
			critical := e.Id.String() == "2.5.29.19" || e.Id.String() == "2.5.29.15"
			if e.Critical != critical {
				t.Errorf("%s: extension %v critical %v", c.Subject, e.Id, e.Critical)
			}
		}
	}
	if err := root.CheckSignatureFrom(root); err != nil {
		t.Error(err)
	}
	if err := issuing.CheckSignatureFrom(root); err != nil {
		t.Error(err)
	}
	if rootRow.Parent != rootRow.ID || issuingRow.Parent != rootRow.ID || rootRow.KeyURI != "softkms:"+string(rootRow.ID)+".pem" {
		t.Errorf("rows %+v %+v", rootRow, issuingRow)
	}

	if got := w.Chain(issuingRow.ID); len(got) != 2 || !bytes.Equal(got[0], issuing.Raw) || !bytes.Equal(got[1], root.Raw) {
		t.Error("the chain is not issuing CA, root")
	}
	if got := w.Chain(rootRow.ID); len(got) != 1 || !bytes.Equal(got[0], root.Raw) {
		t.Error("the root's chain is not the root")
	}
	if w.Chain("0000000000000000") != nil {
		t.Error("an unknown issuer has a chain")
	}
	if got := w.Bundle(); len(got) != 2 || !bytes.Equal(got[0], issuing.Raw) || !bytes.Equal(got[1], root.Raw) {
		t.Error("the bundle is not issuing CA, root")
	}
	if got, err := w.IssuerCertificate(rootRow.ID); err != nil || !got.Equal(root) {
		t.Errorf("IssuerCertificate: %v", err)
	}
	if _, err := w.IssuerCertificate("0000000000000000"); fault.RuleOf(err) != "no-issuer" {
		t.Errorf("an unknown issuer's certificate: %v", err)
	}
	if rows, err := w.Issuers(t.Context()); err != nil || len(rows) != 2 {
		t.Errorf("Issuers: %d, %v", len(rows), err)
	}
	if w.IsOurs(issuing) || w.IsOurs(root) {
		t.Error("CA certificates were not signed by an issuing CA of ours")
	}
	wantActions(t, w.store, audit.IssuerCreated, audit.IssuerCreated, audit.Issued)
}

func TestALeafOfASameNamedCAIsNotOurs(t *testing.T) {
	w, _, _ := newHierarchy(t, "")
	other, _, _ := newHierarchy(t, "")
	_, theirs := other.enroll(t, "dev", deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
	if w.IsOurs(theirs) {
		t.Error("the name alone made it ours")
	}
}

func TestAnIssuerIsNotMade(t *testing.T) {
	w, root, _ := newHierarchy(t, "")
	fresh := newWorld(t)
	lone, err := fresh.CreateRoot(t.Context(), operator, ca.RootRequest{Name: "Lone"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateIssuing(t.Context(), operator, root.ID, ca.IssuingRequest{Name: "Next"}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateRoot(t.Context(), operator, ca.RootRequest{Name: "Next"}); err != nil {
		t.Fatal(err)
	}
	before := w.store.read().actions()
	makeRoot := func(r ca.RootRequest) error {
		_, err := w.CreateRoot(t.Context(), operator, r)
		return err
	}
	makeIssuing := func(w *world, parent ca.IssuerID, r ca.IssuingRequest) error {
		_, err := w.CreateIssuing(t.Context(), operator, parent, r)
		return err
	}
	tests := map[string]struct {
		err  func() error
		rule string
	}{
		"without a name":             {func() error { return makeRoot(ca.RootRequest{}) }, "issuer-name"},
		"with a name of 65":          {func() error { return makeRoot(ca.RootRequest{Name: strings.Repeat("a", 65)}) }, "issuer-name"},
		"with a line in its name":    {func() error { return makeRoot(ca.RootRequest{Name: "a\nb"}) }, "issuer-name"},
		"with a space at its end":    {func() error { return makeRoot(ca.RootRequest{Name: "a "}) }, "issuer-name"},
		"for a minute":               {func() error { return makeRoot(ca.RootRequest{Name: "a", Lifetime: time.Minute}) }, "issuer-lifetime"},
		"for a century":              {func() error { return makeRoot(ca.RootRequest{Name: "a", Lifetime: 100 * 365 * 24 * time.Hour}) }, "issuer-lifetime"},
		"with a key of no type":      {func() error { return makeRoot(ca.RootRequest{Name: "a", KeyType: "EC-P224"}) }, "key-type-not-allowed"},
		"below nothing":              {func() error { return makeIssuing(fresh, "0000000000000000", ca.IssuingRequest{Name: "a"}) }, "no-issuer"},
		"beside a prepared issuing":  {func() error { return makeIssuing(w, root.ID, ca.IssuingRequest{Name: "a"}) }, "issuer-prepared"},
		"beside a prepared root":     {func() error { return makeRoot(ca.RootRequest{Name: "a"}) }, "issuer-prepared"},
		"without a name, as issuing": {func() error { return makeIssuing(fresh, lone.ID, ca.IssuingRequest{}) }, "issuer-name"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if err := tt.err(); fault.RuleOf(err) != tt.rule {
				t.Fatalf("err = %v, want rule %q", err, tt.rule)
			}
		})
	}
	wantActions(t, w.store, before...)
	wantActions(t, fresh.store, audit.IssuerCreated)
}

func TestAnIssuingCASignsNoIssuingCAAndNeverOutlivesItsRoot(t *testing.T) {
	w := newWorld(t)
	root, err := w.CreateRoot(t.Context(), operator, ca.RootRequest{Name: "Short", Lifetime: 48 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	issuing, err := w.CreateIssuing(t.Context(), operator, root.ID, ca.IssuingRequest{Name: "Issuing"})
	if err != nil {
		t.Fatal(err)
	}
	certificate, _ := x509.ParseCertificate(issuing.Certificate)
	if !certificate.NotAfter.Equal(noon.Add(48 * time.Hour)) {
		t.Errorf("the issuing CA ends %v, its root %v", certificate.NotAfter, noon.Add(48*time.Hour))
	}
	if _, err := w.CreateIssuing(t.Context(), operator, issuing.ID, ca.IssuingRequest{Name: "Below"}); fault.RuleOf(err) != "issuer-not-root" {
		t.Errorf("below an issuing CA: %v", err)
	}
}

func TestAnOfflineRootLeavesItsKeyWithItsOwner(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "root.pem")
	handout, err := keys.HandOut(path, []byte("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	root, issuing, err := w.CreateOffline(t.Context(), operator, handout, ca.RootRequest{Name: "Offline Root"}, ca.IssuingRequest{Name: "Issuing"})
	if err != nil {
		t.Fatal(err)
	}
	if root.KeyURI != "" || issuing.KeyURI == "" || issuing.Parent != root.ID {
		t.Fatalf("rows %+v %+v", root, issuing)
	}
	if data, err := os.ReadFile(path); err != nil || !bytes.Contains(data, []byte("ENCRYPTED PRIVATE KEY")) {
		t.Fatalf("the key handed out: %v", err)
	}
	wantActions(t, w.store, audit.IssuerCreated, audit.IssuerCreated, audit.Issued, audit.CRLPublished)

	w.sweep(t)
	if list := w.crl(t, root.ID); list.Number.Int64() != 1 || list.NextUpdate.Before(noon.Add(364*24*time.Hour)) {
		t.Errorf("the root's CRL: number %v, next update %v", list.Number, list.NextUpdate)
	}
	c, _ := w.enroll(t, "dev", deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
	if out, good := w.opensslVerify(t, c); !good {
		t.Error(out)
	}
	w.store.rows.issuers[1].State = ca.IssuerRetired
	if err := w.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateIssuing(t.Context(), operator, root.ID, ca.IssuingRequest{Name: "Next"}); fault.RuleOf(err) != "issuer-key-elsewhere" {
		t.Errorf("another issuing CA: %v", err)
	}
}

func TestACrashWhileIssuersAreMadeLeavesAllOrNothing(t *testing.T) {
	boom := errors.New("power cut")
	tests := map[string]struct {
		arm     func(*memStore)
		issuers int
		entries int
	}{
		"before the commit: nothing":                {func(s *memStore) { s.beforeCommit = func() error { return boom } }, 0, 0},
		"after the commit, answer lost: everything": {func(s *memStore) { s.afterCommit = func() error { return boom } }, 2, 4},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tt.arm(w.store)
			_, _, err := w.CreateOffline(t.Context(), operator, plainKeys{w.keys}, ca.RootRequest{Name: "Root"}, ca.IssuingRequest{Name: "Issuing"})
			if !errors.Is(err, boom) {
				t.Fatalf("err = %v", err)
			}
			if r := w.store.read(); len(r.issuers) != tt.issuers || len(r.ledger) != tt.entries {
				t.Errorf("%d issuers and %d entries are left", len(r.issuers), len(r.ledger))
			}
			if err := w.Reload(t.Context()); err != nil {
				t.Errorf("what is left does not load: %v", err)
			}
		})
	}
}

// plainKeys hands out without a passphrase, which costs no time.
type plainKeys struct{ *keys.Folder }

func (k plainKeys) Create(ctx context.Context, name string, kt policies.KeyType) (string, crypto.Signer, error) {
	_, signer, err := k.Folder.Create(ctx, name, kt)
	return "", signer, err
}

func TestAnAuthorityDoesNotStartOnKeysThatAreNotItsOwn(t *testing.T) {
	w, root, issuing := newHierarchy(t, "")
	start := func(k ca.Keys) error {
		_, err := ca.New(t.Context(), w.store, k, ca.Config{PKIURL: "https://pki.example"}, func() time.Time { return w.now })
		return err
	}
	if err := start(w.keys); err != nil {
		t.Fatal(err)
	}
	elsewhere, err := keys.OpenFolder(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := start(elsewhere); fault.RuleOf(err) != "key-missing" {
		t.Errorf("keys that are not there: %v", err)
	}
	w.store.rows.issuer(issuing.ID).KeyURI = root.KeyURI
	if err := start(w.keys); fault.RuleOf(err) != "issuer-key-mismatch" {
		t.Errorf("another issuer's key: %v", err)
	}
	if err := w.Reload(t.Context()); fault.RuleOf(err) != "issuer-key-mismatch" {
		t.Errorf("another issuer's key, later: %v", err)
	}
	w.issue(t, "dev", deviceKey(t, policies.KeyECP256), policies.DefaultProfile()) // goes on with what it had
	w.store.rows.issuer(issuing.ID).Certificate = []byte("junk")
	if err := start(w.keys); fault.RuleOf(err) != "issuer-damaged" {
		t.Errorf("a damaged certificate: %v", err)
	}
}

func TestNothingIsIssuedWithoutAnActiveIssuerWhoseKeyIsHere(t *testing.T) {
	tests := map[string]func(*ca.Issuer){
		"it is retired":        func(i *ca.Issuer) { i.State = ca.IssuerRetired },
		"its key is elsewhere": func(i *ca.Issuer) { i.KeyURI = "" },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			w, _, issuing := newHierarchy(t, "")
			change(w.store.rows.issuer(issuing.ID))
			if err := w.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, err := w.Issue(t.Context(), identity(t, "dev"), request(t, "dev", deviceKey(t, policies.KeyECP256)), policies.DefaultProfile(), verify.Thumbprint{}, w.now)
			if fault.RuleOf(err) != "no-active-issuer" || !fault.Is(err, fault.Unavailable) {
				t.Errorf("err = %v", err)
			}
		})
	}
}

// brokenKeys opens keys whose signers fail.
type brokenKeys struct{ *keys.Folder }

func (k brokenKeys) Open(ctx context.Context, uri string) (crypto.Signer, error) {
	signer, err := k.Folder.Open(ctx, uri)
	return brokenSigner{signer}, err
}

type brokenSigner struct{ crypto.Signer }

func (brokenSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("token removed")
}

func TestASignerThatFailsIsUnavailable(t *testing.T) {
	w, _, _ := newHierarchy(t, "")
	a, err := ca.New(t.Context(), w.store, brokenKeys{w.keys}, ca.Config{PKIURL: "http://pki.example"}, func() time.Time { return w.now })
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.Issue(t.Context(), identity(t, "dev"), request(t, "dev", deviceKey(t, policies.KeyECP256)), policies.DefaultProfile(), verify.Thumbprint{}, w.now)
	if fault.RuleOf(err) != "signing-failed" || !fault.Is(err, fault.Unavailable) {
		t.Errorf("Issue: %v", err)
	}
	if err := a.SweepCRLs(t.Context()); fault.RuleOf(err) != "signing-failed" {
		t.Errorf("SweepCRLs: %v", err)
	}
	if n := len(w.store.read().crls); n != 0 {
		t.Errorf("%d CRLs on record", n)
	}
}

func TestAConfigThatCannotWorkIsRefused(t *testing.T) {
	tests := map[string]struct {
		config ca.Config
		rule   string
	}{
		"no URL":              {ca.Config{}, "pki-url"},
		"a URL without host":  {ca.Config{PKIURL: "http:///pki"}, "pki-url"},
		"another scheme":      {ca.Config{PKIURL: "ldap://pki.example"}, "pki-url"},
		"a query":             {ca.Config{PKIURL: "http://pki.example/?a=b"}, "pki-url"},
		"a CRL of no time":    {ca.Config{PKIURL: "http://pki.example", CRLLifetime: time.Second}, "crl-lifetime"},
		"a refresh too late":  {ca.Config{PKIURL: "http://pki.example", CRLRefresh: 1}, "crl-refresh"},
		"a refresh too early": {ca.Config{PKIURL: "http://pki.example", CRLRefresh: -0.5}, "crl-refresh"},
		"the defaults":        {ca.Config{PKIURL: "http://pki.example:8080/base/"}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := ca.New(t.Context(), &memStore{}, nil, tt.config, time.Now); fault.RuleOf(err) != tt.rule {
				t.Fatalf("err = %v, want rule %q", err, tt.rule)
			}
		})
	}
}

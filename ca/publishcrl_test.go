package ca_test

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/keys"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
)

func TestTheCRLOfARootWhoseKeyIsElsewhereIsPublished(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "root.pem")
	handout := must(keys.HandOut(path, []byte("correct horse")))(t)
	root, issuing, err := w.CreateOffline(t.Context(), operator, handout, ca.RootRequest{Name: "Offline Root"}, ca.IssuingRequest{Name: "Issuing"})
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := w.enrolled(t, "dev")
	w.sweep(t)
	certificate, _ := x509.ParseCertificate(root.Certificate)
	key := must(keys.Read(must(os.ReadFile(path))(t), []byte("correct horse")))(t)
	offline := must(ca.OpenOffline(certificate, key, w.now))(t)
	next := func(previous *x509.RevocationList, revoke ca.Serial) *x509.RevocationList {
		t.Helper()
		return must(offline.NextCRL(previous, revoke, ca.CACompromise, w.now, 30*24*time.Hour))(t)
	}
	first := w.crl(t, root.ID)
	w.now = w.now.Add(time.Hour)
	plain := next(first, "")

	strangers, _, _ := newHierarchy(t, "")
	hereRoot := strangers.store.read().issuers[0]
	tests := map[string]struct {
		a    *ca.Authority
		id   ca.IssuerID
		list *x509.RevocationList
		at   time.Duration
		rule string
	}{
		"an issuer that is not there":     {w.Authority, "0000000000000000", plain, 0, "no-issuer"},
		"an issuing CA":                   {w.Authority, issuing.ID, plain, 0, "issuer-not-root"},
		"a root whose key is here":        {strangers.Authority, hereRoot.ID, plain, 0, "issuer-key-here"},
		"another CA's list":               {w.Authority, root.ID, strangers.rootCRL(t, hereRoot.ID), 0, "crl-issuer"},
		"the list that is there":          {w.Authority, root.ID, first, 0, "crl-number"},
		"a list that is over":             {w.Authority, root.ID, plain, 31 * 24 * time.Hour, "crl-not-in-date"},
		"a list of a day that is to come": {w.Authority, root.ID, plain, -24 * time.Hour, "crl-not-in-date"},
		"a list that is good":             {w.Authority, root.ID, plain, 0, ""},
		"the same once more":              {w.Authority, root.ID, plain, 0, "crl-number"},
	}
	for _, name := range []string{
		"an issuer that is not there", "an issuing CA", "a root whose key is here", "another CA's list", "the list that is there",
		"a list that is over", "a list of a day that is to come", "a list that is good", "the same once more",
	} {
		tt, was := tests[name], w.now
		w.now = w.now.Add(tt.at)
		if err := tt.a.PublishCRL(t.Context(), operator, tt.id, tt.list); fault.RuleOf(err) != tt.rule {
			t.Errorf("%s: %v, want rule %q", name, err, tt.rule)
		}
		w.now = was
	}
	wantLast(t, w.store, audit.CRLPublished)

	if got, err := w.RevokeIssuer(t.Context(), operator, issuing.ID, ca.CACompromise); err != nil || got.OnCRL {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := w.PublishCRL(t.Context(), operator, root.ID, next(plain, "")); fault.RuleOf(err) != "crl-misses-revoked" {
		t.Errorf("a list without the CA that is revoked: %v (INV-S7)", err)
	}
	if out, good := w.opensslVerify(t, leaf); !good {
		t.Errorf("before the list that names it: %s", out)
	}
	below, _ := x509.ParseCertificate(issuing.Certificate)
	if err := w.PublishCRL(t.Context(), operator, root.ID, next(plain, ca.SerialOf(below.SerialNumber))); err != nil {
		t.Fatal(err)
	}
	if out, good := w.opensslVerify(t, leaf); good {
		t.Errorf("after the list that names it: %s", out)
	}
}

// rootCRL is a list of another world's root.
func (w *world) rootCRL(t testing.TB, id ca.IssuerID) *x509.RevocationList {
	t.Helper()
	w.sweep(t)
	return w.crl(t, id)
}

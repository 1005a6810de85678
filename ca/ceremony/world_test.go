package ceremony_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/ceremony"
	"github.com/passmuster/muster/ca/keys"
	"github.com/passmuster/muster/policies"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

const year = 365 * 24 * time.Hour

// room is where ceremonies are held: a folder, a root in it, and a clock.
type room struct {
	t    testing.TB
	dir  string
	keys *keys.Folder
	now  time.Time
}

var published = ca.Addresses{Certificate: "http://pki.example/root.crt", CRL: "http://pki.example/root.crl"}

// newRoom holds the first ceremony, in the folder root.
func newRoom(t testing.TB, kt policies.KeyType) *room {
	t.Helper()
	r := &room{t: t, dir: t.TempDir(), now: noon}
	var err error
	if r.keys, err = keys.OpenFolder(filepath.Join(r.dir, "root"), nil); err != nil {
		t.Fatal(err)
	}
	if err := r.session("root").Root(t.Context(), named{r.keys}, ca.RootRequest{Name: "Test Root", KeyType: kt}, year); err != nil {
		t.Fatal(err)
	}
	return r
}

// named keeps a key in the file that ceremonies expect.
type named struct{ *keys.Folder }

func (n named) Create(ctx context.Context, _ string, kt policies.KeyType) (string, crypto.Signer, error) {
	return n.Folder.Create(ctx, "root-key", kt)
}

func (r *room) session(out string) ceremony.Session {
	return ceremony.Session{
		Out: r.path(out), Host: ceremony.Host{Version: "test"}, Now: func() time.Time { return r.now },
		People: ceremony.People{Holders: []string{"Ann Example"}, Witnesses: []string{"Carl Example"}},
	}
}

func (r *room) root() ceremony.RootFiles {
	return ceremony.RootFiles{Certificate: r.path("root/root.pem"), Key: r.path("root/root-key.pem"), Keys: r.keys, KeyURI: "softkms:root-key.pem"}
}

func (r *room) path(name string) string { return filepath.Join(r.dir, name) }

func (r *room) read(name string) []byte {
	r.t.Helper()
	data, err := os.ReadFile(r.path(name))
	if err != nil {
		r.t.Fatal(err)
	}
	return data
}

func (r *room) write(name string, data []byte) string {
	r.t.Helper()
	if err := os.WriteFile(r.path(name), data, 0o644); err != nil {
		r.t.Fatal(err)
	}
	return r.path(name)
}

func (r *room) certificate(name string) *x509.Certificate {
	r.t.Helper()
	block, _ := pem.Decode(r.read(name))
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		r.t.Fatal(err)
	}
	return certificate
}

// request writes an issuing CA's request, changed by edits.
func (r *room) request(name string, edits ...func(*x509.CertificateRequest)) string {
	r.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.requestBy(name, key, edits...)
}

func (r *room) requestBy(name string, key crypto.Signer, edits ...func(*x509.CertificateRequest)) string {
	r.t.Helper()
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Test Issuing"}}
	for _, edit := range edits {
		edit(template)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.write(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func (r *room) issue(out string) error {
	r.t.Helper()
	return r.session(out).Issue(r.t.Context(), r.root(), ceremony.Issue{CSR: r.request(out + ".csr"), Addresses: published})
}

// verdict verifies a session's transcript with its files.
func (r *room) verdict(out string) ceremony.Verdict {
	r.t.Helper()
	v := ceremony.Verify(r.read(out+"/"+ceremony.TranscriptFile), r.certificate("root/root.pem"))
	if err := v.CheckFiles(r.in(out)); err != nil {
		r.t.Fatal(err)
	}
	return v
}

func (r *room) in(folder string) func(string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		data, err := os.ReadFile(filepath.Join(r.path(folder), name))
		if os.IsNotExist(err) {
			return nil, nil
		}
		return data, err
	}
}

// rules are those of a verdict's findings, each once.
func rules(v ceremony.Verdict) (all []string) {
	for _, f := range v.Findings {
		if !slices.Contains(all, f.Rule) {
			all = append(all, f.Rule)
		}
	}
	return all
}

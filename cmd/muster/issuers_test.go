package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"go.step.sm/crypto/pemutil"
)

// existingCA writes a root (root.pem) and a CA below it (ca.pem, both certificates in
// chain.pem), whose key is in ca.key, in the clear, and in ca.enc.key, under a passphrase.
func (h host) existingCA() {
	h.t.Helper()
	now := time.Now()
	make := func(name string, pathLength int, by *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			h.t.Fatal(err)
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(5, 0, 0),
			IsCA: true, BasicConstraintsValid: true, MaxPathLen: pathLength, MaxPathLenZero: pathLength == 0, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
		if by == nil {
			by, signer = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, by, key.Public(), signer)
		if err == nil {
			c, err = x509.ParseCertificate(der)
		}
		if err != nil {
			h.t.Fatal(err)
		}
		return c, key
	}
	root, rootKey := make("Own Root", 1, nil, nil)
	issuing, key := make("Existing CA", 0, root, rootKey)
	h.write("root.pem", pemText(root), 0o644)
	h.write("ca.pem", pemText(issuing), 0o644)
	h.write("chain.pem", pemText(issuing, root), 0o644)
	for name, k := range map[string]any{"ca.key": key, "root.key": rootKey} {
		block, err := pemutil.Serialize(k)
		if err != nil {
			h.t.Fatal(err)
		}
		h.write(name, string(pem.EncodeToMemory(block)), 0o600)
	}
	block, err := pemutil.Serialize(key, pemutil.WithPKCS8(true), pemutil.WithPassword([]byte("its own")))
	if err != nil {
		h.t.Fatal(err)
	}
	h.write("ca.enc.key", string(pem.EncodeToMemory(block)), 0o600)
	h.write("ca.passphrase", "its own\n", 0o600)
}

// refused runs a command that fails and says something.
func (h host) refused(want string, args ...string) {
	h.t.Helper()
	if code, _, talk := h.muster(args...); code == exitDone || !strings.Contains(talk, want) {
		h.t.Errorf("%v: exit %d, %q; want %q", args, code, talk, want)
	}
}

func TestAnExistingCAIsBroughtWithItsKey(t *testing.T) {
	h := newHost(t)
	h.init("--root-key-out", h.path("root-key.pem"))
	h.existingCA()
	config := h.path("muster.yaml")
	bring := func(cert, key string, more ...string) []string {
		return append([]string{"ca", "import", h.path(cert), "--key", h.path(key), "--config", config}, more...)
	}
	h.refused("needs a passphrase", bring("chain.pem", "ca.enc.key")...)
	h.refused("does not open the key", bring("chain.pem", "ca.enc.key", "--key-passphrase-file", h.path("passphrase"))...)
	h.refused("not for a key that was requested or given here", bring("chain.pem", "root.key")...)
	h.refused("allowOnlineRoot", bring("root.pem", "root.key")...)
	h.refused("allowOnlineRoot", "ca", "create", "Second Root", "--root", "--config", config)
	h.refused("key file is not there", "ca", "import", h.path("chain.pem"), "--key-uri", "softkms:none.pem", "--config", config)

	code, out, talk := h.muster(bring("chain.pem", "ca.enc.key", "--key-passphrase-file", h.path("ca.passphrase"), "-o", "json")...)
	if code != exitDone || !strings.Contains(out, `"prepared"`) || !strings.Contains(out, `"keyHere": true`) {
		t.Fatalf("exit %d: %s%s", code, out, talk)
	}
	h.serve() // opens the key under its own passphrase
	if bundle := h.read("data/ca.pem"); strings.Count(bundle, "BEGIN CERTIFICATE") != 4 {
		t.Errorf("the bundle lacks the CA or its root:\n%s", bundle)
	}
}

func TestASecondRootOnTheHost(t *testing.T) {
	h := newHost(t)
	h.init("--keep-root")
	code, out, talk := h.muster("ca", "create", "Second Root", "--root", "--config", h.path("muster.yaml"), "-o", "json")
	if code != exitDone || !strings.Contains(out, `"prepared"`) || !strings.Contains(out, `"root"`) {
		t.Fatalf("exit %d: %s%s", code, out, talk)
	}
	if !bytes.Contains([]byte(h.read("muster.yaml")), []byte("allowOnlineRoot: true")) {
		t.Error("the test is about an online root")
	}
}

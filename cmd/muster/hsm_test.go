//go:build cgo

package main

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/smallstep/pkcs7"

	"github.com/passmuster/muster/internal/testkit"
)

// isIssuerKey tells the keys of issuers from the KEK and that of the log, which are files.
func isIssuerKey(path string) bool {
	name := filepath.Base(path)
	return name != "kek.pem" && name != "log-checkpoint.pem"
}

// TestAnInstallationWithItsKeysInAnHSM goes through scenarios A10 and "HSM gone": issuing
// stops with 503 and status goes on, at run time and at a start; signing resumes by itself.
func TestAnInstallationWithItsKeysInAnHSM(t *testing.T) {
	hsm := testkit.NewSoftHSM(t)
	h := newHost(t)
	out, _ := h.init("--keep-root", "--keys-uri", hsm.URI, "--pin-file", hsm.PINFile)
	bearer := []string{"Authorization", "Bearer " + strings.TrimPrefix(strings.SplitN(out, "\n", 2)[0], "MUSTER_TOKEN="), "Content-Type", "application/json"}
	if files, err := filepath.Glob(h.path("data/keys/*")); err != nil || slices.ContainsFunc(files, isIssuerKey) {
		t.Fatalf("keys on the host: %v, %v", files, err)
	}
	at := h.fixPorts("devices", "admin", "pki", "ops")
	said, stop := h.start()
	client := h.client()
	key := base64.StdEncoding.EncodeToString([]byte("a symmetric key of 32 bytes!!!!!"))
	if code, _, body := ask(t, client, http.MethodPut, "https://"+at["admin"]+"/api/v1/enrollments/dev-1",
		fmt.Sprintf(`{"attestation":{"type":"symmetricKey","symmetricKey":{"primaryKey":%q,"secondaryKey":%q}},"credentialPolicyName":"default"}`, key, key), bearer...); code >= 300 {
		t.Fatalf("PUT enrollment: %d %s", code, body)
	}
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("dev-1:"+key))
	enroll := func() (int, http.Header, []byte) {
		return ask(t, client, http.MethodPost, "https://"+at["devices"]+"/.well-known/est/simpleenroll", estRequest(t, "dev-1"), "Authorization", basic, "Content-Type", "application/pkcs10")
	}
	leaf := h.wantLeaf(enroll())

	// The address that certificates name is a relying party's, not this test's.
	published, err := url.Parse(leaf.CRLDistributionPoints[0])
	if err != nil {
		t.Fatal(err)
	}
	list := func() []byte {
		code, _, body := ask(t, client, http.MethodGet, "http://"+at["pki"]+published.Path, "")
		if code != http.StatusOK {
			t.Fatalf("GET %s: %d", published.Path, code)
		}
		return body
	}
	onRecord := list()

	hsm.TakeAway(t)
	for range 3 {
		if code, header, body := enroll(); code != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
			t.Fatalf("enrolling without the HSM: %d %v %s", code, header, body)
		}
	}
	if !bytes.Equal(list(), onRecord) {
		t.Error("the CRL on record has changed")
	}
	if code, _, body := ask(t, client, http.MethodGet, "http://"+at["ops"]+"/readyz", ""); code != http.StatusOK || !strings.Contains(string(body), "nothing is signed") {
		t.Errorf("readyz: %d %q", code, body)
	}
	hsm.BringBack(t)
	said.await(t, "it signs again", func() bool { code, _, _ := enroll(); return code == http.StatusOK })
	h.wantLeaf(enroll())

	stop()
	hsm.TakeAway(t)
	said, _ = h.start()
	if !bytes.Equal(list(), onRecord) {
		t.Error("after a start without the HSM the CRL on record is not served")
	}
	if !strings.Contains(said.String(), "the key device is away") {
		t.Errorf("the log does not say why nothing is signed:\n%s", said)
	}
	hsm.BringBack(t)
	said.await(t, "it signs after a start without the HSM", func() bool {
		resp, err := client.Post("https://"+at["devices"]+"/.well-known/est/simpleenroll", "application/pkcs10", strings.NewReader(""))
		if err != nil {
			return false // no certificate for TLS yet
		}
		_ = resp.Body.Close()
		return true
	})
	h.wantLeaf(enroll())
	for _, secret := range []string{hsm.PIN, key} {
		if strings.Contains(said.String(), secret) {
			t.Errorf("a secret is in the log:\n%s", said)
		}
	}
}

// wantLeaf verifies an answer of EST as a relying party does.
func (h host) wantLeaf(code int, _ http.Header, body []byte) *x509.Certificate {
	h.t.Helper()
	if code != http.StatusOK {
		h.t.Fatalf("enrolling: %d %s", code, body)
	}
	der, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(body), nil)))
	if err != nil {
		h.t.Fatal(err)
	}
	p7, err := pkcs7.Parse(der)
	if err != nil {
		h.t.Fatal(err)
	}
	h.write("leaf.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p7.Certificates[0].Raw})), 0o600)
	if out, err := exec.Command("openssl", "verify", "-CAfile", h.path("data/ca.pem"), h.path("leaf.pem")).CombinedOutput(); err != nil {
		h.t.Fatalf("openssl: %v\n%s", err, out)
	}
	return p7.Certificates[0]
}

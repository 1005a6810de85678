package admin

import (
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/policies"
)

// octets is an answer that is no JSON object.
func (w *world) octets(path, accept string) *http.Response {
	w.t.Helper()
	req := httptest.NewRequestWithContext(w.t.Context(), http.MethodGet, prefix+path, nil)
	req.Header.Set("Authorization", "Bearer "+w.tokens[policies.RoleViewer])
	req.Header.Set("Accept", accept)
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, req)
	return rec.Result()
}

func TestWhatWaitsForDevicesIsFetched(t *testing.T) {
	t.Parallel()
	w := linked(t)
	w.put("/profiles/default", `{"renewal":{"retain":true}}`, "*").want(http.StatusOK)
	w.put("/groups/line", `{"attestation":{"type":"symmetricKey"},"credentialPolicyName":"default"}`).want(http.StatusCreated)
	for _, device := range []string{"dev-1", "dev-2", "dev-3"} {
		w.register("line", device)
	}
	w.get("/registrations/dev-1/certificates/pending").want(http.StatusNotFound, "no-pending-certificate")
	w.get("/registrations/dev-9/certificates/pending").want(http.StatusNotFound, "no-pending-certificate")
	w.get("/registrations/dev-1").want(http.StatusOK).has("renewal.from", "2026-04-30T07:55:00Z")

	w.advance(time.Minute)
	for _, device := range []string{"dev-3", "dev-1", "dev-2"} {
		w.post("/registrations/"+device+"/resign", `{}`).want(http.StatusOK).has("registrationId", device)
	}
	w.post("/registrations/dev-1/resign", `{"reason":"keyCompromise"}`).want(http.StatusConflict, "same-key")
	w.post("/registrations/dev-1/resign", `{"reason":"boredom"}`).want(http.StatusBadRequest)
	w.post("/registrations/dev-9/resign", `{}`).want(http.StatusNotFound, "registration-not-found")

	got := w.get("/registrations/dev-1/certificates/pending").want(http.StatusOK).has("status", "valid")
	if got.etag() != `"`+got.at("thumbprint").(string)+`"` {
		t.Errorf("ETag %s", got.etag())
	}
	text := w.octets("/registrations/dev-1/certificates/pending", "application/pem-certificate-chain")
	if text.Header.Get("Content-Type") != "application/pem-certificate-chain" || text.StatusCode != http.StatusOK {
		t.Errorf("PEM: %d %q", text.StatusCode, text.Header.Get("Content-Type"))
	}
	block, rest := pem.Decode(must(io.ReadAll(text.Body)))
	if leaf := must(x509.ParseCertificate(block.Bytes)); leaf.Subject.CommonName != "dev-1" {
		t.Errorf("PEM of %s", leaf.Subject)
	}
	if block, rest = pem.Decode(rest); block == nil || len(rest) > 0 {
		t.Error("the PEM is not the certificate and its issuer")
	}

	lines := func(query string) (ids []string) {
		a := w.octets("/certificates/pending"+query, "*/*")
		if a.StatusCode != http.StatusOK || a.Header.Get("Content-Type") != "application/x-ndjson" {
			t.Fatalf("the list: %d %q", a.StatusCode, a.Header.Get("Content-Type"))
		}
		for line := range strings.Lines(string(must(io.ReadAll(a.Body)))) {
			_, after, _ := strings.Cut(line, `"registrationId":"`)
			id, _, _ := strings.Cut(after, `"`)
			ids = append(ids, id)
			if !strings.Contains(line, `"pem":"-----BEGIN`) || !strings.Contains(line, `"chain":"-----BEGIN`) {
				t.Errorf("a line without its certificates: %s", line)
			}
		}
		return ids
	}
	for query, want := range map[string]string{"": "dev-1 dev-2 dev-3", "?limit=2": "dev-1 dev-2", "?after=dev-2": "dev-3", "?after=dev-3": ""} {
		if got := strings.Join(lines(query), " "); got != want {
			t.Errorf("%q lists %q, want %q", query, got, want)
		}
	}
	w.get("/certificates/pending?after=%21").want(http.StatusBadRequest)

	w.patch("/groups/line", `{"provisioningStatus":"disabled"}`, "*").want(http.StatusOK)
	w.get("/registrations/dev-1/certificates/pending").want(http.StatusNotFound, "no-pending-certificate")
	if got := lines("?limit=1"); len(got) != 0 {
		t.Errorf("of a disabled group: %v", got)
	}
}

package api_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// certsOnly reads an answer of EST.
func certsOnly(t testing.TB, a answer) []*x509.Certificate {
	t.Helper()
	want(t, a, http.StatusOK)
	if got := a.header.Get("Content-Type"); got != "application/pkcs7-mime; smime-type=certs-only" || a.header.Get("Content-Transfer-Encoding") != "base64" {
		t.Fatalf("headers %v", a.header)
	}
	if strings.ContainsAny(a.body, "\r\n") {
		t.Error("the base64 has line breaks, which strongSwan does not take")
	}
	message, err := pkcs7.Parse(must(base64.StdEncoding.DecodeString(a.body)))
	check(t, err)
	return message.Certificates
}

func TestADeviceEnrollsAndReenrollsByEST(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"", idScope + "/"} {
		issuers := certsOnly(t, w.do(w.client(nil), w.devices, request{method: "GET", path: "/.well-known/est/" + path + "cacerts"}))
		if len(issuers) != 2 || issuers[0].Subject.CommonName != "Example Issuing" || issuers[1].Subject.CommonName != "Example Root" {
			t.Errorf("CA certificates %v", issuers)
		}
	}
	key := newKey()
	first := certsOnly(t, w.do(w.client(w.deviceCertificate("dev-1")), w.devices, enroll("simpleenroll", testkit.CSR(t, key, "dev-1"))))
	if len(first) != 1 || first[0].Subject.CommonName != "dev-1" {
		t.Fatalf("issued %v", first)
	}
	check(t, first[0].CheckSignatureFrom(must(w.authority.IssuerCertificate(w.issuing.ID))))

	w.advance(time.Hour)
	own := w.client(credential(t, key, first[0].Raw))
	next := certsOnly(t, w.do(own, w.devices, enroll(idScope+"/SimpleReenroll/", testkit.CSR(t, newKey(), "dev-1"))))
	if len(next) != 1 || next[0].SerialNumber.Cmp(first[0].SerialNumber) == 0 {
		t.Errorf("renewed to %v", next)
	}
}

func TestADeviceEnrollsWithItsKey(t *testing.T) {
	w := newWorld(t)
	t.Run("but not under the name another one has on the hub", func(t *testing.T) { failsOverName(t, w) })
	t.Run("and without a hub", func(t *testing.T) { enrollsWithoutHub(t, w) })
}

func enrollsWithoutHub(t *testing.T, w *world) {
	draining := provisioning.Hub{Name: hubName, Driver: provisioning.BuiltIn, Weight: 1, Draining: true}
	must(w.engine.PutHub(t.Context(), operator, draining, provisioning.Precondition{Any: true}))
	csr := testkit.CSR(t, newKey(), "Pump-1")
	bodies := map[string]string{
		"base64 on one line": b64(csr),
		"base64 in lines":    string(lines76(csr)),
		"PEM":                string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})),
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			r := enroll("simpleenroll", nil).with("Authorization", basicAuth("Pump-1", w.deviceKey("Pump-1"))).with("Content-Type", "application/pkcs10; charset=utf-8")
			r.body = body
			issued := certsOnly(t, w.do(w.client(nil), w.devices, r))
			if len(issued) != 1 || issued[0].Subject.CommonName != "Pump-1" {
				t.Errorf("issued %v", issued)
			}
		})
	}
}

func failsOverName(t *testing.T, w *world) {
	taken := enroll("simpleenroll", testkit.CSR(t, newKey(), "p-1")).with("Authorization", basicAuth("p-1", w.deviceKey("p-1")))
	certsOnly(t, w.do(w.client(nil), w.devices, taken))
	draft := provisioning.Draft{
		Owner: provisioning.Owner{ID: must(verify.ParseRegistrationID("alias-1"))}, Spelled: "alias-1", Enabled: true, DeviceID: "p-1",
		Attestation: provisioning.Attestation{Role: provisioning.RoleKey, Slots: [2]provisioning.SlotDraft{{Key: make([]byte, 32)}}},
		Allocation:  "hashed", Profile: "default",
	}
	_, _, err := w.engine.Put(t.Context(), operator, draft, provisioning.Precondition{})
	check(t, err)
	a := w.do(w.client(nil), w.devices, enroll("simpleenroll", testkit.CSR(t, newKey(), "alias-1")).with("Authorization", basicAuth("alias-1", make([]byte, 32))))
	want(t, a, http.StatusConflict)
	if !strings.Contains(a.body, "taken") {
		t.Errorf("it is told %q", a.body)
	}
}

func lines76(der []byte) (out []byte) {
	for text := b64(der); len(text) > 0; {
		n := min(76, len(text))
		out = append(out, text[:n]+"\r\n"...)
		text = text[n:]
	}
	return out
}

func TestEveryRefusalOfAnESTCredentialLooksTheSame(t *testing.T) {
	w := newWorld(t)
	csr := testkit.CSR(t, newKey(), "p-1")
	noName := testkit.SelfSigned(t, "", testkit.WithCommonName("not a registration id!")).TLS()
	tests := map[string]struct {
		client  *http.Client
		request request
	}{
		"no credential":                         {w.client(nil), enroll("simpleenroll", csr)},
		"no credential to renew":                {w.client(nil), enroll("simplereenroll", csr)},
		"a wrong key":                           {w.client(nil), enroll("simpleenroll", csr).with("Authorization", basicAuth("p-1", []byte("wrong")))},
		"an empty key":                          {w.client(nil), enroll("simpleenroll", csr).with("Authorization", basicAuth("p-1", nil))},
		"another device's key":                  {w.client(nil), enroll("simpleenroll", csr).with("Authorization", basicAuth("p-1", w.deviceKey("p-2")))},
		"the group's own key":                   {w.client(nil), enroll("simpleenroll", csr).with("Authorization", basicAuth("p-1", w.groupKey))},
		"a key that is not base64":              {w.client(nil), enroll("simpleenroll", csr).with("Authorization", "Basic "+b64([]byte("p-1:***")))},
		"a user name outside the grammar":       {w.client(nil), enroll("simpleenroll", csr).with("Authorization", basicAuth("p 1/..", w.deviceKey("p-1")))},
		"Basic that is none":                    {w.client(nil), enroll("simpleenroll", csr).with("Authorization", "Basic !")},
		"another scheme":                        {w.client(nil), enroll("simpleenroll", csr).with("Authorization", w.sas("p-1"))},
		"a stranger's certificate":              {w.client(w.deviceCertificate("dev-3")), enroll("simpleenroll", csr)},
		"an expired certificate":                {w.client(w.deviceCertificate("dev-9")), enroll("simpleenroll", csr)},
		"a certificate that names nobody":       {w.client(&noName), enroll("simpleenroll", csr)},
		"a factory certificate to renew":        {w.client(w.deviceCertificate("dev-1")), enroll("simplereenroll", testkit.CSR(t, newKey(), "dev-1"))},
		"a key to renew":                        {w.client(nil), enroll("simplereenroll", csr).with("Authorization", basicAuth("p-1", w.deviceKey("p-1")))},
		"a bad key beside a good certificate":   {w.client(w.deviceCertificate("dev-1")), enroll("simpleenroll", csr).with("Authorization", basicAuth("p-1", []byte("wrong")))},
		"a bad credential with the scope named": {w.client(nil), enroll(idScope+"/simpleenroll", csr)},
	}
	var first string
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w.advance(time.Second) // who is refused is decided once a second
			a := w.do(tt.client, w.devices, tt.request)
			want(t, a, http.StatusUnauthorized)
			got := outside(a)
			if first == "" {
				first = got
			}
			if got != first {
				t.Errorf("this refusal can be told from another:\n%s\n%s", got, first)
			}
			if a.header.Get("WWW-Authenticate") != `Basic realm="estrealm"` {
				t.Errorf("challenge %q", a.header.Get("WWW-Authenticate"))
			}
		})
	}
}

func TestBadInputToEST(t *testing.T) {
	w := newWorld(t)
	nobody, known := w.client(nil), w.client(w.deviceCertificate("dev-1"))
	csr := testkit.CSR(t, newKey(), "dev-1")
	block := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}))
	send := func(body string) request {
		r := enroll("simpleenroll", nil)
		r.body = body
		return r
	}
	tests := map[string]struct {
		client  *http.Client
		request request
		status  int
		text    string // a part
	}{
		"no body":                      {nobody, send(""), 400, "base64"},
		"a body that is not base64":    {nobody, send("{}"), 400, "base64"},
		"raw DER":                      {nobody, send(string(csr)), 400, "base64"},
		"base64 cut short":             {nobody, send(b64(csr)[:41]), 400, "base64"},
		"a request cut short":          {known, send(b64(csr[:60])), 400, "request"},
		"two PEM blocks":               {nobody, send(block + block), 400, "PEM"},
		"a PEM block and more":         {nobody, send(block + "more"), 400, "PEM"},
		"a PEM block of another type":  {nobody, send(strings.ReplaceAll(block, "CERTIFICATE REQUEST", "CERTIFICATE")), 400, "PEM"},
		"an oversized body":            {nobody, send(strings.Repeat("A", 65<<10)), 413, "64 KiB"},
		"a compressed body":            {nobody, send(b64(csr)).with("Content-Encoding", "gzip"), 415, "compressed"},
		"another content type":         {nobody, send(b64(csr)).with("Content-Type", "application/json"), 415, "pkcs10"},
		"an unknown label":             {nobody, enroll("0neOTHER/simpleenroll", csr), 404, "id scope"},
		"an unknown label for cacerts": {nobody, request{method: "GET", path: "/.well-known/est/0neOTHER/cacerts"}, 404, "id scope"},
		"an operation not offered":     {nobody, enroll("fullcmc", csr), 404, "address"},
		"the wrong method":             {nobody, request{method: "GET", path: "/.well-known/est/simpleenroll"}, 405, "method"},
		"a request for another device": {known, enroll("simpleenroll", testkit.CSR(t, newKey(), "dev-2")), 400, ""},
		"a request without a name":     {known, enroll("simpleenroll", testkit.CSR(t, newKey(), "")), 400, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := w.do(tt.client, w.devices, tt.request)
			want(t, a, tt.status)
			if got := a.header.Get("Content-Type"); got != "text/plain; charset=utf-8" {
				t.Errorf("content type %q", got)
			}
			if !strings.Contains(a.body, tt.text) || strings.Count(a.body, "\n") != 1 {
				t.Errorf("the answer %q is no line that says %q", a.body, tt.text)
			}
		})
	}
}

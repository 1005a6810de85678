package api_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/crypto/ocsp"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/testkit"
)

// answered counts OCSP answers as metrics do.
func (w *world) answered(status string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ocsp == nil {
		w.ocsp = map[string]int{}
	}
	w.ocsp[status]++
}

func TestOCSPIsAnsweredOverPlainHTTP(t *testing.T) {
	w := newWorld(t)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	issuer := must(w.authority.IssuerCertificate(w.issuing.ID))
	ask := func(serial *big.Int, h crypto.Hash) []byte {
		return must(ocsp.CreateRequest(&x509.Certificate{SerialNumber: serial}, issuer, &ocsp.RequestOptions{Hash: h}))
	}
	at := "/ocsp/" + string(w.issuing.ID)
	post := func(path string, body []byte) answer {
		t.Helper()
		a := w.do(client, w.pki, request{method: "POST", path: path, body: string(body)}.with("Content-Type", "application/ocsp-request"))
		want(t, a, http.StatusOK)
		if a.header.Get("Content-Type") != "application/ocsp-response" || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("headers %v", a.header)
		}
		return a
	}
	status := func(a answer) string {
		t.Helper()
		got, err := ocsp.ParseResponse([]byte(a.body), issuer)
		var said ocsp.ResponseError
		if errors.As(err, &said) {
			return said.Status.String()
		}
		check(t, err)
		return map[int]string{ocsp.Good: "good", ocsp.Revoked: "revoked", ocsp.Unknown: "unknown"}[got.Status]
	}
	is := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	unknown := ask(big.NewInt(77), crypto.SHA1)
	is("before there is a responder", status(post(at, unknown)), "try later")
	check(t, w.authority.SweepStatus(t.Context()))

	is("a stranger's serial", status(post(at, unknown)), "unknown")
	is("without the issuer in the path", status(post("/ocsp", ask(big.NewInt(77), crypto.SHA256))), "unknown")
	is("at an issuer that is not there", status(post("/ocsp/0000000000000000", unknown)), "unauthorized")
	is("not a request", status(post(at, []byte("hello"))), "malformed")
	is("nothing", status(post(at, nil)), "malformed")
	is("a huge one", status(post(at, bytes.Repeat([]byte{0x30}, ca.MaxOCSPRequest+1))), "malformed")
	want(t, w.do(client, w.pki, request{method: "HEAD", path: at}), http.StatusMethodNotAllowed)
	want(t, w.do(client, w.pki, request{method: "PUT", path: at}), http.StatusMethodNotAllowed)
	want(t, w.do(client, w.pki, request{method: "POST", path: at + "/more"}), http.StatusMethodNotAllowed)

	// One whose base64 has every character that means something else in a URL.
	var der []byte
	for n := int64(1); ; n++ {
		der = ask(new(big.Int).Mul(big.NewInt(n), big.NewInt(0x3ffffbff3eff)), crypto.SHA1)
		text := base64.StdEncoding.EncodeToString(der)
		if strings.Contains(text, "+") && strings.Contains(text, "/") && strings.HasSuffix(text, "=") {
			break
		}
	}
	text := base64.StdEncoding.EncodeToString(der)
	get := func(path string) answer {
		t.Helper()
		a := w.do(client, w.pki, request{method: "GET", path: path})
		want(t, a, http.StatusOK)
		return a
	}
	for name, path := range map[string]string{
		"as it is":                           at + "/" + text,
		"escaped":                            at + "/" + url.QueryEscape(text),
		"escaped twice":                      at + "/" + url.QueryEscape(url.QueryEscape(text)),
		"without its end":                    at + "/" + strings.TrimRight(text, "="),
		"with spaces for plus":               at + "/" + strings.ReplaceAll(text, "+", "%20"),
		"of the URL's own kind":              at + "/" + base64.URLEncoding.EncodeToString(der),
		"after two slashes":                  at + "//" + text,
		"without the issuer":                 "/ocsp/" + text,
		"without the issuer, two slashes":    "/ocsp//" + url.QueryEscape(text),
		"with a question mark's query, lost": at + "/" + text + "?x=1",
	} {
		is("GET "+name, status(get(path)), "unknown")
	}
	for name, path := range map[string]string{"no base64": at + "/!!!!", "no request": at + "/" + "aGVsbG8=", "a bad escape, escaped": at + "/%25zz"} {
		is("GET "+name, status(get(path)), "malformed")
	}

	first := get(at + "/" + url.QueryEscape(text))
	if first.header.Get("Cache-Control") != "public, max-age=60, no-transform, must-revalidate" || first.header.Get("Last-Modified") == "" || first.header.Get("Expires") == "" {
		t.Errorf("headers %v", first.header)
	}

	check(t, w.down())
	is("without a database", status(post(at, unknown)), "try later")
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ocsp["unknown"] == 0 || w.ocsp["malformed"] == 0 || w.ocsp["unauthorized"] != 1 || w.ocsp["try-later"] != 2 || len(w.ocsp) != 4 {
		t.Errorf("counted %v", w.ocsp)
	}
}

func TestTheListsOfAllShardsAreOneFile(t *testing.T) {
	w := newWorld(t)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(method, name string) answer {
		return w.do(client, w.pki, request{method: method, path: "/pki/" + name})
	}
	issuing := string(w.issuing.ID)
	want(t, get("GET", issuing+"/crls.pem"), http.StatusNotFound)
	csr := testkit.CSR(t, newKey(), "dev-1")
	want(t, w.do(w.client(w.deviceCertificate("dev-1")), w.devices, enroll("simpleenroll", csr)), http.StatusOK)
	check(t, w.authority.SweepStatus(t.Context()))

	count := func(a answer) (n int) {
		for block, rest := pem.Decode([]byte(a.body)); block != nil; block, rest = pem.Decode(rest) {
			must(x509.ParseRevocationList(block.Bytes))
			n++
		}
		return n
	}
	if own := get("GET", issuing+"/crls.pem"); own.status != http.StatusOK || count(own) != 2 || own.header.Get("Content-Type") != "application/x-pem-file" {
		t.Errorf("%d: %d lists, %v", own.status, count(own), own.header)
	}
	if all := get("GET", "crls.pem"); all.status != http.StatusOK || count(all) != 3 {
		t.Errorf("%d: %d lists of all issuers", all.status, count(all))
	}
	if head := get("HEAD", "crls.pem"); head.status != http.StatusOK || head.body != "" {
		t.Errorf("HEAD: %d", head.status)
	}
	for name, status := range map[string]int{
		"/1.crl": 200, "/0.crl": 200, "/2.crl": 404, "/01.crl": 404, "/-1.crl": 404, "/+1.crl": 404, "/1.pem": 404, "/1-delta.crl": 404, "/x.crl": 404,
		"/99999999999999999999.crl": 404, "/1.crl/x": 404,
	} {
		want(t, get("GET", issuing+name), status)
	}
	want(t, get("GET", "0000000000000000/crls.pem"), http.StatusNotFound)
	want(t, get("GET", "0000000000000000/1.crl"), http.StatusNotFound)
	check(t, w.down())
	want(t, get("GET", issuing+"/crls.pem"), http.StatusServiceUnavailable)
}

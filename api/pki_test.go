package api_test

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"
)

func TestAnybodyReadsCertificatesAndCRLs(t *testing.T) {
	w := newWorld(t)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(method, name string, header ...string) answer {
		r := request{method: method, path: "/pki/" + name}
		for i := 0; i < len(header); i += 2 {
			r = r.with(header[i], header[i+1])
		}
		return w.do(client, w.pki, r)
	}
	issuing := string(w.issuing.ID)

	none := get("GET", issuing+".crl")
	want(t, none, http.StatusNotFound)
	check(t, w.authority.SweepCRLs(t.Context()))

	crl := get("GET", issuing+".crl")
	want(t, crl, http.StatusOK)
	list := must(x509.ParseRevocationList([]byte(crl.body)))
	check(t, list.CheckSignatureFrom(must(w.authority.IssuerCertificate(w.issuing.ID))))
	if crl.header.Get("Content-Type") != "application/pkix-crl" || crl.header.Get("Cache-Control") != "public, max-age=60" ||
		crl.header.Get("Last-Modified") == "" || crl.header.Get("ETag") == "" {
		t.Errorf("headers %v", crl.header)
	}
	want(t, get("GET", issuing+".crl", "If-None-Match", crl.header.Get("ETag")), http.StatusNotModified)
	want(t, get("GET", issuing+".crl", "If-Modified-Since", crl.header.Get("Last-Modified")), http.StatusNotModified)
	if head := get("HEAD", issuing+".crl"); head.status != http.StatusOK || head.body != "" || head.header.Get("ETag") != crl.header.Get("ETag") {
		t.Errorf("HEAD answered %d %v", head.status, head.header)
	}

	crt := get("GET", issuing+".crt")
	want(t, crt, http.StatusOK)
	if crt.header.Get("Content-Type") != "application/pkix-cert" || crt.body != string(w.issuing.Certificate) {
		t.Errorf("certificate %v", crt.header)
	}

	bundle := get("GET", "bundle.pem")
	want(t, bundle, http.StatusOK)
	block, rest := pem.Decode([]byte(bundle.body))
	if block == nil || string(block.Bytes) != string(w.issuing.Certificate) || strings.Count(string(rest), "BEGIN CERTIFICATE") != 1 {
		t.Errorf("bundle %s", bundle.body)
	}

	for _, name := range []string{"", "x", "0000000000000000.crl", "0000000000000000.crt", issuing, issuing + ".pem", "..%2F" + issuing + ".crt"} {
		a := get("GET", name)
		want(t, a, http.StatusNotFound)
		if a.body != "There is no such file.\n" || a.header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%q: %v %q", name, a.header, a.body)
		}
	}
	want(t, get("POST", issuing+".crl"), http.StatusMethodNotAllowed)

	check(t, w.down())
	want(t, get("GET", issuing+".crl"), http.StatusServiceUnavailable)
	want(t, get("GET", issuing+".crt"), http.StatusOK)
}

package authority_test

import (
	"encoding/base64"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

func TestOCSPAtOpenSSL(t *testing.T) {
	w := newWorld(t)
	serial := w.enroll("press-01")
	w.enroll("press-02")
	address := strings.TrimSpace(w.run("openssl", "x509", "-in", "press-01/cert.pem", "-noout", "-ocsp_uri"))
	if address != w.PKI+"/ocsp/"+w.issuer {
		t.Errorf("the certificate names %q", address)
	}
	// openssl sends a nonce, wants it back, and checks that the issuer delegated to who signed.
	ask := func(args ...string) string {
		t.Helper()
		return w.run("openssl", append([]string{"ocsp", "-url", address, "-CAfile", w.CAFile, "-issuer", "issuing.pem"}, args...)...)
	}
	good := ask("-cert", "press-01/cert.pem")
	w.contains(good, "Response verify OK", "press-01/cert.pem: good")
	if strings.Contains(good, "nonce") {
		t.Errorf("openssl misses its nonce: %s", good)
	}
	w.contains(ask("-sha256", "-cert", "press-01/cert.pem"), "Response verify OK", ": good")
	w.contains(ask("-no_nonce", "-cert", "press-01/cert.pem"), "Response verify OK", ": good")
	w.contains(ask("-serial", "0x7777"), "Response verify OK", "0x7777: unknown")

	w.revoke(serial, "keyCompromise")
	w.contains(ask("-no_nonce", "-cert", "press-01/cert.pem"), "Response verify OK", ": revoked", "Reason: keyCompromise")
	w.contains(ask("-cert", "press-01/cert.pem"), "Response verify OK", ": revoked")
	w.contains(ask("-cert", "press-02/cert.pem"), "Response verify OK", ": good")

	several, _ := w.try("openssl", "ocsp", "-url", address, "-CAfile", w.CAFile, "-issuer", "issuing.pem", "-cert", "press-01/cert.pem", "-cert", "press-02/cert.pem")
	w.contains(several, "malformedrequest")
	foreign, _ := w.try("openssl", "ocsp", "-url", address, "-CAfile", w.CAFile, "-issuer", "root.pem", "-serial", "1")
	w.contains(foreign, "unauthorized")
}

func TestOCSPAtGnuTLSAndCurl(t *testing.T) {
	w := newWorld(t)
	serial := w.enroll("press-01")
	ask := func() string {
		t.Helper()
		return w.run("ocsptool", "--ask="+w.PKI+"/ocsp", "--load-issuer", "issuing.pem", "--load-cert", "press-01/cert.pem", "--load-trust", "issuing.pem")
	}
	w.contains(ask(), "Certificate Status: good", "Success")
	w.run("openssl", "ocsp", "-issuer", "issuing.pem", "-cert", "press-01/cert.pem", "-no_nonce", "-reqout", "request.der")
	request, err := os.ReadFile(w.path("request.der"))
	if err != nil {
		t.Fatal(err)
	}
	text := base64.StdEncoding.EncodeToString(request)
	get := func(path string) string {
		t.Helper()
		w.run("curl", "-q", "--silent", "--show-error", "--fail", "--dump-header", "headers", "-o", "answer.der", w.PKI+path)
		return w.run("openssl", "ocsp", "-respin", "answer.der", "-CAfile", w.CAFile, "-issuer", "issuing.pem", "-cert", "press-01/cert.pem")
	}
	w.contains(get("/ocsp/"+w.issuer+"/"+url.QueryEscape(text)), "Response verify OK", ": good")
	headers, err := os.ReadFile(w.path("headers"))
	if err != nil {
		t.Fatal(err)
	}
	w.contains(string(headers), "Content-Type: application/ocsp-response", "Etag: ", "Last-Modified: ", "Expires: ", "max-age=60")
	w.contains(get("/ocsp/"+text), "Response verify OK", ": good")
	w.revoke(serial, "superseded")
	w.contains(get("/ocsp/"+text), "Response verify OK", ": revoked", "Reason: superseded")
	w.contains(ask(), "Certificate Status: revoked")
}

func TestCRLsAtOpenSSLAndGnuTLS(t *testing.T) {
	w := newWorld(t)
	serial := w.enroll("press-01")
	w.enroll("press-02")
	text := w.run("openssl", "x509", "-in", "press-01/cert.pem", "-noout", "-ext", "crlDistributionPoints")
	address := w.PKI + "/pki/" + w.issuer + "/1.crl"
	w.contains(text, "URI:"+address)
	fetch := func() string {
		t.Helper()
		w.run("curl", "-q", "--silent", "--show-error", "--fail", "-o", "1.crl", address)
		return w.run("openssl", "crl", "-inform", "DER", "-in", "1.crl", "-noout", "-text")
	}
	verify := func(device string, args ...string) (string, bool) {
		t.Helper()
		return w.try("openssl", append([]string{"verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", device + "/chain.pem"}, append(args, device+"/cert.pem")...)...)
	}
	w.contains(fetch(), "No Revoked Certificates", "X509v3 Issuing Distribution Point: critical", "URI:"+address)
	w.run("openssl", "crl", "-inform", "DER", "-in", "1.crl", "-out", "1.pem")
	if out, good := verify("press-01", "-crl_check", "-CRLfile", "1.pem"); !good {
		t.Errorf("a good one: %s", out)
	}
	began := time.Now()
	w.revoke(serial, "keyCompromise")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("a revocation took %v: it waits for no CRL", took)
	}
	for list := fetch(); !strings.Contains(list, serial); list = fetch() {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("no CRL with the certificate after %v:\n%s", time.Since(began), list)
		}
	}
	w.run("curl", "-q", "--silent", "--show-error", "--fail", "-o", "crls.pem", w.PKI+"/pki/crls.pem")
	if out, good := verify("press-01", "-crl_check_all", "-CRLfile", "crls.pem"); good {
		t.Errorf("the revoked one, with the lists of all shards: %s", out)
	} else {
		w.contains(out, "certificate revoked")
	}
	if out, good := verify("press-02", "-crl_check_all", "-CRLfile", "crls.pem"); !good {
		t.Errorf("the other one: %s", out)
	}
	// Shard 0's list does not pass for the one that the certificate names.
	w.run("curl", "-q", "--silent", "--show-error", "--fail", "-o", "0.crl", w.PKI+"/pki/"+w.issuer+".crl")
	w.run("openssl", "crl", "-inform", "DER", "-in", "0.crl", "-out", "0.pem")
	if out, good := verify("press-01", "-crl_check", "-CRLfile", "0.pem"); good {
		t.Errorf("a list of another shard let the revoked one through: %s", out)
	}
	w.contains(w.run("certtool", "--crl-info", "--inder", "--infile", "1.crl"), "Revoked certificates (1)", strings.ToLower(serial))
	w.run("openssl", "crl", "-inform", "DER", "-in", "1.crl", "-out", "1.pem")
	w.contains(w.run("certtool", "--verify-crl", "--infile", "1.pem", "--load-ca-certificate", "issuing.pem"), "Verified")
}

func TestTheServerStaplesItsOwnStatus(t *testing.T) {
	w := newWorld(t)
	out := w.run("openssl", "s_client", "-connect", strings.TrimPrefix(w.Devices, "https://"), "-CAfile", w.CAFile, "-verify_return_error", "-status")
	w.contains(out, "OCSP Response Status: successful", "Cert Status: good", "Verify return code: 0 (ok)")
}

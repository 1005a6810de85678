package est_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"mime/multipart"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// curl makes one call of EST and wants a success.
func (w *world) curl(path string, args ...string) []byte {
	w.Helper()
	return w.run(nil, "curl", append([]string{"-sS", "--fail-with-body", "--cacert", w.server.CAFile, w.base + path}, args...)...)
}

// status makes one call and returns its status and headers.
func (w *world) status(path string, args ...string) (code, header string) {
	w.Helper()
	out := w.run(nil, "curl", append([]string{"-sS", "-o", "body", "-D", "header", "-w", "%{http_code}", "--cacert", w.server.CAFile, w.base + path}, args...)...)
	raw, err := os.ReadFile(filepath.Join(w.folder, "header"))
	if err != nil {
		w.Fatal(err)
	}
	return string(out), string(raw)
}

// body sends NAME.csr in base64.
func (w *world) body(name string) []string {
	w.Helper()
	der, err := os.ReadFile(filepath.Join(w.folder, name+".csr"))
	if err != nil {
		w.Fatal(err)
	}
	w.write(filepath.Join(w.folder, name+".b64"), []byte(base64.StdEncoding.EncodeToString(der)))
	return []string{"-H", "Content-Type: application/pkcs10", "--data-binary", "@" + name + ".b64"}
}

// certificates reads a certs-only answer as openssl does.
func (w *world) certificates(answer []byte) []byte {
	w.Helper()
	der := w.run(answer, "openssl", "base64", "-d", "-A")
	return w.run(der, "openssl", "pkcs7", "-inform", "DER", "-print_certs")
}

func TestCurl(t *testing.T) {
	w := newWorld(t, "curl")
	label := w.server.IDScope + ".default/"

	if got := w.certificates(w.curl(label + "cacerts")); bytes.Count(got, []byte("BEGIN CERTIFICATE")) != 2 {
		t.Errorf("CA certificates:\n%s", got)
	}
	attributes := w.run(w.run(w.curl("csrattrs"), "openssl", "base64", "-d", "-A"), "openssl", "asn1parse", "-inform", "DER")
	for _, word := range []string{"id-ecPublicKey", "prime256v1", "secp384r1", "rsaEncryption", "ecdsa-with-SHA256", "Extension Request", "X509v3 Extended Key Usage"} {
		if !strings.Contains(string(attributes), ":"+word) {
			t.Errorf("csrattrs do not say %s:\n%s", word, attributes)
		}
	}

	w.enrollment("curl-1")
	w.request("first", "curl-1")
	first := w.verified("first", w.certificates(w.curl(label+"simpleenroll", append(w.body("first"), "--user", "curl-1:"+w.code("curl-1"))...)))
	w.request("next", "curl-1")
	next := w.verified("next", w.certificates(w.curl("simplereenroll", append(w.body("next"), "--cert", "first.pem", "--key", "first.key")...)))
	if first.Subject.CommonName != "curl-1" || next.Subject.CommonName != "curl-1" || first.SerialNumber.Cmp(next.SerialNumber) == 0 {
		t.Errorf("issued %s, then %s", first.Subject, next.Subject)
	}

	t.Run("a key made on the server", func(t *testing.T) { w.serverKey(t) })
	t.Run("bad input", func(t *testing.T) { w.badInput(t) })
}

func (w *world) serverKey(t *testing.T) {
	args := append(w.body("next"), "--cert", "next.pem", "--key", "next.key")
	if code, _ := w.status("serverkeygen", args...); code != "403" {
		t.Errorf("without a profile that says so: %s", code)
	}
	w.call("PUT", "/profiles/keygen", object{"serverKeygen": true}, nil)
	w.call("PUT", "/enrollments/curl-2", object{"attestation": object{"type": "symmetricKey"}, "credentialPolicyName": "keygen"}, nil)
	w.request("made", "curl-2")
	code, header := w.status("serverkeygen", append(w.body("made"), "--user", "curl-2:"+w.code("curl-2"))...)
	if code != "200" {
		t.Fatalf("%s: %s", code, header)
	}
	_, after, _ := strings.Cut(header, "Content-Type: ")
	line, _, _ := strings.Cut(after, "\r\n")
	_, params, err := mime.ParseMediaType(line)
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	body, err := os.Open(filepath.Join(w.folder, "body"))
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	parts := multipart.NewReader(body, params["boundary"])
	part := func() []byte {
		p, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	key := w.run(w.run(part(), "openssl", "base64", "-d", "-A"), "openssl", "pkey", "-inform", "DER", "-pubout")
	w.verified("made", w.certificates(part()))
	if public := w.run(nil, "openssl", "x509", "-in", "made.pem", "-noout", "-pubkey"); string(public) != string(key) {
		t.Errorf("the certificate is of\n%s, the key of\n%s", public, key)
	}
}

func (w *world) badInput(t *testing.T) {
	w.write(filepath.Join(w.folder, "password.cnf"), []byte("[req]\nprompt=no\ndistinguished_name=dn\nattributes=at\n[dn]\nCN=curl-1\n[at]\nchallengePassword=typed-by-hand\n"))
	w.run(nil, "openssl", "req", "-new", "-key", "next.key", "-config", "password.cnf", "-outform", "DER", "-out", "typed.csr")
	w.write(filepath.Join(w.folder, "damaged.b64"), []byte("MIIB***"))
	own := []string{"--cert", "next.pem", "--key", "next.key"}
	for name, tt := range map[string]struct {
		path, status string
		args         []string
	}{
		"base64 that is none":           {"simplereenroll", "400", append(own, "-H", "Content-Type: application/pkcs10", "--data-binary", "@damaged.b64")},
		"another content type":          {"simplereenroll", "415", append(own, "-H", "Content-Type: application/json", "--data-binary", "@next.b64")},
		"a challenge password":          {"simplereenroll", "400", append(own, w.body("typed")...)},
		"a label that is not here":      {"0neNOWHERE/simplereenroll", "404", append(own, w.body("next")...)},
		"another profile's label":       {w.server.IDScope + ".keygen/simplereenroll", "403", append(own, w.body("next")...)},
		"no credential":                 {"simpleenroll", "401", w.body("next")},
		"no certificate to renew":       {"simplereenroll", "401", w.body("next")},
		"a code to renew":               {"simplereenroll", "401", append(w.body("next"), "--user", "curl-1:"+w.code("curl-1"))},
		"a code of nobody's":            {"simpleenroll", "401", append(w.body("next"), "--user", "curl-1:mec_00000000000000000000000000")},
		"an operation that is not here": {"fullcmc", "404", append(own, w.body("next")...)},
	} {
		t.Run(name, func(t *testing.T) {
			code, header := w.status(tt.path, tt.args...)
			if code != tt.status {
				t.Errorf("%s, want %s: %s", code, tt.status, header)
			}
			if challenged := strings.Contains(header, "Www-Authenticate: Basic"); challenged != (code == "401") {
				t.Errorf("headers %s", header)
			}
		})
	}
}

package api_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// profile writes an issuing profile, edited from the default.
func (w *world) profile(name string, edit func(*policies.Profile)) {
	w.t.Helper()
	p := policies.DefaultProfile()
	p.Name = name
	edit(&p)
	must(w.engine.PutProfile(w.t.Context(), operator, p, provisioning.Precondition{Any: name == "default"}))
}

// code makes a one-time code for a member of a group.
func (w *world) code(device, group string) string {
	w.t.Helper()
	text, _, err := w.engine.CreateCode(w.t.Context(), operator, provisioning.CodeRequest{
		ID: must(verify.ParseRegistrationID(device)), Group: must(verify.ParseRegistrationID(group)),
	})
	check(w.t, err)
	return text
}

func basicText(id, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+password))
}

func TestLabelsOfEST(t *testing.T) {
	w := newWorld(t)
	w.profile("fast.v2", func(p *policies.Profile) { p.Keys = []policies.KeyType{policies.KeyEd25519} })
	known := w.client(w.deviceCertificate("dev-1"))
	csr := testkit.CSR(t, newKey(), "dev-1")
	get := func(path string) request { return request{method: "GET", path: "/.well-known/est/" + path} }
	tests := map[string]struct {
		client  *http.Client
		request request
		status  int
	}{
		"none":                                         {known, enroll("simpleenroll", csr), 200},
		"the id scope":                                 {known, enroll(idScope+"/simpleenroll", csr), 200},
		"the id scope in another case":                 {known, enroll(strings.ToUpper(idScope)+"/simpleenroll", csr), 200},
		"the device's own profile":                     {known, enroll(idScope+".default/simpleenroll", csr), 200},
		"another profile":                              {known, enroll(idScope+".fast.v2/simpleenroll", csr), 403},
		"a profile that is not there":                  {known, enroll(idScope+".slow/simpleenroll", csr), 403},
		"another profile, from a stranger":             {w.client(nil), enroll(idScope+".fast.v2/simpleenroll", csr), 401},
		"a profile that is not there, from a stranger": {w.client(nil), enroll(idScope+".slow/simpleenroll", csr), 401},
		"a dot and nothing":                            {known, enroll(idScope+"./simpleenroll", csr), 404},
		"a profile alone":                              {known, enroll(".default/simpleenroll", csr), 404},
		"CA certificates for a profile":                {w.client(nil), get(idScope + ".fast.v2/cacerts"), 200},
		"CA certificates for none that is there":       {w.client(nil), get(idScope + ".slow/cacerts"), 404},
		"attributes for one that is not there":         {w.client(nil), get(idScope + ".slow/csrattrs"), 404},
		"attributes for an id scope that is not there": {w.client(nil), get("0neX/csrattrs"), 404},
	}
	missing := ""
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := w.do(tt.client, w.devices, tt.request)
			want(t, a, tt.status)
			if tt.status != http.StatusNotFound {
				return
			}
			if missing == "" {
				missing = a.body
			}
			if a.body != missing {
				t.Errorf("what is not there can be told apart: %q, %q", a.body, missing)
			}
		})
	}
}

func TestCSRAttributesAreTheProfiles(t *testing.T) {
	w := newWorld(t)
	w.profile("edge", func(p *policies.Profile) { p.Keys = []policies.KeyType{policies.KeyEd25519} })
	for label, profile := range map[string]policies.Profile{
		"": policies.DefaultProfile(), idScope + "/": policies.DefaultProfile(), idScope + ".default/": policies.DefaultProfile(),
		idScope + ".edge/": must(w.engine.Profile(t.Context(), "edge")).Profile,
	} {
		a := w.do(w.client(nil), w.devices, request{method: "GET", path: "/.well-known/est/" + label + "csrattrs"})
		want(t, a, http.StatusOK)
		if a.header.Get("Content-Type") != "application/csrattrs" || a.header.Get("Content-Transfer-Encoding") != "base64" {
			t.Errorf("headers %v", a.header)
		}
		if der := must(base64.StdEncoding.DecodeString(a.body)); string(der) != string(must(profile.CSRAttributes())) {
			t.Errorf("label %q: %x", label, der)
		}
	}
}

func TestADeviceEnrollsByESTWithAOneTimeCode(t *testing.T) {
	w := newWorld(t)
	text := w.code("Dev-7", "line-3")
	csr := testkit.CSR(t, newKey(), "Dev-7")
	r := enroll("simpleenroll", csr).with("Authorization", basicText("Dev-7", strings.ToUpper(text)))
	first := certsOnly(t, w.do(w.client(nil), w.devices, r))
	again := certsOnly(t, w.do(w.client(nil), w.devices, r))
	if !first[0].Equal(again[0]) || first[0].Subject.CommonName != "Dev-7" {
		t.Errorf("issued %v, then %v", first, again)
	}
	w.advance(time.Second)
	refused := w.do(w.client(nil), w.devices, enroll("simpleenroll", testkit.CSR(t, newKey(), "Dev-7")).with("Authorization", basicText("Dev-7", text)))
	want(t, refused, http.StatusUnauthorized)
	unknown := w.do(w.client(nil), w.devices, enroll("simpleenroll", csr).with("Authorization", basicText("Dev-8", "mec_00000000000000000000000000")))
	want(t, unknown, http.StatusUnauthorized)
	renew := w.do(w.client(nil), w.devices, enroll("simplereenroll", csr).with("Authorization", basicText("Dev-9", w.code("Dev-9", "line-3"))))
	want(t, renew, http.StatusUnauthorized)
	if outside(refused) != outside(unknown) || outside(unknown) != outside(renew) {
		t.Error("refusals of codes can be told apart")
	}
	if log := w.log.String(); strings.Contains(strings.ToLower(log), text[4:]) {
		t.Error("the code is in the log")
	}
}

func TestADeviceThatSleptRenewsOverTLS(t *testing.T) {
	w := newWorld(t)
	w.profile("default", func(p *policies.Profile) { p.Renewal.Grace = 30 * 24 * time.Hour })
	key := newKey()
	first := certsOnly(t, w.do(w.client(w.deviceCertificate("dev-1")), w.devices, enroll("simpleenroll", testkit.CSR(t, key, "dev-1"))))
	own := credential(t, key, first[0].Raw)
	w.clock.Store(first[0].NotAfter.Add(time.Hour).UnixNano())
	want(t, w.do(w.client(own), w.devices, enroll("simpleenroll", testkit.CSR(t, newKey(), "dev-1"))), http.StatusUnauthorized)
	next := certsOnly(t, w.do(w.client(own), w.devices, enroll("simplereenroll", testkit.CSR(t, newKey(), "dev-1"))))
	if len(next) != 1 || !next[0].NotAfter.After(w.now()) {
		t.Errorf("renewed to %v", next)
	}
}

// keyAndCertificate reads the two parts of RFC 7030 §4.4.2.
func keyAndCertificate(t *testing.T, a answer) (crypto.Signer, *x509.Certificate) {
	t.Helper()
	want(t, a, http.StatusOK)
	media, params, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil || media != "multipart/mixed" || a.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("headers %v", a.header)
	}
	parts := multipart.NewReader(strings.NewReader(a.body), params["boundary"])
	read := func(mediaType string) []byte {
		p, err := parts.NextPart()
		check(t, err)
		if p.Header.Get("Content-Type") != mediaType || p.Header.Get("Content-Transfer-Encoding") != "base64" {
			t.Fatalf("a part with %v", p.Header)
		}
		return must(base64.StdEncoding.DecodeString(string(must(io.ReadAll(p)))))
	}
	key := must(x509.ParsePKCS8PrivateKey(read("application/pkcs8")))
	message := must(pkcs7.Parse(read("application/pkcs7-mime; smime-type=certs-only")))
	if _, err := parts.NextPart(); err != io.EOF || len(message.Certificates) != 1 {
		t.Fatalf("%d certificates, then %v", len(message.Certificates), err)
	}
	return key.(crypto.Signer), message.Certificates[0]
}

func TestServerKeygen(t *testing.T) {
	w := newWorld(t)
	own := w.client(w.deviceCertificate("dev-1"))
	csr := testkit.CSR(t, newKey(), "dev-1")
	want(t, w.do(own, w.devices, enroll("serverkeygen", csr)), http.StatusForbidden)
	w.profile("default", func(p *policies.Profile) { p.ServerKeygen = true })
	w.advance(time.Second)

	key, cert := keyAndCertificate(t, w.do(own, w.devices, enroll("serverkeygen", csr)))
	if !key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(cert.PublicKey) || cert.Subject.CommonName != "dev-1" {
		t.Error("the certificate is not of the key")
	}
	other, _ := keyAndCertificate(t, w.do(own, w.devices, enroll(idScope+".default/serverkeygen", csr)))
	if key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(other.Public()) {
		t.Error("the same key was handed out twice")
	}
	renewed := certsOnly(t, w.do(w.client(credential(t, key, cert.Raw)), w.devices, enroll("simplereenroll", testkit.CSR(t, newKey(), "dev-1"))))
	if len(renewed) != 1 {
		t.Error("the certificate does not renew")
	}

	want(t, w.do(w.client(nil), w.devices, enroll("serverkeygen", csr)), http.StatusUnauthorized)
	want(t, w.do(own, w.devices, enroll("serverkeygen", testkit.CSR(t, newKey(), "dev-2"))), http.StatusBadRequest)
	encrypted := signedRequest(t, "dev-1", attributeDER(t, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 54}, asn1.RawValue{Tag: asn1.TagOctetString, Bytes: []byte("k")}))
	a := w.do(own, w.devices, enroll("serverkeygen", encrypted))
	want(t, a, http.StatusBadRequest)
	if !strings.Contains(a.body, "encryption") {
		t.Errorf("it is told %q", a.body)
	}
	certsOnly(t, w.do(own, w.devices, enroll("simpleenroll", encrypted))) // of no meaning there
}

// attributeDER is an attribute of a certificate request with one value.
func attributeDER(t *testing.T, oid asn1.ObjectIdentifier, value asn1.RawValue) asn1.RawValue {
	t.Helper()
	set := asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: must(asn1.Marshal(value))}
	return asn1.RawValue{FullBytes: must(asn1.Marshal(struct {
		Type   asn1.ObjectIdentifier
		Values asn1.RawValue
	}{oid, set}))}
}

// signedRequest is a request with attributes, which crypto/x509 does not write.
func signedRequest(t *testing.T, cn string, attributes ...asn1.RawValue) []byte {
	t.Helper()
	key := newKey()
	plain := must(x509.ParseCertificateRequest(testkit.CSR(t, key, cn)))
	info := must(asn1.Marshal(struct {
		Version      int
		Subject, Key asn1.RawValue
		Attributes   []asn1.RawValue `asn1:"tag:0,set"`
	}{0, asn1.RawValue{FullBytes: plain.RawSubject}, asn1.RawValue{FullBytes: plain.RawSubjectPublicKeyInfo}, attributes}))
	digest := sha256.Sum256(info)
	signature := must(key.Sign(rand.Reader, digest[:], crypto.SHA256))
	return must(asn1.Marshal(struct {
		Info      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: info}, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}, asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}}))
}

func challengeOf(t *testing.T, cn, password string) []byte {
	return signedRequest(t, cn, attributeDER(t, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}, asn1.RawValue{Tag: asn1.TagPrintableString, Bytes: []byte(password)}))
}

func TestARequestIsLinkedToItsConnection(t *testing.T) {
	w := newWorld(t)
	own := w.deviceCertificate("dev-1")
	bindings := map[string]struct {
		version uint16
		of      func(tls.ConnectionState) []byte
	}{
		"tls-unique": {tls.VersionTLS12, func(c tls.ConnectionState) []byte { return c.TLSUnique }},
		"tls-exporter": {tls.VersionTLS13, func(c tls.ConnectionState) []byte {
			return must(c.ExportKeyingMaterial("EXPORTER-Channel-Binding", []byte{}, 32))
		}},
	}
	for name, b := range bindings {
		t.Run(name, func(t *testing.T) {
			conn := must(tls.Dial("tcp", strings.TrimPrefix(w.devices, "https://"), &tls.Config{
				InsecureSkipVerify: true, MinVersion: b.version, MaxVersion: b.version,
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil },
			}))
			check(t, conn.Handshake())
			transport := &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
			t.Cleanup(transport.CloseIdleConnections)
			client := &http.Client{Transport: transport}
			bound := base64.StdEncoding.EncodeToString(b.of(conn.ConnectionState()))
			wrong := w.do(client, w.devices, enroll("simpleenroll", challengeOf(t, "dev-1", "what a person typed")))
			want(t, wrong, http.StatusBadRequest)
			if strings.Contains(wrong.body, "typed") || !strings.Contains(wrong.body, "challenge password") {
				t.Errorf("it is told %q", wrong.body)
			}
			linked := challengeOf(t, "dev-1", bound)
			certsOnly(t, w.do(client, w.devices, enroll("simpleenroll", linked)))
			elsewhere := w.do(w.client(own), w.devices, enroll("simpleenroll", linked))
			want(t, elsewhere, http.StatusBadRequest)
		})
	}
	if strings.Contains(w.log.String(), "typed") {
		t.Error("a challenge password is in the log")
	}
}

package device

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"
)

const (
	testScope = "0ne00TEST01"
	testID    = "press-0042"
)

// authority is a small CA: root and issuing certificate, keys in memory.
type authority struct {
	root, issuing *x509.Certificate
	key           crypto.Signer
}

func newAuthority(t testing.TB, name string, now time.Time) *authority {
	t.Helper()
	rootKey, key := testKey(t), testKey(t)
	ca := func(cn string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: serial(), Subject: pkix.Name{CommonName: cn},
			NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(20, 0, 0),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
	}
	root := sign(t, ca(name+" root"), nil, rootKey.Public(), rootKey)
	return &authority{root: root, issuing: sign(t, ca(name+" issuing"), root, key.Public(), rootKey), key: key}
}

func (a *authority) leaf(t testing.TB, cn string, public crypto.PublicKey, from, to time.Time) *x509.Certificate {
	t.Helper()
	return sign(t, &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: cn}, DNSNames: []string{"localhost"},
		NotBefore: from, NotAfter: to, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, a.issuing, public, a.key)
}

func (a *authority) chain(leaf *x509.Certificate) []*x509.Certificate {
	return []*x509.Certificate{leaf, a.issuing, a.root}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.root)
	return p
}

func sign(t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func serial() *big.Int {
	var b [15]byte
	_, _ = rand.Read(b[:])
	return new(big.Int).SetBytes(b[:])
}

func testKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// fakeService is a provisioning service and EST server that really authenticates and
// really issues, for one id scope.
type fakeService struct {
	t                testing.TB
	issuer, factory  *authority
	lifetime         time.Duration
	shortChain       bool // EST answers with the leaf alone
	groupKey         []byte
	before           func(http.ResponseWriter, *http.Request) bool // true: has answered
	mu               sync.Mutex
	hub              string
	polls            int // how often an operation is "assigning" before it is finished
	disallowed       map[string]bool
	disallowedAll    bool
	operations       map[string]map[string]any
	calls            []string
	issued           []*x509.Certificate
	lastProof        string
	lastRegistration registerBody
	pending          *x509.Certificate // made for the device without its asking
	advice           map[string]any    // of when to renew
}

func newFakeService(t testing.TB) *fakeService {
	now := time.Now()
	return &fakeService{
		t: t, issuer: newAuthority(t, "issuer", now), factory: newAuthority(t, "factory", now),
		lifetime: 90 * 24 * time.Hour, groupKey: []byte("group secret key"), hub: "hub-1.example.net",
		disallowed: map[string]bool{}, operations: map[string]map[string]any{},
	}
}

func (s *fakeService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, r.Method+" "+r.URL.Path)
	if s.before != nil && s.before(w, r) {
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/")
	if rest, ok := strings.CutPrefix(path, ".well-known/est/"+testScope+"/"); ok {
		s.est(w, r, rest)
		return
	}
	parts := strings.Split(path, "/")
	if len(parts) < 3 || parts[0] != testScope || parts[1] != "registrations" || r.URL.Query().Get("api-version") == "" {
		dpsError(w, http.StatusNotFound, 404001, "not found")
		return
	}
	id := parts[2]
	if !s.authenticated(r, id) {
		dpsError(w, http.StatusUnauthorized, 401002, "Unauthorized")
		return
	}
	switch {
	case r.Method == http.MethodPut && parts[3] == "register":
		s.register(w, r, id)
	case r.Method == http.MethodGet && len(parts) == 5 && parts[4] == "pending":
		if s.pending == nil {
			dpsError(w, http.StatusNotFound, 404202, "nothing is waiting")
			return
		}
		var chain []string
		for _, c := range s.issuer.chain(s.pending) {
			chain = append(chain, base64.StdEncoding.EncodeToString(c.Raw))
		}
		writeJSON(w, http.StatusOK, map[string]any{"registrationId": id, "issuedCertificateChain": chain})
	case r.Method == http.MethodGet && parts[3] == "operations":
		s.poll(w, parts[4])
	case r.Method == http.MethodPost && len(parts) == 3:
		if state, ok := s.operations["op."+id]; ok {
			delete(state, "issuedCertificateChain")
			writeJSON(w, http.StatusOK, state)
			return
		}
		dpsError(w, http.StatusNotFound, 404202, "never registered")
	}
}

func (s *fakeService) register(w http.ResponseWriter, r *http.Request, id string) {
	var body registerBody
	if json.NewDecoder(r.Body).Decode(&body) != nil || body.RegistrationID != id {
		dpsError(w, http.StatusBadRequest, 400000, "bad body")
		return
	}
	s.lastRegistration = body
	state := map[string]any{
		"registrationId": id, "deviceId": id, "assignedHub": s.hub, "status": "assigned",
		"substatus": "initialAssignment", "etag": "W1", "payload": map[string]any{"fromWebhook": true},
	}
	if body.CSR != nil {
		leaf, err := s.issue(body.CSR, id)
		if err != nil {
			dpsError(w, http.StatusBadRequest, 400004, err.Error())
			return
		}
		var chain []string
		for _, c := range s.issuer.chain(leaf) {
			chain = append(chain, base64.StdEncoding.EncodeToString(c.Raw))
		}
		state["issuedCertificateChain"] = chain
		if s.advice != nil {
			state["payload"] = map[string]any{"renewal": s.advice}
		}
	}
	s.operations["op."+id] = state
	s.operation(w, http.StatusAccepted, "op."+id)
}

func (s *fakeService) poll(w http.ResponseWriter, operation string) {
	if s.operations[operation] == nil {
		dpsError(w, http.StatusNotFound, 404202, "no such operation")
		return
	}
	s.operation(w, http.StatusOK, operation)
}

func (s *fakeService) operation(w http.ResponseWriter, status int, id string) {
	if s.polls > 0 {
		s.polls--
		w.Header().Set("Retry-After", "3")
		writeJSON(w, http.StatusAccepted, map[string]any{"operationId": id, "status": "assigning"})
		return
	}
	writeJSON(w, status, map[string]any{"operationId": id, "status": "assigned", "registrationState": s.operations[id]})
}

func (s *fakeService) est(w http.ResponseWriter, r *http.Request, operation string) {
	if operation == "cacerts" {
		writeCerts(w, s.issuer.root, s.issuer.issuing)
		return
	}
	if !s.authenticated(r, testID) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintln(w, "not\x1b[31m enrolled")
		return
	}
	body, _ := io.ReadAll(r.Body)
	der, err := base64.StdEncoding.DecodeString(string(body))
	if err != nil || r.Header.Get("Content-Type") != "application/pkcs10" {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	leaf, err := s.issue(der, testID)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if s.shortChain {
		writeCerts(w, leaf)
		return
	}
	writeCerts(w, s.issuer.root, leaf, s.issuer.issuing)
}

// testCode is good as often as it is shown: how often it is good is the server's affair.
const testCode = "mec_00000000000000000000000000"

// authenticated is the server's half of DPS contract sections 1.2 and 2.4.
func (s *fakeService) authenticated(r *http.Request, id string) bool {
	if s.disallowedAll {
		return false
	}
	auth := r.Header.Get("Authorization")
	key := DeriveKey(s.groupKey, id)
	switch {
	case strings.HasPrefix(auth, "SharedAccessSignature "):
		s.lastProof = "sas"
		return s.tokenHolds(strings.TrimPrefix(auth, "SharedAccessSignature "), testScope+"/registrations/"+id, key)
	case auth != "":
		s.lastProof = "basic"
		user, password, ok := r.BasicAuth()
		if password == testCode {
			s.lastProof = "code"
			return ok && user == id
		}
		return ok && user == id && password == base64.StdEncoding.EncodeToString(key)
	case r.TLS == nil || len(r.TLS.PeerCertificates) == 0:
		return false
	}
	leaf := r.TLS.PeerCertificates[0]
	s.lastProof = leaf.Issuer.CommonName
	roots, mid := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(s.issuer.root)
	roots.AddCert(s.factory.root)
	mid.AddCert(s.issuer.issuing)
	for _, c := range r.TLS.PeerCertificates[1:] {
		mid.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: mid, CurrentTime: time.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err == nil && leaf.Subject.CommonName == id && !s.disallowed[thumbprint(leaf)] && !s.disallowed[leaf.Issuer.CommonName]
}

func (s *fakeService) tokenHolds(token, resource string, key []byte) bool {
	fields := map[string]string{}
	for part := range strings.SplitSeq(token, "&") {
		name, value, _ := strings.Cut(part, "=")
		fields[name] = value
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(fields["sr"] + "\n" + fields["se"]))
	sig, err1 := url.PathUnescape(fields["sig"])
	sr, err2 := url.PathUnescape(fields["sr"])
	var se int64
	_, err3 := fmt.Sscan(fields["se"], &se)
	return err1 == nil && err2 == nil && err3 == nil && fields["skn"] == "registration" &&
		sig == base64.StdEncoding.EncodeToString(mac.Sum(nil)) && sr == resource && time.Unix(se, 0).After(time.Now())
}

// issue answers the same request with the same certificate, as the real one does.
func (s *fakeService) issue(der []byte, id string) (*x509.Certificate, error) {
	csr, err := x509.ParseCertificateRequest(der)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, err
	}
	if csr.Subject.CommonName != id {
		return nil, fmt.Errorf("CN is %q", csr.Subject.CommonName)
	}
	for _, c := range s.issued {
		if bytes.Equal(c.RawSubjectPublicKeyInfo, csr.RawSubjectPublicKeyInfo) {
			return c, nil
		}
	}
	now := time.Now()
	leaf := s.issuer.leaf(s.t, id, csr.PublicKey, now, now.Add(s.lifetime))
	s.issued = append(s.issued, leaf)
	return leaf, nil
}

func (s *fakeService) do(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *fakeService) count(call string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.calls {
		if strings.Contains(c, call) {
			n++
		}
	}
	return n
}

// listen serves over real TLS on loopback and returns a configuration for it.
func (s *fakeService) listen(t testing.TB, credential Credential) Config {
	key := testKey(t)
	now := time.Now()
	leaf := s.issuer.leaf(t, "server", key.Public(), now.Add(-time.Minute), now.Add(time.Hour))
	server := httptest.NewUnstartedServer(s)
	server.TLS = &tls.Config{
		ClientAuth:   tls.RequestClientCert,
		Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw, s.issuer.issuing.Raw}, PrivateKey: key}},
	}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return Config{
		URL: strings.Replace(server.URL, "127.0.0.1", "localhost", 1), IDScope: testScope, RegistrationID: testID,
		CA: s.issuer.pool(), Credential: credential,
	}
}

// inMemory is a configuration that reaches the service without a network, for
// synctest bubbles: the client certificate is handed over as a handshake would.
func (s *fakeService) inMemory(credential Credential) Config {
	return Config{
		URL: "https://dps.example.net", IDScope: testScope, RegistrationID: testID, Credential: credential,
		Transport: func(c *tls.Config) http.RoundTripper { return direct{s, c} },
	}
}

type direct struct {
	handler http.Handler
	tls     *tls.Config
}

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.TLS = &tls.ConnectionState{}
	if d.tls.GetClientCertificate != nil {
		own, err := d.tls.GetClientCertificate(&tls.CertificateRequestInfo{})
		if err != nil {
			return nil, err
		}
		for _, der := range own.Certificate {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, err
			}
			r.TLS.PeerCertificates = append(r.TLS.PeerCertificates, cert)
		}
	}
	recorder := httptest.NewRecorder()
	d.handler.ServeHTTP(recorder, r)
	return recorder.Result(), nil
}

// factoryCredential is what a factory puts into a device.
func (s *fakeService) factoryCredential(t testing.TB) Credential {
	key := testKey(t)
	now := time.Now()
	leaf := s.factory.leaf(t, testID, key.Public(), now.Add(-time.Hour), now.AddDate(10, 0, 0))
	return Credential{Certificate: &tls.Certificate{Certificate: [][]byte{leaf.Raw, s.factory.issuing.Raw}, PrivateKey: key}}
}

func (s *fakeService) symmetricCredential() Credential {
	return Credential{SymmetricKey: DeriveKey(s.groupKey, testID)}
}

func newClient(t testing.TB, config Config) *Client {
	t.Helper()
	c, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newCSR(t testing.TB, cn string) []byte {
	t.Helper()
	csr, err := NewCSR(testKey(t), cn)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func dpsError(w http.ResponseWriter, status, code int, message string) {
	writeJSON(w, status, map[string]any{"errorCode": code, "message": message, "trackingId": "3f2c6d1e"})
}

// writeCerts answers like EST servers that wrap their base64.
func writeCerts(w http.ResponseWriter, certs ...*x509.Certificate) {
	var all []byte
	for _, c := range certs {
		all = append(all, c.Raw...)
	}
	der, err := pkcs7.DegenerateCertificate(all)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/pkcs7-mime; smime-type=certs-only")
	for line := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString(der)), 64) {
		_, _ = w.Write(append(line, '\r', '\n'))
	}
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

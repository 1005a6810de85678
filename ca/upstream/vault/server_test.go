package vault

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// server speaks the part of Vault's HTTP API that is used: approle and kubernetes logins,
// pki/sign/ROLE, pki/cert/ca_chain and pki/revoke, with Vault's shapes of answers and errors
// (its API documentation, "PKI secrets engine" and "AppRole auth method"). It is not Vault:
// what it proves is that the driver is used rightly, not that Vault agrees.
type server struct {
	*httptest.Server
	t           *testing.T
	root, inter *x509.Certificate
	rootKey     *ecdsa.PrivateKey
	key         *ecdsa.PrivateKey

	mu      sync.Mutex // guards what follows
	tokens  map[string]bool
	logins  []string // paths
	signs   int      // requests that were heard
	revoked []string
	breaks  int  // status to answer to the next sign, after it has been heard
	sealed  bool // answers 503 to everything
}

const (
	roleID   = "7cf1ab5e-3ba4-6b30-35c9-6a5ae5f5d4e1"
	secretID = "5ba0b7b5-b7e1-8b7d-1f2e-1c1a6c0a6f0e"
	role     = "devices"
)

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, tokens: map[string]bool{}, rootKey: newKey(t), key: newKey(t)}
	s.root = s.certify("Vault root", nil, s.rootKey)
	s.inter = s.certify("Vault issuing", s.root, s.key)
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /v1/auth/{method}/login", s.login)
	mux.HandleFunc("GET /v1/pki/cert/ca_chain", s.authorized(s.chain))
	mux.HandleFunc("PUT /v1/pki/sign/{role}", s.authorized(s.sign))
	mux.HandleFunc("PUT /v1/pki/revoke", s.authorized(s.revoke))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fail(w, 404, "no handler for route "+r.URL.Path) })
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		sealed := s.sealed
		s.mu.Unlock()
		if sealed {
			fail(w, 503, "Vault is sealed")
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// fail is an error as Vault words it.
func fail(w http.ResponseWriter, status int, problems ...string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": problems})
}

func answer(w http.ResponseWriter, fields map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	for name, value := range map[string]any{"request_id": "f5dc9a9e-9d5b-3d3c-6d5a-5f5a6d0c9a1b", "lease_id": "", "renewable": false, "lease_duration": 0, "wrap_info": nil, "warnings": nil} {
		if _, set := fields[name]; !set {
			fields[name] = value
		}
	}
	_ = json.NewEncoder(w).Encode(fields)
}

func (s *server) body(r *http.Request) map[string]string {
	raw, _ := io.ReadAll(r.Body)
	fields := map[string]string{}
	_ = json.Unmarshal(raw, &fields)
	return fields
}

func (s *server) login(w http.ResponseWriter, r *http.Request) {
	in := s.body(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logins = append(s.logins, r.URL.Path)
	switch method := r.PathValue("method"); {
	case method == "approle" && in["role_id"] == roleID && in["secret_id"] == secretID, method == "kubernetes" && in["role"] == "muster" && in["jwt"] == "pod-token":
		token := fmt.Sprintf("hvs.%d", len(s.logins))
		s.tokens[token] = true
		answer(w, map[string]any{"data": nil, "auth": map[string]any{"client_token": token, "policies": []string{"default"}, "lease_duration": 1200, "renewable": true}})
	default:
		fail(w, 400, "invalid role or secret ID")
	}
}

func (s *server) authorized(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		known := s.tokens[r.Header.Get("X-Vault-Token")]
		s.mu.Unlock()
		if !known {
			fail(w, 403, "permission denied")
			return
		}
		next(w, r)
	}
}

func (s *server) chain(w http.ResponseWriter, _ *http.Request) {
	answer(w, map[string]any{"data": map[string]any{"certificate": text(s.inter.Raw) + text(s.root.Raw), "revocation_time": 0}})
}

func (s *server) sign(w http.ResponseWriter, r *http.Request) {
	in := s.body(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signs++
	if r.PathValue("role") != role {
		fail(w, 400, "unknown role: "+r.PathValue("role"))
		return
	}
	block, _ := pem.Decode([]byte(in["csr"]))
	if block == nil {
		fail(w, 400, "csr contains no data")
		return
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	lifetime, bad := time.ParseDuration(in["ttl"])
	if err != nil || bad != nil {
		fail(w, 400, "certificate request could not be parsed")
		return
	}
	if s.breaks != 0 {
		status := s.breaks
		s.breaks = 0
		fail(w, status, "1 error occurred:\n\t* unable to store certificate locally\n\n")
		return
	}
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 150))
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: csr.Subject.CommonName}, DNSNames: []string{csr.Subject.CommonName},
		NotBefore: time.Now().Add(-30 * time.Second), NotAfter: time.Now().Add(lifetime), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, s.inter, csr.PublicKey, s.key)
	if err != nil {
		fail(w, 500, err.Error())
		return
	}
	answer(w, map[string]any{"data": map[string]any{
		"certificate": text(der) + text(s.inter.Raw), "issuing_ca": text(s.inter.Raw), "ca_chain": []string{text(s.inter.Raw)}, "serial_number": dashed(serial, ":"),
		"expiration": time.Now().Add(lifetime).Unix(),
	}})
}

func (s *server) revoke(w http.ResponseWriter, r *http.Request) {
	in := s.body(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	serial := strings.ReplaceAll(in["serial_number"], "-", ":")
	if !strings.Contains(serial, ":") {
		fail(w, 400, "certificate with serial "+serial+" not found")
		return
	}
	s.revoked = append(s.revoked, strings.ReplaceAll(serial, ":", ""))
	answer(w, map[string]any{"data": map[string]any{"revocation_time": time.Now().Unix(), "revocation_time_rfc3339": time.Now().UTC().Format(time.RFC3339Nano), "state": "revoked"}})
}

func (s *server) certify(name string, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	s.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(5, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), s.rootKey)
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func text(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func dashed(n *big.Int, by string) string {
	var out []string
	for _, b := range n.Bytes() {
		out = append(out, fmt.Sprintf("%02x", b))
	}
	return strings.Join(out, by)
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

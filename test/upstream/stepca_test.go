package upstream_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.step.sm/crypto/jose"

	"github.com/passmuster/muster/ca"
)

const (
	provisioner = "muster"
	password    = "a password for the provisioner"
	// certificates of this step-ca are a device's: its usual template is a web server's.
	template = `{"subject": {"commonName": {{ toJson .Subject.CommonName }}}, "sans": {{ toJson .SANs }}, "keyUsage": ["digitalSignature"], "extKeyUsage": ["clientAuth"]}`
)

// stepCA is a real step-ca on loopback, with files made here.
type stepCA struct {
	t           *testing.T
	dir, addr   string
	root        *x509.Certificate
	fingerprint string

	mu     sync.Mutex
	log    bytes.Buffer // guarded by mu
	cmd    *exec.Cmd
	exited chan struct{}
}

// stepBinary is step-ca: what scripts/step-ca.sh finds, or builds.
func stepBinary(t *testing.T) string {
	t.Helper()
	path, err := exec.Command("../../scripts/step-ca.sh").Output()
	if err != nil {
		if os.Getenv("MUSTER_REQUIRE_EXTERNAL") == "1" {
			t.Fatalf("no step-ca: scripts/step-ca.sh: %v", err)
		}
		t.Skip("no step-ca: scripts/step-ca.sh cannot build it")
	}
	return strings.TrimSpace(string(path))
}

// newStepCA starts one whose provisioner signs by the template.
func newStepCA(t *testing.T, template string) *stepCA {
	t.Helper()
	stepBinary(t)
	s := &stepCA{t: t, dir: t.TempDir(), addr: freeAddress(t)}
	rootKey, key := newKey(t), newKey(t)
	s.root = s.certify("root", nil, rootKey, rootKey)
	s.certify("intermediate", s.root, rootKey, key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	s.must(err)
	s.file("intermediate.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	sum := sha256.Sum256(s.root.Raw)
	s.fingerprint = hex.EncodeToString(sum[:])
	public, sealed, err := jose.GenerateDefaultKeyPair([]byte(password))
	s.must(err)
	encrypted, err := sealed.CompactSerialize()
	s.must(err)
	config, err := json.MarshalIndent(map[string]any{
		"root": s.path("root.crt"), "crt": s.path("intermediate.crt"), "key": s.path("intermediate.key"), "address": s.addr,
		"dnsNames": []string{"127.0.0.1"}, "logger": map[string]any{"format": "json"}, "db": map[string]any{"type": "badgerv2", "dataSource": s.path("db")},
		"crl": map[string]any{"enabled": true, "generateOnRevoke": true},
		"authority": map[string]any{"provisioners": []any{map[string]any{
			"type": "JWK", "name": provisioner, "key": public, "encryptedKey": encrypted,
			"claims":  map[string]any{"minTLSCertDuration": "1m", "maxTLSCertDuration": "4800h", "defaultTLSCertDuration": "24h"},
			"options": map[string]any{"x509": map[string]any{"template": template}},
		}}},
	}, "", "  ")
	s.must(err)
	s.file("ca.json", config)
	s.file("password", []byte(password+"\n"))
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *stepCA) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stepCA) path(name string) string { return filepath.Join(s.dir, name) }

func (s *stepCA) file(name string, text []byte) { s.must(os.WriteFile(s.path(name), text, 0o600)) }

// Write takes the log.
func (s *stepCA) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(p)
}

func (s *stepCA) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// start runs it and waits until it answers.
func (s *stepCA) start() {
	s.t.Helper()
	s.cmd, s.exited = exec.Command(stepBinary(s.t), s.path("ca.json")), make(chan struct{})
	s.cmd.Stdout, s.cmd.Stderr = s, s
	s.cmd.Env = append(os.Environ(), "STEPPATH="+s.dir, "HOME="+s.dir)
	s.must(s.cmd.Start())
	exited := s.exited
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait() // it is killed in the end
		close(exited)
	}(s.cmd)
	client := s.client(nil)
	for end := time.Now().Add(30 * time.Second); ; {
		answer, err := client.Get("https://" + s.addr + "/health")
		if err == nil {
			_ = answer.Body.Close()
			return
		}
		select {
		case <-exited:
			s.t.Fatalf("step-ca ended: %s", s.said())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			s.t.Fatalf("step-ca does not answer: %v\n%s", err, s.said())
		}
	}
}

// stop ends it and waits until it is gone.
func (s *stepCA) stop() {
	_ = s.cmd.Process.Kill() // it may have ended already
	<-s.exited
}

// client trusts its root and may show a certificate.
func (s *stepCA) client(show *tls.Certificate) *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(s.root)
	conf := &tls.Config{RootCAs: pool}
	if show != nil {
		conf.Certificates = []tls.Certificate{*show}
	}
	transport := &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}
	return &http.Client{Timeout: 30 * time.Second, Transport: transport}
}

// renews says whether step-ca renews a certificate for who holds its key: it does until it
// is revoked.
func (s *stepCA) renews(leaf *x509.Certificate, key crypto.Signer) bool {
	s.t.Helper()
	answer, err := s.client(&tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}).Post("https://"+s.addr+"/1.0/renew", "application/json", strings.NewReader("{}"))
	s.must(err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	s.must(err)
	switch {
	case answer.StatusCode == http.StatusCreated:
		return true
	case answer.StatusCode != http.StatusUnauthorized:
		s.t.Errorf("renewing: %s: %s", answer.Status, text)
	}
	return false
}

// revoked is the serial numbers on its CRL.
func (s *stepCA) revoked() map[string]bool {
	s.t.Helper()
	answer, err := s.client(nil).Get("https://" + s.addr + "/1.0/crl")
	s.must(err)
	defer answer.Body.Close()
	der, err := io.ReadAll(answer.Body)
	s.must(err)
	list, err := x509.ParseRevocationList(der)
	s.must(err)
	out := map[string]bool{}
	for _, e := range list.RevokedCertificateEntries {
		out[hex.EncodeToString(e.SerialNumber.Bytes())] = true
	}
	return out
}

// signatures counts the certificates that it says it has signed.
func (s *stepCA) signatures() (n int) {
	for line := range strings.Lines(s.said()) {
		var entry struct {
			Path   string `json:"path"`
			Status int    `json:"status"`
		}
		if json.Unmarshal([]byte(line), &entry) == nil && strings.HasSuffix(entry.Path, "/sign") && entry.Status == http.StatusCreated {
			n++
		}
	}
	return n
}

func (s *stepCA) certify(name string, parent *x509.Certificate, by, key *ecdsa.PrivateKey) *x509.Certificate {
	s.t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	s.must(err)
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Factory " + name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(10 * 365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, MaxPathLen: 1,
	}
	if parent == nil {
		parent = t
	} else {
		t.MaxPathLen, t.MaxPathLenZero = 0, true
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), by)
	s.must(err)
	s.file(name+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	made, err := x509.ParseCertificate(der)
	s.must(err)
	return made
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// freeAddress is a port that nobody has. It stays below the range of outgoing connections.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// lastSerial is the serial number of the certificate that its log says it signed last.
func (s *stepCA) lastSerial() (serial ca.Serial) {
	s.t.Helper()
	for line := range strings.Lines(s.said()) {
		var entry struct {
			Path   string `json:"path"`
			Serial string `json:"serial"`
		}
		if json.Unmarshal([]byte(line), &entry) == nil && strings.HasSuffix(entry.Path, "/sign") && entry.Serial != "" {
			n, ok := new(big.Int).SetString(entry.Serial, 10)
			if !ok {
				s.t.Fatalf("a serial %q", entry.Serial)
			}
			serial = ca.SerialOf(n)
		}
	}
	return serial
}

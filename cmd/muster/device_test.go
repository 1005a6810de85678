package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/passmuster/muster/device"
)

const deviceScope = "0ne00TEST01"

// deviceService issues for whoever comes with a SAS token or a certificate of its own;
// refuse makes it answer that status instead.
type deviceService struct {
	url, caFile string
	ca          *x509.Certificate
	key         crypto.Signer
	refuse      atomic.Int32
	issued      atomic.Int32
}

func newDeviceService(t *testing.T) *deviceService {
	t.Helper()
	s := &deviceService{key: deviceTestKey(t)}
	s.ca = s.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, s.key.Public())
	serverKey := deviceTestKey(t)
	server := httptest.NewUnstartedServer(s)
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, Certificates: []tls.Certificate{{
		Certificate: [][]byte{s.leaf(t, "server", serverKey.Public()).Raw}, PrivateKey: serverKey,
	}}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	s.url = strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	s.caFile = deviceFile(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.ca.Raw})))
	return s
}

func (s *deviceService) sign(t *testing.T, template *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
	parent := s.ca
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, s.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (s *deviceService) leaf(t *testing.T, cn string, public crypto.PublicKey) *x509.Certificate {
	return s.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: cn}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(12 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}, public)
}

func (s *deviceService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	own := len(r.TLS.PeerCertificates) > 0 && r.TLS.PeerCertificates[0].CheckSignatureFrom(s.ca) == nil
	if !own && r.Header.Get("Authorization") == "" {
		s.refuse.CompareAndSwap(0, 401)
	}
	if status := int(s.refuse.Load()); status != 0 {
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"errorCode":%d,"message":"no"}`, status*1000)
		return
	}
	var body struct {
		RegistrationID string `json:"registrationId"`
		CSR            []byte `json:"csr"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	csr, err := x509.ParseCertificateRequest(body.CSR)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	serial := big.NewInt(time.Now().UnixNano())
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: csr.Subject, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(12 * time.Hour),
	}, s.ca, csr.PublicKey, s.key)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	s.issued.Add(1)
	w.WriteHeader(http.StatusAccepted)
	_ = json.NewEncoder(w).Encode(map[string]any{"operationId": "op.1", "status": "assigned", "registrationState": map[string]any{
		"registrationId": body.RegistrationID, "deviceId": body.RegistrationID, "assignedHub": "local", "status": "assigned",
		"issuedCertificateChain": [][]byte{der, s.ca.Raw},
	}})
}

func deviceTestKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func deviceFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// runDevice runs one command line of `muster device` and returns what it wrote.
func runDevice(t *testing.T, ctx context.Context, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var cli struct {
		Device deviceCmd `cmd:""`
	}
	var out, progress bytes.Buffer
	parser, err := kong.New(&cli, kong.BindTo(ctx, (*context.Context)(nil)), kong.Writers(&out, &progress), kong.Exit(func(int) { t.Error("exit") }))
	if err != nil {
		t.Fatal(err)
	}
	k, err := parser.Parse(append([]string{"device"}, args...))
	if err != nil {
		return "", "", err
	}
	err = k.Run()
	return out.String(), progress.String(), err
}

// environment points the commands at the service through the environment.
func (s *deviceService) environment(t *testing.T) {
	t.Setenv("MUSTER_DEVICE_URL", s.url)
	t.Setenv("MUSTER_ID_SCOPE", deviceScope)
	t.Setenv("MUSTER_CA_FILE", s.caFile)
}

func TestDeviceFromNothingToARenewedCertificate(t *testing.T) {
	service := newDeviceService(t)
	service.environment(t)
	t.Setenv(deviceKeyEnv, base64.StdEncoding.EncodeToString([]byte("a device key of some length")))
	dir := filepath.Join(t.TempDir(), "press-0042")
	ctx := t.Context()

	out, _, err := runDevice(t, ctx, "new", "press-0042", "--dir", dir, "--key-type", "p384")
	if err != nil || out != filepath.Join(dir, "key.pem")+"\n" {
		t.Fatalf("new: %q, %v", out, err)
	}
	if _, _, err := runDevice(t, ctx, "new", "press-0042", "--dir", dir); deviceCode(err) != 5 {
		t.Errorf("new over a device: %v", err)
	}
	out, progress, err := runDevice(t, ctx, "register", "press-0042", "--dir", dir)
	if err != nil || !strings.Contains(out, "hub\tlocal\n") || !strings.Contains(out, "slot\tb\n") || !strings.Contains(progress, "registered: assigned to local") {
		t.Fatalf("register: %q %q, %v", out, progress, err)
	}
	t.Setenv(deviceKeyEnv, "")
	if _, _, err := runDevice(t, ctx, "renew", "press-0042", "--dir", dir); err != nil {
		t.Fatalf("renew: %v", err)
	}
	if _, _, err := runDevice(t, ctx, "run", "--once", "press-0042", "--dir", dir); err != nil || service.issued.Load() != 2 {
		t.Fatalf("run --once with nothing due: %d certificates, %v", service.issued.Load(), err)
	}
	out, _, err = runDevice(t, ctx, "status", "press-0042", "--dir", dir, "-o", "json")
	var state device.State
	if err != nil || json.Unmarshal([]byte(out), &state) != nil || state.AssignedHub != "local" || state.Slot != "a" ||
		state.RenewAt.IsZero() || state.NotAfter.Before(state.RenewAt) {
		t.Errorf("status: %s, %v", out, err)
	}
	if _, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")); err != nil {
		t.Errorf("the files at the top of the folder: %v", err)
	}

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, _, err := runDevice(t, cancelled, "run", "press-0042", "--dir", dir); err != nil {
		t.Errorf("run, stopped: %v", err)
	}
}

func TestDeviceWithFactoryCertificateAndGroupKey(t *testing.T) {
	service := newDeviceService(t)
	service.environment(t)
	key := deviceTestKey(t)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	leaf := service.leaf(t, "press-0042", key.Public())
	certFile := deviceFile(t, "factory.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})))
	keyFile := deviceFile(t, "factory-key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	groupFile := deviceFile(t, "group.key", "Z3JvdXAgc2VjcmV0IGtleQ==\n")
	for _, flags := range [][]string{
		{"--factory-cert", certFile, "--factory-key", keyFile},
		{"--group-key-file", groupFile},
		{"--symmetric-key-file", groupFile},
	} {
		dir := filepath.Join(t.TempDir(), "d")
		args := append([]string{"run", "press-0042", "--once", "--dir", dir}, flags...)
		if out, _, err := runDevice(t, t.Context(), args...); err != nil || !strings.Contains(out, "hub\tlocal\n") {
			t.Errorf("%v: %q, %v", flags, out, err)
		}
	}
}

// deviceCode is the exit code of err, -1 when it is not the device commands' to give.
func deviceCode(err error) int {
	if code, ok := deviceExitCode(err); ok {
		return code
	}
	return -1
}

func TestDeviceExitCodes(t *testing.T) {
	service := newDeviceService(t)
	service.environment(t)
	keyFile := deviceFile(t, "device.key", "Z3JvdXAgc2VjcmV0IGtleQ==")
	garbage := deviceFile(t, "garbage", "not base64!")
	for _, tc := range []struct {
		name   string
		refuse int32
		args   []string
		want   int
	}{
		{"no credential at all", 0, []string{"register", "--timeout", "10s"}, 2},
		{"refused by the server", 401, []string{"register", "--symmetric-key-file", keyFile}, 6},
		{"a request the server does not like", 400, []string{"register", "--symmetric-key-file", keyFile}, 6},
		{"an unknown id scope", 404, []string{"register", "--symmetric-key-file", keyFile}, 3},
		{"a throttling server", 429, []string{"register", "--symmetric-key-file", keyFile}, 7},
		{"a failing server", 503, []string{"register", "--symmetric-key-file", keyFile}, 7},
		{"nobody there", 0, []string{"register", "--symmetric-key-file", keyFile, "--url", "https://localhost:1"}, 7},
		{"no answer in time", 0, []string{"register", "--symmetric-key-file", keyFile, "--timeout", "1ns"}, 7},
		{"no device to show", 0, []string{"status"}, 3},
		{"no device to renew", 0, []string{"renew"}, 3},
		{"plain http", 0, []string{"register", "--url", "http://localhost"}, 2},
		{"half a factory credential", 0, []string{"register", "--factory-cert", keyFile}, 2},
		{"a factory certificate that is none", 0, []string{"register", "--factory-cert", keyFile, "--factory-key", keyFile}, 2},
		{"two credentials", 0, []string{"register", "--symmetric-key-file", keyFile, "--group-key-file", keyFile}, 2},
		{"a key that is not base64", 0, []string{"register", "--symmetric-key-file", garbage}, 2},
		{"a CA file without a CA", 0, []string{"register", "--ca-file", garbage}, 2},
		{"no id scope", 0, []string{"register", "--id-scope", "", "--symmetric-key-file", keyFile}, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			service.refuse.Store(tc.refuse)
			args := append([]string{tc.args[0], "press-0042", "--dir", filepath.Join(t.TempDir(), "d")}, tc.args[1:]...)
			_, _, err := runDevice(t, t.Context(), args...)
			if err == nil || deviceCode(err) != tc.want {
				t.Errorf("code %d, want %d: %v", deviceCode(err), tc.want, err)
			}
		})
	}
	for _, id := range []string{"..", "a/b", "a."} {
		if _, _, err := runDevice(t, t.Context(), "new", id); deviceCode(err) != 2 {
			t.Errorf("id %q: %v", id, err)
		}
	}
	if _, ok := deviceExitCode(errors.New("foreign")); ok {
		t.Error("a foreign error was classified")
	}
}

package testkit

import (
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// NATSServer is a nats-server of a test's own, on loopback, that starts and stops.
type NATSServer struct {
	Address, MQTT string // host:port of its listeners

	t       testing.TB
	dir     string
	program string
	cmd     *exec.Cmd
}

// NewNATSServer starts a nats-server (scripts/nats-server.sh) with TLS for all its clients, which have to
// show a certificate below one of trusted (PEM). more is the rest of its configuration: accounts and
// authorization. Its certificate is signed by authority.
func NewNATSServer(t testing.TB, authority *Entity, trusted []byte, more string) *NATSServer {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	program, err := exec.Command(filepath.Join(filepath.Dir(here), "../../scripts/nats-server.sh")).Output()
	if err != nil {
		if os.Getenv("MUSTER_REQUIRE_EXTERNAL") == "1" {
			t.Fatalf("no nats-server: scripts/nats-server.sh: %v", err)
		}
		t.Skip("no nats-server: scripts/nats-server.sh cannot build it")
	}
	s := &NATSServer{Address: freeAddress(t), MQTT: freeAddress(t), t: t, dir: t.TempDir(), program: strings.TrimSpace(string(program))}
	own := issue(t, authority, "nats", []Option{asServer()})
	mutual := fmt.Sprintf("{cert_file: %q, key_file: %q, ca_file: %q, verify: true}",
		s.write("server.pem", own.PEM()), s.write("server.key", KeyPEM(t, own.Key)), s.write("trusted.pem", trusted))
	s.write("nats.conf", fmt.Appendf(nil, "server_name: test\nlisten: %s\ntls: %s\njetstream: {store_dir: %q}\nmqtt: {listen: %s, tls: %s}\n%s",
		s.Address, mutual, filepath.Join(s.dir, "store"), s.MQTT, mutual, more))
	s.Start()
	t.Cleanup(func() {
		s.Stop()
		if log, err := os.ReadFile(filepath.Join(s.dir, "log")); t.Failed() && err == nil {
			t.Logf("nats-server said:\n%s", log)
		}
	})
	return s
}

func (s *NATSServer) write(name string, text []byte) (path string) {
	s.t.Helper()
	path = filepath.Join(s.dir, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// Start runs the server, and waits until it listens: then it writes a file of its ports.
func (s *NATSServer) Start() {
	s.t.Helper()
	ports := s.t.TempDir()
	s.cmd = exec.Command(s.program, "-c", filepath.Join(s.dir, "nats.conf"), "--ports_file_dir", ports, "-l", filepath.Join(s.dir, "log"))
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if found, _ := filepath.Glob(filepath.Join(ports, "*.ports")); len(found) > 0 {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatal("nats-server does not listen")
		}
	}
}

// Stop kills the server.
func (s *NATSServer) Stop() {
	if s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Kill() // fails when it has ended
		_ = s.cmd.Wait()
	}
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// asServer makes a leaf a server's on loopback.
func asServer() Option {
	return func(o *order) {
		WithPurposes(x509.ExtKeyUsageServerAuth)(o)
		WithTemplate(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} })(o)
	}
}

package sim_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/test/instance"
)

// size is how large a fleet is run: an everyday one, or under `make soak` the one of the
// goal.
type size struct {
	devices        int
	life, duration time.Duration
	iso            string // life, ISO 8601
}

func sizeNow() size {
	if os.Getenv("MUSTER_SOAK") == "1" {
		return size{1000, 2 * time.Minute, 10 * time.Minute, "PT2M"}
	}
	return size{40, time.Minute, 75 * time.Second, "PT1M"}
}

// TestNobodyIsUnauthorizedWhileAFleetRolls is H5 and G1 at the size of a fleet: at no
// moment would the hub have refused the certificate that a device had.
func TestNobodyIsUnauthorizedWhileAFleetRolls(t *testing.T) {
	s, dir := sizeNow(), t.TempDir()
	muster, err := instance.Build(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	fleet := filepath.Join(dir, "mustersim")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", fleet, "github.com/passmuster/muster/cmd/mustersim").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	config := instance.Config{Binary: muster, Data: filepath.Join(dir, "data"), Devices: address(t), Admin: address(t), PKI: address(t), MQTT: address(t)}
	server := start(t, config)
	factory := filepath.Join(dir, "factory")
	makeFactory(t, factory)
	w := installation{dir, muster, config}
	admit(t, w, server, factory, s)

	ctx, stop := context.WithTimeout(t.Context(), s.duration+2*time.Minute)
	defer stop()
	report := filepath.Join(dir, "report.json")
	run := exec.CommandContext(ctx, fleet, "run", "--devices", strconv.Itoa(s.devices), "--duration", s.duration.String(), "--dir", filepath.Join(dir, "fleet"),
		"--url", server.Devices, "--id-scope", server.IDScope, "--ca-file", server.CAFile, "--factory-cert", factory+".crt", "--factory-key", factory+".key",
		"--hub-connection-file", w.hubConnection(t), "--check-every", "5s", "--report", report)
	run.Stderr = os.Stderr
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		time.Sleep(s.duration / 3) // the fleet lives on the clock on the wall
		server.Kill()
		server = start(t, config)
		if n == 0 {
			w.muster(t, "roll", "campaign", "create", "spring", "--act", "reprovision", "--group", "fleet", "--canary", "10%", "--waves", "2", "--yes")
		}
	}
	failed := run.Wait()
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err, failed)
	}
	t.Logf("%d devices, certificates of %s, for %s, killed twice: %s", s.devices, s.life, s.duration, text)
	if failed != nil {
		t.Error(failed)
	}
	var r struct{ Devices, Provisioned, Renewed, Checks, Unanswered, Unauthorized, Expired int }
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if r.Renewed < r.Devices || r.Checks-r.Unanswered < 2*r.Devices {
		t.Errorf("too little happened for this to say much: %+v", r)
	}
	campaign := w.muster(t, "roll", "campaign", "show", "spring")
	t.Logf("the campaign:\n%s", campaign)
	if !strings.Contains(campaign, "state\tdone\n") {
		t.Error("the campaign is not done")
	}
	if err := server.Stop(); err != nil {
		t.Error(err)
	}
	if out, err := exec.Command(muster, "doctor", "--data", config.Data).CombinedOutput(); err != nil {
		t.Errorf("muster doctor: %v\n%s", err, out)
	}
}

func start(t *testing.T, c instance.Config) *instance.Instance {
	t.Helper()
	s, err := instance.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

// address is a free one of this machine, for a server that comes back to it.
func address(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// makeFactory makes a factory's CA: BASE.crt and BASE.key.
func makeFactory(t *testing.T, base string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "Factory"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(5, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{base + ".crt": {Type: "CERTIFICATE", Bytes: der}, base + ".key": {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// admit lets the factory's devices in, by a profile of short certificates.
func admit(t *testing.T, w installation, server *instance.Instance, factory string, s size) {
	t.Helper()
	profile := filepath.Join(w.dir, "profile.yaml")
	text := "name: default\nlifetime: " + s.iso + "\nbackdate: PT10S\nrenewal: {prepareAt: 0.5, overlap: PT20S}\n"
	if err := os.WriteFile(profile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w.muster(t, "profile", "apply", "-f", profile)
	if err := server.Admit(t.Context(), "fleet", factory, true); err != nil {
		t.Fatal(err)
	}
}

// installation is the programs and the folder of a test.
type installation struct {
	dir, binary string
	config      instance.Config
}

// muster runs the command line as an operator of the server does.
func (w installation) muster(t *testing.T, args ...string) string {
	t.Helper()
	shell := append([]string{"-c", `. "$1" && shift && exec "$@"`, "sh", filepath.Join(w.config.Data, "dev.env"), w.binary}, args...)
	out, err := exec.CommandContext(t.Context(), "/bin/sh", shell...).CombinedOutput()
	if err != nil {
		t.Fatalf("muster %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// hubConnection is a file with the connection string of the hub's policy.
func (w installation) hubConnection(t *testing.T) string {
	t.Helper()
	file := filepath.Join(w.dir, "hub.connection")
	if err := os.WriteFile(file, []byte(w.muster(t, "access", "connection-string", "iothubowner", "--plane", "hub")), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

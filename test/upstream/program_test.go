package upstream_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// program is muster as an operator has it, built with step-ca, in production.
type program struct {
	t              *testing.T
	dir, binary    string
	token, idScope string

	cmd   *exec.Cmd
	ready struct{ Devices, Admin string }
	ended chan struct{}
	log   lines
}

// lines is a log that is written to and read at a time.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (l *lines) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.WriteString(line + "\n")
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// folder is what the program is built into.
var folder string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if folder, err = os.MkdirTemp("", "muster-upstream-"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(folder)
	return m.Run()
}

func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(folder, "muster")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-tags", "stepca", "-o", binary, "github.com/passmuster/muster/cmd/muster").CombinedOutput(); err != nil {
		t.Fatalf("building muster: %v\n%s", err, out)
	}
	return binary
}

func newProgram(t *testing.T, upstreams string) *program {
	t.Helper()
	p := &program{t: t, dir: t.TempDir(), binary: build(t)}
	p.file("passphrase", "correct horse battery staple\n")
	out := p.run("init", "--config", p.path("muster.yaml"), "--data", p.path("data"), "--passphrase-file", p.path("passphrase"), "--root-key-out", p.path("root-key.pem"),
		"--pki-url", "http://pki.example.net", "--devices", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--pki", "127.0.0.1:0", "--mqtt", "127.0.0.1:0",
		"--ops", freeAddress(t), "--hub", "hub-1.example.net")
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch name {
		case "MUSTER_TOKEN":
			p.token = value
		case "MUSTER_ID_SCOPE":
			p.idScope = value
		}
	}
	p.file("muster.yaml", p.read("muster.yaml")+upstreams)
	p.start()
	t.Cleanup(p.kill)
	return p
}

func (p *program) path(name string) string { return filepath.Join(p.dir, name) }

func (p *program) file(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(p.path(name), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *program) read(name string) string {
	p.t.Helper()
	raw, err := os.ReadFile(p.path(name))
	if err != nil {
		p.t.Fatal(err)
	}
	return string(raw)
}

// start serves and waits until it is ready.
func (p *program) start() {
	p.t.Helper()
	p.cmd, p.ended = exec.Command(p.binary, "serve", "--config", p.path("muster.yaml")), make(chan struct{})
	log, err := p.cmd.StderrPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	ready := make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		told := sync.OnceFunc(func() { close(ready) })
		for scan := bufio.NewScanner(log); scan.Scan(); {
			p.log.add(scan.Text())
			if strings.Contains(scan.Text(), `"msg":"ready"`) {
				_ = json.Unmarshal(scan.Bytes(), &p.ready) // what is missing is seen below
				told()
			}
		}
		_ = cmd.Wait() // it is killed in the end
		close(ended)
	}(p.cmd, p.ended)
	select {
	case <-ready:
	case <-p.ended:
		p.t.Fatalf("muster ended: %s", p.log.String())
	case <-time.After(30 * time.Second):
		p.t.Fatalf("muster is not ready: %s", p.log.String())
	}
}

func (p *program) kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.ended
}

// command is muster with what an operator and a device of this installation know.
func (p *program) command(args ...string) *exec.Cmd {
	c := exec.CommandContext(p.t.Context(), p.binary, args...)
	c.Dir = p.dir
	c.Env = append(os.Environ(), "MUSTER_ADMIN_URL=https://"+p.ready.Admin, "MUSTER_TOKEN="+p.token, "MUSTER_CA_FILE="+p.path("data/ca.pem"),
		"MUSTER_DEVICE_URL=https://"+strings.TrimPrefix(p.ready.Devices, "https://"), "MUSTER_ID_SCOPE="+p.idScope)
	return c
}

func (p *program) run(args ...string) string {
	p.t.Helper()
	c := p.command(args...)
	var talk bytes.Buffer
	c.Stderr = &talk
	out, err := c.Output()
	if err != nil {
		p.t.Fatalf("muster %s: %v: %s%s\n%s", strings.Join(args, " "), err, out, talk.String(), p.log.String())
	}
	return string(out)
}

func (p *program) metric(name string) string {
	p.t.Helper()
	address := strings.TrimSpace(between(p.read("muster.yaml"), "ops: ", "\n"))
	answer, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return between(string(text), name+" ", "\n")
}

func between(s, start, end string) string {
	_, s, _ = strings.Cut(s, start)
	s, _, _ = strings.Cut(s, end)
	return s
}

func TestTheProgramStandsInFrontOfAStepCA(t *testing.T) {
	step := newStepCA(t, template)
	proxy := newProxy(t, step.addr)
	p := newProgram(t, fmt.Sprintf(`
upstreams:
  factory:
    type: stepca
    url: https://%s
    caFile: %s
    provisioner: %s
    passwordFile: %s
upstreamTimeout: 8s
`, proxy.addr, step.path("root.crt"), provisioner, step.path("password")))
	if out := p.run("ca", "upstream", "list"); !strings.HasPrefix(out, "factory") {
		t.Errorf("the upstreams are %q", out)
	}
	p.run("ca", "upstream", "add", "factory", "--profile", "default", "--name", "Line 1")
	if out := p.run("ca", "list", "-o", "wide"); !strings.Contains(out, "Line 1") || !strings.Contains(out, "factory") {
		t.Errorf("the issuers are %q", out)
	}
	p.run("group", "create", "line-1", "--symmetric-key", "--profile", "default")
	var attestation struct {
		SymmetricKey struct{ PrimaryKey string }
	}
	if err := json.Unmarshal([]byte(p.run("group", "show", "line-1", "--keys", "-o", "json")), &attestation); err != nil || attestation.SymmetricKey.PrimaryKey == "" {
		t.Fatal("no key of the group", err)
	}
	p.file("group.key", attestation.SymmetricKey.PrimaryKey+"\n")

	for _, protocol := range []string{"dps-http", "est"} {
		device := "press-" + protocol
		p.run("device", "register", device, "--group-key-file", "group.key", "--protocol", protocol)
		certificate := p.path(device + "/cert.pem")
		if out, err := exec.Command("openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", step.path("root.crt"),
			"-untrusted", step.path("intermediate.crt"), certificate).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", protocol, err, out)
		}
	}
	if n := step.signatures(); n != 2 {
		t.Errorf("step-ca signed %d certificates, want 2", n)
	}
	if out := p.run("ca", "intent", "list", "--state", "issued", "-o", "name"); strings.Count(out, "\n") != 2 {
		t.Errorf("the issued intents are %q", out)
	}

	// Killed while step-ca's answer is on its way: nobody can know its serial number.
	proxy.hold()
	late := p.command("device", "register", "press-3", "--group-key-file", "group.key", "--timeout", "20s")
	if err := late.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); step.signatures() != 3; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("step-ca was not asked: %s", p.log.String())
		}
	}
	p.kill()
	_ = late.Process.Kill()
	_ = late.Wait() // it failed
	proxy.cut()
	proxy.release()
	p.start()
	for end := time.Now().Add(40 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		out := p.run("ca", "intent", "list", "--state", "orphaned")
		if strings.Contains(out, "press-3") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the orphan is not listed: %q\n%s", p.run("ca", "intent", "list"), p.log.String())
		}
	}
	if n := p.metric(`muster_upstream_backlog{id_scope="` + p.idScope + `",what="orphaned"}`); n != "1" {
		t.Errorf("the metric counts %q orphans", n)
	}
	id := strings.TrimSpace(p.run("ca", "intent", "list", "-o", "name"))
	p.run("ca", "intent", "resolve", id, "--serial", string(step.lastSerial()), "--note", "in the log of step-ca")
	for end := time.Now().Add(40 * time.Second); !step.revoked()[string(step.lastSerial())]; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("step-ca was not told: %s", p.run("ca", "intent", "list", "-o", "json"))
		}
	}
	p.run("device", "register", "press-3", "--group-key-file", "group.key")
	p.kill()
	if out, err := exec.Command(p.binary, "doctor", "--config", p.path("muster.yaml")).CombinedOutput(); err != nil {
		t.Errorf("doctor: %v: %s", err, out)
	}
}

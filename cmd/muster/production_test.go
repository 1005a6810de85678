package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/store/storetest"
)

// host is a folder in which production is set up, and commands are run as its operator.
type host struct {
	t   *testing.T
	dir string
}

func newHost(t *testing.T) host {
	h := host{t, t.TempDir()}
	t.Cleanup(func() { storetest.LintFolder(t, h.dir) })
	h.write("passphrase", "correct horse battery staple\n", 0o600)
	return h
}

func (h host) path(name string) string { return filepath.Join(h.dir, name) }

func (h host) write(name, text string, mode os.FileMode) {
	h.t.Helper()
	if err := os.WriteFile(h.path(name), []byte(text), mode); err != nil {
		h.t.Fatal(err)
	}
}

func (h host) read(name string) string {
	h.t.Helper()
	raw, err := os.ReadFile(h.path(name))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(raw)
}

// muster runs one command to its end.
func (h host) muster(args ...string) (code int, out, talk string) {
	h.t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(h.t.Context(), args, streams{strings.NewReader(""), &stdout, &stderr})
	return code, stdout.String(), stderr.String()
}

func (h host) init(more ...string) (out, talk string) {
	h.t.Helper()
	args := append([]string{
		"init", "--config", h.path("muster.yaml"), "--data", h.path("data"), "--passphrase-file", h.path("passphrase"),
		"--pki-url", "http://pki.example.net", "--devices", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--pki", "127.0.0.1:0", "--mqtt", "127.0.0.1:0",
		"--ops", "127.0.0.1:0", "--hub", "hub-1.example.net",
	}, more...)
	code, out, talk := h.muster(args...)
	if code != exitDone {
		h.t.Fatalf("init: exit %d: %s", code, talk)
	}
	return out, talk
}

// serve runs the service until the test ends, and returns its log's ready line.
func (h host) serve() (ready string) {
	h.t.Helper()
	ctx, stop := context.WithCancel(h.t.Context())
	r, w := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"serve", "--config", h.path("muster.yaml")}, streams{strings.NewReader(""), w, w})
		_ = w.Close()
	}()
	h.t.Cleanup(func() {
		stop()
		if code := <-done; code != exitDone {
			h.t.Errorf("serve: exit %d", code)
		}
	})
	first := make([]byte, 4096)
	n, err := r.Read(first)
	if err != nil {
		h.t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	return string(first[:n])
}

func TestProductionIsSetUpAndServes(t *testing.T) {
	h := newHost(t)
	out, _ := h.init("--root-key-out", h.path("root-key.pem"))
	token := strings.TrimPrefix(strings.SplitN(out, "\n", 2)[0], "MUSTER_TOKEN=")
	for _, name := range []string{"root-key.pem", "data/keys/kek.pem"} {
		if !strings.Contains(h.read(name), "ENCRYPTED") {
			t.Errorf("%s is not encrypted", name)
		}
	}
	keys, err := filepath.Glob(h.path("data/keys/*.pem"))
	if err != nil || len(keys) != 3 { // the issuing CA's, the log's and the key-encryption key: not the root's
		t.Fatalf("keys on the host: %v, %v", keys, err)
	}
	if err := os.Remove(h.path("root-key.pem")); err != nil { // it was taken away
		t.Fatal(err)
	}
	ready := h.serve()
	admin := between(ready, `"admin":"`, `"`)
	if admin == "" {
		t.Fatalf("not ready: %s", ready)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(h.read("data/ca.pem")))
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	t.Cleanup(client.CloseIdleConnections)
	for path, want := range map[string]int{"/api/v1/hubs": 200, "/readyz": 404, "/metrics": 404} { // INV-N4: apart
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+admin+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("GET %s: %d, want %d", path, resp.StatusCode, want)
		}
	}
	if code, _, talk := h.muster("doctor", "--config", h.path("muster.yaml")); code != exitDone {
		t.Errorf("doctor beside the server: exit %d: %s", code, talk)
	}
}

func TestADoorIsMovedToAListenerOfItsOwn(t *testing.T) {
	h := newHost(t)
	h.init("--root-key-out", filepath.Join(t.TempDir(), "root-key.pem"))
	moved := strings.Replace(h.read("muster.yaml"), `service: ""`, "service: 127.0.0.1:0", 1)
	moved = strings.Replace(moved, `hub: ""`, "hub: 127.0.0.1:0", 1)
	h.write("muster.yaml", moved, 0o600)
	ready := h.serve()
	at := func(name string) string {
		return "https://" + strings.TrimPrefix(between(ready, `"`+name+`":"`, `"`), "https://")
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(h.read("data/ca.pem")))
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	t.Cleanup(client.CloseIdleConnections)
	const arm = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Devices/provisioningServices/p/certificates?api-version=2022-02-05"
	for _, c := range []struct {
		listener, path string
		status         int
	}{
		{"service", "/enrollments/a?api-version=2021-10-01", 401},
		{"devices", "/enrollments/a?api-version=2021-10-01", 404}, // moved away
		{"hub", "/devices/a?api-version=2021-04-12", 401},
		{"devices", "/devices/a?api-version=2021-04-12", 404},
		{"devices", arm, 401}, // it stayed
		{"service", arm, 404},
	} {
		resp, err := client.Get(at(c.listener) + c.path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("GET %s at the %s listener: %d, want %d", c.path, c.listener, resp.StatusCode, c.status)
		}
	}
}

func TestTheHostMakesATokenWhenNoneIsLeft(t *testing.T) {
	h := newHost(t)
	h.init("--root-key-out", h.path("root-key.pem"))
	code, out, talk := h.muster("token", "create", "again", "--config", h.path("muster.yaml"), "--role", "security")
	if code != exitDone || !strings.HasPrefix(out, "mst_0ne") {
		t.Fatalf("exit %d, %q: %s", code, out, talk)
	}
	if code, _, _ := h.muster("token", "create", "again", "--config", h.path("muster.yaml")); code != exitConflict {
		t.Fatalf("a second token of the name: exit %d", code)
	}
	if code, _, _ := h.muster("token", "create", "x", "--config", h.path("muster.yaml"), "--role", "king"); code != exitUsage {
		t.Fatalf("no such role: exit %d", code)
	}
}

func between(s, before, after string) string {
	_, rest, _ := strings.Cut(s, before)
	found, _, _ := strings.Cut(rest, after)
	return found
}

func TestProductionRefusesWhatIsUnsafe(t *testing.T) {
	h := newHost(t)
	h.init("--keep-root")
	good := h.read("muster.yaml")
	tests := map[string]struct {
		change func()
		says   string
	}{
		"no passphrase": {func() {
			h.write("muster.yaml", strings.Replace(good, "passphraseFile: "+h.path("passphrase"), `passphraseFile: ""`, 1), 0o600)
		}, "write: keys: {passphraseFile:"},
		"a passphrase others can read":  {func() { h.chmod("passphrase", 0o644) }, "chmod 600"},
		"a short passphrase":            {func() { h.write("passphrase", "short", 0o600) }, "shorter than"},
		"another passphrase":            {func() { h.write("passphrase", "another horse battery", 0o600) }, "passphrase"},
		"a data folder others can read": {func() { h.chmod("data", 0o755) }, "chmod 700"},
		"the root's key on this host": {func() {
			h.write("muster.yaml", strings.Replace(good, "allowOnlineRoot: true", "allowOnlineRoot: false", 1), 0o600)
		}, "write: allowOnlineRoot: true"},
		"health on no listener of its own": {func() {
			h.write("muster.yaml", strings.Replace(good, "ops: 127.0.0.1:0", `ops: ""`, 1), 0o600)
		}, "write: listen: {ops:"},
		"an unknown key, with its line": {func() { h.write("muster.yaml", good+"bogus: 1\n", 0o600) }, "line "},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			tc.change()
			t.Cleanup(func() {
				h.write("muster.yaml", good, 0o600)
				h.write("passphrase", "correct horse battery staple\n", 0o600)
				h.chmod("passphrase", 0o600)
				h.chmod("data", 0o700)
			})
			code, _, talk := h.muster("serve", "--config", h.path("muster.yaml"))
			if code == exitDone || !strings.Contains(talk, tc.says) {
				t.Fatalf("exit %d, said %q; want it to say %q", code, talk, tc.says)
			}
		})
	}
	if code, _, talk := h.muster("init", "--config", h.path("muster.yaml"), "--passphrase-file", h.path("passphrase"), "--pki-url", "http://x.example"); code != exitConflict {
		t.Errorf("init over an installation: exit %d: %s", code, talk)
	}
}

func (h host) chmod(name string, mode os.FileMode) {
	h.t.Helper()
	if err := os.Chmod(h.path(name), mode); err != nil {
		h.t.Fatal(err)
	}
}

func TestADevelopmentServerKeepsToLoopback(t *testing.T) {
	h := newHost(t)
	code, _, talk := h.muster("serve", "--dev", "--data", h.path("dev"), "--admin", "0.0.0.0:0")
	if code != exitUsage || !strings.Contains(talk, "loopback") {
		t.Fatalf("exit %d: %s", code, talk)
	}
}

package authority_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/passmuster/muster/test/instance"
)

// binaries is the folder that the server is built into.
var binaries string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if binaries, err = os.MkdirTemp("", "muster-authority-"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(binaries)
	return m.Run()
}

var build = sync.OnceValues(func() (string, error) { return instance.Build(context.Background(), binaries) })

// world is a server, and a folder in which tools work.
type world struct {
	*testing.T
	*instance.Instance
	muster string
	folder string // ca.pem, root.pem, issuing.pem; a folder for each device
	issuer string // id of the issuing CA
}

// newWorld starts a server that is gone when the test ends.
func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	muster, err := build()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s, err := instance.Start(instance.Config{Binary: muster, Data: filepath.Join(dir, "data")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	w := &world{T: t, Instance: s, muster: muster, folder: filepath.Join(dir, "work")}
	if err := os.Mkdir(w.folder, 0o700); err != nil {
		t.Fatal(err)
	}
	var found struct {
		Items []struct{ ID, Role, Certificate string }
	}
	if err := s.Call(t.Context(), http.MethodGet, "/issuers", nil, &found); err != nil {
		t.Fatal(err)
	}
	for _, i := range found.Items {
		w.write(i.Role+".pem", i.Certificate)
		if i.Role == "issuing" {
			w.issuer = i.ID
		}
	}
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.folder, name) }

func (w *world) write(name, text string) {
	w.Helper()
	if err := os.WriteFile(w.path(name), []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
}

// run runs a program in the folder, wants it to succeed, and returns what it said.
func (w *world) run(name string, args ...string) string {
	w.Helper()
	out, good := w.try(name, args...)
	if !good {
		w.Fatalf("%s %s:\n%s", name, strings.Join(args, " "), out)
	}
	return out
}

// try runs a program in the folder and says whether it succeeded.
func (w *world) try(name string, args ...string) (out string, good bool) {
	w.Helper()
	cmd := exec.CommandContext(w.Context(), name, args...)
	cmd.Dir = w.folder
	cmd.Env = append(os.Environ(), "MUSTER_DEVICE_URL="+w.Devices, "MUSTER_ID_SCOPE="+w.IDScope, "MUSTER_CA_FILE="+w.CAFile, "no_proxy=*")
	said, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		w.Fatalf("%s: %v", name, err)
	}
	return string(said), err == nil
}

// enroll has a device register with the demo group's key: its certificate is then in
// ID/cert.pem, what signed that in ID/chain.pem.
func (w *world) enroll(id string) (serial string) {
	w.Helper()
	w.run(w.muster, "device", "register", id, "--group-key-file", filepath.Join(filepath.Dir(w.folder), "data", "demo-group.key"))
	_, serial, _ = strings.Cut(strings.TrimSpace(w.run("openssl", "x509", "-in", id+"/cert.pem", "-noout", "-serial")), "=")
	return serial
}

func (w *world) revoke(serial, reason string) {
	w.Helper()
	if err := w.Call(w.Context(), http.MethodPost, "/certificates/"+strings.ToLower(serial)+"/revoke", instance.Object{"reason": reason}, nil); err != nil {
		w.Fatal(err)
	}
}

// contains wants a text in what a program said.
func (w *world) contains(said string, wanted ...string) {
	w.Helper()
	for _, text := range wanted {
		if !strings.Contains(said, text) {
			w.Errorf("%q is missing in:\n%s", text, said)
		}
	}
}

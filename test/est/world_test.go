// Package est_test drives the program by EST clients that are nobody's of ours: curl with
// openssl, and strongSwan's pki.
package est_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/passmuster/muster/test/instance"
)

// object is a JSON object of the admin API.
type object = map[string]any

// world is a server, and a folder in which the clients work.
type world struct {
	*testing.T
	server *instance.Instance
	folder string
	base   string // of EST, without a label
}

// newWorld starts a server of its own. Without one of the clients the test is skipped,
// unless they are demanded.
func newWorld(t *testing.T, clients ...string) *world {
	t.Helper()
	for _, name := range append(clients, "openssl") {
		if _, err := exec.LookPath(name); err != nil && os.Getenv("MUSTER_REQUIRE_EXTERNAL") != "1" {
			t.Skipf("%s is not installed", name)
		}
	}
	dir := t.TempDir()
	binary := os.Getenv("MUSTER_BIN")
	if binary == "" {
		var err error
		if binary, err = instance.Build(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
	}
	s, err := instance.Start(instance.Config{Binary: binary, Data: filepath.Join(dir, "data")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	w := &world{T: t, server: s, folder: filepath.Join(dir, "client"), base: s.Devices + "/.well-known/est/"}
	if err := os.Mkdir(w.folder, 0o700); err != nil {
		t.Fatal(err)
	}
	return w
}

// run is a command in the folder; input goes to it, and what it printed comes back.
func (w *world) run(input []byte, name string, args ...string) []byte {
	w.Helper()
	out, talk, err := w.try(input, name, args...)
	if err != nil {
		w.Fatalf("%s %s: %v\n%s\n%s\nthe server said:\n%s", name, strings.Join(args, " "), err, out, talk, w.server.Log())
	}
	return out
}

func (w *world) try(input []byte, name string, args ...string) (out, talk []byte, err error) {
	w.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(w.Context(), name, args...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = w.folder, bytes.NewReader(input), &stdout, &stderr
	err = cmd.Run()
	return stdout.Bytes(), stderr.Bytes(), err
}

func (w *world) call(method, path string, in, out any) {
	w.Helper()
	if err := w.server.Call(w.Context(), method, path, in, out); err != nil {
		w.Fatal(err)
	}
}

// enrollment makes an individual enrollment with keys that nobody is told.
func (w *world) enrollment(id string) {
	w.Helper()
	w.call(http.MethodPut, "/enrollments/"+id, object{"attestation": object{"type": "symmetricKey"}, "credentialPolicyName": "default"}, nil)
}

// code makes a one-time code.
func (w *world) code(id string) string {
	w.Helper()
	var made struct{ Code string }
	w.call(http.MethodPost, "/codes", object{"registrationId": id}, &made)
	return made.Code
}

// request makes NAME.key and NAME.csr (DER) for a device.
func (w *world) request(name, id string) {
	w.Helper()
	w.run(nil, "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", name+".key")
	w.run(nil, "openssl", "req", "-new", "-key", name+".key", "-subj", "/CN="+id, "-outform", "DER", "-out", name+".csr")
}

// roots writes the server's CA certificates, one to a file, the root first.
func (w *world) roots() (files []string) {
	w.Helper()
	rest, err := os.ReadFile(w.server.CAFile)
	if err != nil {
		w.Fatal(err)
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return files
		}
		name := filepath.Join(w.folder, fmt.Sprintf("ca-%d.pem", len(files)))
		w.write(name, pem.EncodeToMemory(block))
		files = append(files, name)
	}
}

func (w *world) write(path string, content []byte) {
	w.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		w.Fatal(err)
	}
}

// verified writes NAME.pem, held to the server's root by openssl, and returns it.
func (w *world) verified(name string, certificate []byte) *x509.Certificate {
	w.Helper()
	block, _ := pem.Decode(certificate)
	if block == nil {
		w.Fatalf("no certificate in %q", certificate)
	}
	w.write(filepath.Join(w.folder, name+".pem"), pem.EncodeToMemory(block))
	w.run(nil, "openssl", "verify", "-CAfile", w.server.CAFile, "-purpose", "sslclient", name+".pem")
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		w.Fatal(err)
	}
	return cert
}

package est_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// pki runs a command of strongSwan's with the trust it needs.
func (w *world) pki(args ...string) []byte {
	w.Helper()
	return w.run(nil, "pki", w.trusting(args)...)
}

func (w *world) trusting(args []string) []string {
	for _, file := range w.roots() {
		args = append(args, "--cacert", file)
	}
	return args
}

// strongSwan knows no labels: its requests are for the server's first id scope.
func TestStrongSwan(t *testing.T) {
	w := newWorld(t, "pki")

	w.pki("--estca", "--url", w.server.Devices, "--caout", "fetched.pem", "--outform", "pem", "--force")
	fetched, err := filepath.Glob(filepath.Join(w.folder, "fetched*.pem"))
	if err != nil || len(fetched) != 2 {
		t.Fatalf("fetched %v, %v", fetched, err)
	}

	w.enrollment("swan-1")
	code := w.code("swan-1")
	w.request("first", "swan-1")
	first := w.verified("first", w.pki("--est", "--url", w.server.Devices, "--userpass", "swan-1:"+code, "--in", "first.csr", "--outform", "pem"))
	if first.Subject.CommonName != "swan-1" {
		t.Errorf("enrolled as %s", first.Subject)
	}

	w.request("next", "swan-1")
	next := w.verified("next", w.pki("--est", "--url", w.server.Devices, "--cert", "first.pem", "--key", "first.key", "--in", "next.csr", "--outform", "pem"))
	if next.SerialNumber.Cmp(first.SerialNumber) == 0 || next.Subject.CommonName != "swan-1" {
		t.Errorf("renewed to %s", next.Subject)
	}

	t.Run("a code is good once", func(t *testing.T) {
		w.request("again", "swan-1")
		_, talk, err := w.try(nil, "pki", w.trusting([]string{"--est", "--url", w.server.Devices, "--userpass", "swan-1:" + code, "--in", "again.csr"})...)
		if err == nil || !strings.Contains(string(talk), "401") {
			t.Errorf("%v: %s", err, talk)
		}
	})

	var line struct {
		Certificate struct{ RegistrationID string }
		Ancestors   []struct{ Relation string }
		Descendants []struct{ Depth int }
	}
	w.call("GET", "/certificates/"+first.SerialNumber.Text(16)+"/lineage", nil, &line)
	if line.Certificate.RegistrationID != "swan-1" || len(line.Ancestors) != 0 || len(line.Descendants) != 1 {
		t.Errorf("lineage %+v", line)
	}
	if log, err := os.ReadFile(filepath.Join(filepath.Dir(w.folder), "data.log")); err != nil || strings.Contains(string(log), code[4:]) {
		t.Errorf("the code is in the server's log, or there is none: %v", err)
	}
}

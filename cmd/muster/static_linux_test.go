package main

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheDefaultBinaryIsStaticAndSaysWhatItLacks(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "muster")
	build := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	f, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("it asks for a dynamic loader")
		}
	}
	if libraries, err := f.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("it needs %v, %v", libraries, err)
	}
	h := newHost(t)
	h.write("pin", "1234\n", 0o600)
	out, err := exec.Command(binary, "init", "--config", h.path("muster.yaml"), "--data", h.path("data"), "--passphrase-file", h.path("passphrase"),
		"--pki-url", "http://pki.example.net", "--keys-uri", "pkcs11:token=muster", "--pin-file", h.path("pin")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "built without pkcs11: use muster-cgo") {
		t.Errorf("init with an HSM: %v\n%s", err, out)
	}
}

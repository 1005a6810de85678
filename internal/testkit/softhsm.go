package testkit

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// SoftHSM is a token of SoftHSM2, an HSM in software, in a folder of the test.
type SoftHSM struct {
	URI     string // names module and token
	PIN     string
	PINFile string

	tokens string
}

// softHSMModules is where Debian and others put it.
var softHSMModules = []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so"}

// NewSoftHSM makes a token. It sets the environment, so the test cannot be parallel.
func NewSoftHSM(t *testing.T) *SoftHSM {
	t.Helper()
	module := ""
	for _, path := range softHSMModules {
		if _, err := os.Stat(path); err == nil {
			module = path
			break
		}
	}
	tool, err := exec.LookPath("softhsm2-util")
	if err != nil || module == "" {
		t.Fatal("SoftHSM2 is needed; on Debian: apt-get install softhsm2")
	}
	dir := t.TempDir()
	h := &SoftHSM{PIN: "48151623", PINFile: filepath.Join(dir, "pin"), tokens: filepath.Join(dir, "tokens"), URI: "pkcs11:module-path=" + module + ";token=muster"}
	conf := filepath.Join(dir, "softhsm2.conf")
	for path, text := range map[string]string{conf: "directories.tokendir = " + h.tokens + "\nobjectstore.backend = file\n", h.PINFile: h.PIN + "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(h.tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	out, err := exec.Command(tool, "--init-token", "--free", "--label", "muster", "--so-pin", "so-"+h.PIN, "--pin", h.PIN).CombinedOutput()
	if err != nil {
		t.Fatalf("making a token: %v\n%s", err, out)
	}
	return h
}

// TakeAway unplugs the token.
func (h *SoftHSM) TakeAway(t *testing.T) { h.move(t, h.tokens, h.tokens+"-gone") }

// BringBack plugs it in again.
func (h *SoftHSM) BringBack(t *testing.T) { h.move(t, h.tokens+"-gone", h.tokens) }

func (h *SoftHSM) move(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

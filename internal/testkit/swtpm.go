package testkit

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// SWTPM is a TPM 2.0 in software: a process of its own with a state of its own.
type SWTPM struct {
	Socket string // where it answers
	TCTI   string // the same for tpm2-tools
	dir    string
	stop   func()
}

// NewSWTPM starts one, which ends with the test.
func NewSWTPM(t testing.TB) *SWTPM {
	t.Helper()
	// A socket's path has no more than 107 octets: the test's own folder may be too deep.
	dir, err := os.MkdirTemp("", "swtpm")
	if err != nil {
		t.Fatal(err)
	}
	s := &SWTPM{Socket: filepath.Join(dir, "socket"), dir: dir}
	s.TCTI = "swtpm:path=" + s.Socket
	s.start(t)
	t.Cleanup(func() {
		s.stop()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Restart is a power cycle: what the TPM keeps stays.
func (s *SWTPM) Restart(t testing.TB) {
	t.Helper()
	s.stop()
	s.start(t)
}

func (s *SWTPM) start(t testing.TB) {
	t.Helper()
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+s.dir,
		"--server", "type=unixio,path="+s.Socket, "--ctrl", "type=unixio,path="+s.Socket+".ctrl", "--flags", "not-need-init,startup-clear")
	said := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatalf("swtpm is needed (Debian: swtpm): %v", err)
	}
	s.stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}
	for range 500 {
		if c, err := net.Dial("unix", s.Socket); err == nil {
			_ = c.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.stop()
	t.Fatalf("swtpm does not answer: %s", said)
}

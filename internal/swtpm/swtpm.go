// Package swtpm starts software TPMs: for tests and benches, which have to use a real one.
package swtpm

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// TPM is a TPM 2.0 in software: a process of its own with a state of its own.
type TPM struct {
	Socket string // where it answers
	dir    string
	cmd    *exec.Cmd
}

// Start starts one. A socket's path has no more than 107 octets, so its folder is not of the
// caller's choosing; Close removes it.
func Start() (*TPM, error) {
	dir, err := os.MkdirTemp("", "swtpm")
	if err != nil {
		return nil, err
	}
	t := &TPM{Socket: filepath.Join(dir, "socket"), dir: dir}
	if err := t.start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return t, nil
}

func (t *TPM) start() error {
	t.cmd = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+t.dir,
		"--server", "type=unixio,path="+t.Socket, "--ctrl", "type=unixio,path="+t.Socket+".ctrl", "--flags", "not-need-init,startup-clear")
	said := &bytes.Buffer{}
	t.cmd.Stdout, t.cmd.Stderr = said, said
	if err := t.cmd.Start(); err != nil {
		return fmt.Errorf("swtpm is needed (Debian: swtpm): %w", err)
	}
	for range 500 {
		if c, err := net.Dial("unix", t.Socket); err == nil {
			return c.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.stop()
	return fmt.Errorf("swtpm does not answer: %s", said)
}

func (t *TPM) stop() {
	_ = t.cmd.Process.Kill()
	_ = t.cmd.Wait() // it was killed
}

// Restart is a power cycle: what the TPM keeps stays.
func (t *TPM) Restart() error {
	t.stop()
	return t.start()
}

// Close ends it for good.
func (t *TPM) Close() error {
	t.stop()
	return os.RemoveAll(t.dir)
}

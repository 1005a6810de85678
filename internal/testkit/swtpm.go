package testkit

import (
	"testing"

	"github.com/passmuster/muster/internal/swtpm"
)

// SWTPM is a TPM 2.0 in software: a process of its own with a state of its own.
type SWTPM struct {
	Socket string // where it answers
	TCTI   string // the same for tpm2-tools
	tpm    *swtpm.TPM
}

// NewSWTPM starts one, which ends with the test.
func NewSWTPM(t testing.TB) *SWTPM {
	t.Helper()
	chip, err := swtpm.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := chip.Close(); err != nil {
			t.Error(err)
		}
	})
	return &SWTPM{Socket: chip.Socket, TCTI: "swtpm:path=" + chip.Socket, tpm: chip}
}

// Restart is a power cycle: what the TPM keeps stays.
func (s *SWTPM) Restart(t testing.TB) {
	t.Helper()
	if err := s.tpm.Restart(); err != nil {
		t.Fatal(err)
	}
}

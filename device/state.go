package device

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// State is what a device knows beside its credential, as state.json holds it: which
// hub to talk to, when to renew, what went wrong last. It may be lost without harm;
// the next registration learns it again.
type State struct {
	RegistrationID string `json:"registrationId"`
	DeviceID       string `json:"deviceId,omitempty"`
	AssignedHub    string `json:"assignedHub,omitempty"`
	// Slot and NotAfter repeat what the credential says, for people who read the file.
	Slot     string    `json:"slot,omitempty"`
	NotAfter time.Time `json:"notAfter,omitzero"`
	// Thumbprint (SHA-256, lower-case hex) is of the certificate RenewAt was drawn for.
	Thumbprint   string    `json:"thumbprint,omitempty"`
	RenewAt      time.Time `json:"renewAt,omitzero"`
	RegisteredAt time.Time `json:"registeredAt,omitzero"`
	LastError    string    `json:"lastError,omitempty"`
	LastErrorAt  time.Time `json:"lastErrorAt,omitzero"`
}

const stateFile = "state.json"

// maxState bounds what is read back: the file is a dozen short fields.
const maxState = 64 << 10

// State reads state.json; a folder without one has the zero State.
func (f *Folder) State() (State, error) {
	text, err := os.ReadFile(f.path(stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	}
	if err != nil {
		return State{}, fmt.Errorf("device: %w", err)
	}
	return parseState(text)
}

func parseState(text []byte) (State, error) {
	var s State
	if len(text) > maxState {
		return State{}, fmt.Errorf("device: %s is longer than %d bytes", stateFile, maxState)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return State{}, fmt.Errorf("device: %s is not readable: %w", stateFile, err)
	}
	return s, nil
}

// SaveState writes state.json as a new file and a rename.
func (f *Folder) SaveState(s State) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("device: %w", err)
	}
	unlock, err := lock(f.dir)
	if err != nil {
		return err
	}
	defer unlock()
	next := f.path(stateFile + ".new")
	for _, step := range []func() error{
		func() error { return f.disk.Remove(next) },
		func() error { return f.disk.Write(next, append(text, '\n')) },
		func() error { return f.disk.Rename(next, f.path(stateFile)) },
		func() error { return f.disk.Sync(f.dir) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("device: saving the state: %w", err)
		}
	}
	return nil
}

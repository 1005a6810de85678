package main

import (
	"fmt"
	"os"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

// quarantineConfig is about devices in quarantine.
type quarantineConfig struct {
	// Twin is a file with the initial twin that they get unless another is given; none: an empty one.
	Twin string `yaml:"twin,omitempty"`
}

func (c quarantineConfig) initialTwin() ([]byte, error) {
	if c.Twin == "" {
		return nil, nil
	}
	twin, err := os.ReadFile(c.Twin)
	if err != nil {
		return nil, fmt.Errorf("quarantine.twin: %w", err)
	}
	if err := provisioning.CheckTwin(twin); err != nil {
		return nil, fault.New(fault.Malformed, "config", "quarantine.twin: %s: %s", c.Twin, fault.As(err).Detail)
	}
	return twin, nil
}

package main

import (
	"cmp"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// brokersConfig is about brokers that ask whether a client may connect.
type brokersConfig struct {
	// AskAgain is the longest that an answer is good for; 0 = 1 h.
	AskAgain time.Duration `yaml:"askAgain,omitempty"`
}

const defaultAskAgain = time.Hour

func (c brokersConfig) askAgain() time.Duration { return cmp.Or(c.AskAgain, defaultAskAgain) }

func (c brokersConfig) check() error {
	if d := c.askAgain(); d < time.Minute || d > 7*24*time.Hour {
		return fault.New(fault.Malformed, "config", "brokers.askAgain: %s is not between 1m and 168h", d)
	}
	return nil
}

package main

import (
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// hubsConfig is about hubs that live elsewhere.
type hubsConfig struct {
	// CheckEvery is how often those that can be read are checked; none = 24 h, 0 = only when
	// somebody asks.
	CheckEvery *time.Duration `yaml:"checkEvery,omitempty"`
}

const (
	hubCheckEvery = 24 * time.Hour
	minHubCheck   = 10 * time.Minute
	maxHubCheck   = 30 * 24 * time.Hour
)

func (c hubsConfig) check() error {
	if d := c.checkEvery(); d != 0 && (d < minHubCheck || d > maxHubCheck) {
		return fault.New(fault.Malformed, "config", "hubs.checkEvery: %s is not 0, nor between %s and %s", d, minHubCheck, maxHubCheck)
	}
	return nil
}

func (c hubsConfig) checkEvery() time.Duration {
	if c.CheckEvery == nil {
		return hubCheckEvery
	}
	return *c.CheckEvery
}

package main

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

// tripwireConfig is about devices that look like two.
type tripwireConfig struct {
	// Window is how long sightings of a device count as one, and within how long two chains
	// have to come in turn; 0 = 24 h.
	Window time.Duration `yaml:"window,omitempty"`
	// Hold names the kinds for which a registration is held until it is released; none unless named.
	Hold []provisioning.TripwireKind `yaml:"hold,omitempty"`
}

func (c tripwireConfig) check() error {
	if c.Window != 0 && (c.Window < time.Minute || c.Window > 30*24*time.Hour) {
		return fault.New(fault.Malformed, "config", "tripwires.window: %s is not between 1m and 720h", c.Window)
	}
	for _, kind := range c.Hold {
		if !slices.Contains(provisioning.TripwireKinds(), kind) {
			return fault.New(fault.Malformed, "config", "tripwires.hold: %q is none of old-certificate, shared-key, two-chains", kind)
		}
	}
	return nil
}

func (c tripwireConfig) rule() provisioning.TripwireRule {
	return provisioning.TripwireRule{Window: c.Window, Hold: c.Hold}
}

// saveTripwiresEvery is how long what was seen waits to be told.
const saveTripwiresEvery = 5 * time.Second

// saveTripwires puts on record what this process sees of devices that look like two.
func (s *server) saveTripwires(ctx context.Context) {
	tick := time.NewTicker(saveTripwiresEvery)
	defer tick.Stop()
	for done := false; !done; {
		select {
		case <-ctx.Done():
			ctx, done = context.WithoutCancel(ctx), true
		case <-tick.C:
		}
		for _, h := range s.houses {
			if err := h.engine.SaveTripwires(ctx, h.db.ProvisioningJobs()); err != nil && ctx.Err() == nil {
				s.log.Error("saving tripwires", "idScope", h.idScope, "problem", err)
			}
		}
	}
}

// tripCounts counts the tripwires that this process put on record.
type tripCounts struct {
	mu     sync.Mutex
	counts map[provisioning.TripwireKind]float64
}

func (c *tripCounts) observe(kind provisioning.TripwireKind) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[provisioning.TripwireKind]float64{}
	}
	c.counts[kind]++
}

func (c *tripCounts) of(kind provisioning.TripwireKind) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[kind]
}

// tripwireCollector reports them by kind, also those that nobody tripped.
type tripwireCollector []*house

var tripwiresTotal = prometheus.NewDesc("muster_tripwires_total", "Devices that looked like two: put on record by this process, each once in its period.", []string{"id_scope", "kind"}, nil)

func (c tripwireCollector) Describe(ch chan<- *prometheus.Desc) { ch <- tripwiresTotal }

func (c tripwireCollector) Collect(ch chan<- prometheus.Metric) {
	for _, h := range c {
		for _, kind := range provisioning.TripwireKinds() {
			ch <- prometheus.MustNewConstMetric(tripwiresTotal, prometheus.CounterValue, h.trips.of(kind), h.idScope, string(kind))
		}
	}
}

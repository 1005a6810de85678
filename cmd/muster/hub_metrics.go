package main

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/passmuster/muster/provisioning"
)

// hubOutcomes counts how it went that the hubs of one id scope were told of devices. The
// zero value is ready to use.
type hubOutcomes struct {
	mu sync.Mutex
	n  map[[2]string]float64 // hub, outcome
}

func (o *hubOutcomes) observe(hub, outcome string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.n == nil {
		o.n = map[[2]string]float64{}
	}
	o.n[[2]string{hub, outcome}]++
}

// hubCollector reads how hubs that live elsewhere do. A device that its hub has not been told
// of waits, and its old certificate is not retired.
type hubCollector []*house

var (
	hubPending = prometheus.NewDesc("muster_hub_pending", "Devices that a hub is still to be told of.", []string{"id_scope", "hub"}, nil)
	hubOldest  = prometheus.NewDesc("muster_hub_oldest_pending_seconds", "For how long the oldest of them has waited.", []string{"id_scope", "hub"}, nil)
	hubCircuit = prometheus.NewDesc("muster_hub_circuit", "1 for the state in which the circuit of a hub is.", []string{"id_scope", "hub", "state"}, nil)
	hubDrift   = prometheus.NewDesc("muster_hub_drift", "Devices that a hub holds otherwise than it shall, as last checked.", []string{"id_scope", "hub", "kind"}, nil)
	hubChecked = prometheus.NewDesc("muster_hub_checked_timestamp_seconds", "When that was.", []string{"id_scope", "hub"}, nil)
	hubApplies = prometheus.NewDesc("muster_hub_applies_total", "How it went that a hub was told of a device.", []string{"id_scope", "hub", "outcome"}, nil)
)

func (c hubCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- hubPending
	ch <- hubOldest
	ch <- hubCircuit
	ch <- hubDrift
	ch <- hubChecked
	ch <- hubApplies
}

func (c hubCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, h := range c {
		linked, err := h.engine.LinkedHubs(ctx)
		if err != nil {
			ch <- prometheus.NewInvalidMetric(hubPending, err)
			continue
		}
		for _, hub := range linked {
			if hub.Driver == provisioning.BuiltIn {
				continue
			}
			waited := 0.0
			if !hub.Since.IsZero() {
				waited = max(0, time.Since(hub.Since).Seconds())
			}
			ch <- prometheus.MustNewConstMetric(hubPending, prometheus.GaugeValue, float64(hub.Ahead), h.idScope, hub.Name)
			ch <- prometheus.MustNewConstMetric(hubOldest, prometheus.GaugeValue, waited, h.idScope, hub.Name)
			if c := hub.Checked; c.Good() {
				for _, kind := range provisioning.HubDriftKinds {
					ch <- gauge(hubDrift, float64(c.Drift[kind]), h.idScope, hub.Name, string(kind))
				}
				ch <- gauge(hubChecked, float64(c.Ended.Unix()), h.idScope, hub.Name)
			}
			for _, state := range []provisioning.HubCircuit{provisioning.CircuitClosed, provisioning.CircuitOpen, provisioning.CircuitHalfOpen} {
				is := 0.0
				if hub.Circuit == state {
					is = 1
				}
				ch <- prometheus.MustNewConstMetric(hubCircuit, prometheus.GaugeValue, is, h.idScope, hub.Name, string(state))
			}
		}
		h.hubTold.collect(ch, h.idScope)
	}
}

func (o *hubOutcomes) collect(ch chan<- prometheus.Metric, idScope string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for of, n := range o.n {
		ch <- prometheus.MustNewConstMetric(hubApplies, prometheus.CounterValue, n, idScope, of[0], of[1])
	}
}

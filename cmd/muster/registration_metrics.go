package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// registrationCollector counts registrations that are nobody's, and devices that a hub may let in
// although they were retired.
type registrationCollector []*house

var (
	registrationsOrphaned = prometheus.NewDesc("muster_registrations_orphaned", "Registrations whose entry was deleted.", []string{"id_scope", "hub"}, nil)
	retirementsPending    = prometheus.NewDesc("muster_retirements_pending", "Retired devices that a hub has not confirmed to have removed.", []string{"id_scope"}, nil)
)

func (c registrationCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- registrationsOrphaned
	ch <- retirementsPending
}

func (c registrationCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, h := range c {
		hubs, err := h.engine.Orphaned(ctx)
		if err != nil {
			ch <- prometheus.NewInvalidMetric(registrationsOrphaned, err)
			continue
		}
		for _, n := range hubs {
			ch <- gauge(registrationsOrphaned, float64(n.Devices), h.idScope, n.Hub)
		}
		n, err := h.engine.PendingRetirements(ctx)
		if err != nil {
			ch <- prometheus.NewInvalidMetric(retirementsPending, err)
			continue
		}
		ch <- gauge(retirementsPending, float64(n), h.idScope)
	}
}

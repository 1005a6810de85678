package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// registrationCollector counts registrations that are nobody's, those that are held, and devices
// that a hub may let in although they were retired.
type registrationCollector []*house

var (
	registrationsOrphaned = prometheus.NewDesc("muster_registrations_orphaned", "Registrations whose entry was deleted.", []string{"id_scope", "hub"}, nil)
	registrationsHeld     = prometheus.NewDesc("muster_registrations_held", "Registrations that are refused until they are released.", []string{"id_scope"}, nil)
	retirementsPending    = prometheus.NewDesc("muster_retirements_pending", "Retired devices that a hub has not confirmed to have removed.", []string{"id_scope"}, nil)
)

func (c registrationCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- registrationsOrphaned
	ch <- registrationsHeld
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
		count(ctx, ch, h, registrationsHeld, h.engine.Held)
		count(ctx, ch, h, retirementsPending, h.engine.PendingRetirements)
	}
}

// count reports a number of an id scope's registrations.
func count(ctx context.Context, ch chan<- prometheus.Metric, h *house, of *prometheus.Desc, count func(context.Context) (int64, error)) {
	n, err := count(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(of, err)
		return
	}
	ch <- gauge(of, float64(n), h.idScope)
}

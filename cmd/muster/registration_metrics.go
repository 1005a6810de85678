package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/passmuster/muster/provisioning"
)

// registrationCollector counts registrations that are nobody's, held or in quarantine, and devices
// that a hub may let in although they were retired or taken off it.
type registrationCollector []*house

var (
	registrationsOrphaned = prometheus.NewDesc("muster_registrations_orphaned", "Registrations whose entry was deleted.", []string{"id_scope", "hub"}, nil)
	registrationsHeld     = prometheus.NewDesc("muster_registrations_held", "Registrations that are refused until they are released.", []string{"id_scope"}, nil)
	registrationsConfined = prometheus.NewDesc("muster_registrations_quarantined", "Devices in quarantine, by the hub where they are kept.", []string{"id_scope", "hub"}, nil)
	quarantinesPending    = prometheus.NewDesc("muster_quarantines_pending", "Devices whose quarantine, or its end, a hub has not confirmed.", []string{"id_scope"}, nil)
	retirementsPending    = prometheus.NewDesc("muster_retirements_pending", "Retired devices that a hub has not confirmed to have removed.", []string{"id_scope"}, nil)
)

func (c registrationCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- registrationsOrphaned
	ch <- registrationsHeld
	ch <- registrationsConfined
	ch <- quarantinesPending
	ch <- retirementsPending
}

func (c registrationCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, h := range c {
		countByHub(ctx, ch, h, registrationsOrphaned, h.engine.Orphaned)
		countByHub(ctx, ch, h, registrationsConfined, h.engine.Quarantined)
		count(ctx, ch, h, registrationsHeld, h.engine.Held)
		count(ctx, ch, h, quarantinesPending, h.engine.PendingQuarantines)
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

// countByHub reports a number of an id scope's registrations on each hub.
func countByHub(ctx context.Context, ch chan<- prometheus.Metric, h *house, of *prometheus.Desc, count func(context.Context) ([]provisioning.HubCount, error)) {
	hubs, err := count(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(of, err)
		return
	}
	for _, n := range hubs {
		ch <- gauge(of, float64(n.Devices), h.idScope, n.Hub)
	}
}

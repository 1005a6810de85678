package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// disallowCollector reports how far disallowances are: a hub that has not confirmed may let in what
// Muster refuses.
type disallowCollector []*house

var disallowRemaining = prometheus.NewDesc("muster_disallowance_remaining", "Devices whose hub has not confirmed that they are disallowed, or that they are no longer.", []string{"id_scope"}, nil)

func (c disallowCollector) Describe(ch chan<- *prometheus.Desc) { ch <- disallowRemaining }

func (c disallowCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, h := range c {
		n, err := h.engine.PendingDisallowed(ctx)
		if err != nil {
			ch <- prometheus.NewInvalidMetric(disallowRemaining, err)
			continue
		}
		ch <- gauge(disallowRemaining, float64(n), h.idScope)
	}
}

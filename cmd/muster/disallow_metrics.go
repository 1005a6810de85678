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

// disallowPage is how many disallowances are read at once.
const disallowPage = 500

func (c disallowCollector) Describe(ch chan<- *prometheus.Desc) { ch <- disallowRemaining }

func (c disallowCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, h := range c {
		n, err := h.disallowRemaining(ctx)
		if err != nil {
			ch <- prometheus.NewInvalidMetric(disallowRemaining, err)
			continue
		}
		ch <- gauge(disallowRemaining, float64(n), h.idScope)
	}
}

// disallowRemaining looks at the disallowances that are open. All are read to find them: each is an
// act of somebody's, so there are few.
func (h *house) disallowRemaining(ctx context.Context) (n int64, err error) {
	for before := ""; ; {
		page, err := h.engine.Disallowances(ctx, before, disallowPage)
		if err != nil {
			return 0, err
		}
		for _, i := range page {
			before = i.ID
			if !i.Done.IsZero() {
				continue
			}
			r, err := h.engine.Disallowance(ctx, i.ID)
			if err != nil {
				return 0, err
			}
			n += r.Pending()
		}
		if len(page) < disallowPage {
			return n, nil
		}
	}
}

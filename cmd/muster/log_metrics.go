package main

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// logCollector reads how the logs do. A log that is behind stops nothing, so nobody would
// notice otherwise.
type logCollector []*house

var (
	lastCheckpoint = prometheus.NewDesc("muster_audit_last_checkpoint_timestamp_seconds", "When the latest checkpoint of an id scope's log was written.", []string{"id_scope"}, nil)
	logBehind      = prometheus.NewDesc("muster_audit_log_behind", "Ledger rows that have no leaf in the log yet.", []string{"id_scope"}, nil)
)

func (c logCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- lastCheckpoint
	ch <- logBehind
}

func (c logCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, h := range c {
		st := h.log.state(ctx)
		if !st.written.IsZero() {
			ch <- prometheus.MustNewConstMetric(lastCheckpoint, prometheus.GaugeValue, float64(st.written.UnixMicro())/1e6, h.idScope)
		}
		ch <- prometheus.MustNewConstMetric(logBehind, prometheus.GaugeValue, float64(st.behind), h.idScope)
	}
}

// logCheck is one line about all logs, the first that is not well first.
func logCheck(ctx context.Context, houses []*house) string {
	for _, h := range houses {
		if st := h.log.state(ctx); st.problem != "" {
			return fmt.Sprintf("behind by %d: id scope %s: %s", st.behind, h.idScope, st.problem)
		}
	}
	return "ok"
}

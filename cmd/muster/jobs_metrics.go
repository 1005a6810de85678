package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/passmuster/muster/jobs"
)

// jobsCollector reads what there is of jobs. Jobs that stand still stop no device, so nobody
// would notice otherwise.
type jobsCollector struct{ jobs *jobs.Jobs }

var (
	jobsByState = prometheus.NewDesc("muster_jobs", "Jobs of a sweep, by state. Those that ended are kept for a minute.", []string{"kind", "state"}, nil)
	oldestJob   = prometheus.NewDesc("muster_job_oldest_seconds", "How long the first job of a sweep has waited to be worked.", []string{"kind"}, nil)
)

// Describe implements prometheus.Collector.
func (c jobsCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- jobsByState
	ch <- oldestJob
}

// Collect implements prometheus.Collector.
func (c jobsCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	all, err := c.jobs.Backlog(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(jobsByState, err)
		return
	}
	now, waited := time.Now(), map[string]float64{}
	for _, b := range all {
		ch <- prometheus.MustNewConstMetric(jobsByState, prometheus.GaugeValue, float64(b.Count), b.Sweep, b.State)
		waited[b.Sweep] += 0
		if b.State == "available" {
			waited[b.Sweep] = max(0, now.Sub(b.Oldest).Seconds())
		}
	}
	for kind, seconds := range waited {
		ch <- prometheus.MustNewConstMetric(oldestJob, prometheus.GaugeValue, seconds, kind)
	}
}

// jobsCheck is one line about the jobs of all id scopes, the first that does not move first.
func jobsCheck(ctx context.Context, all *jobs.Jobs, houses []*house) string {
	for _, h := range houses {
		sweeps, err := all.Status(ctx, h.idScope)
		if err != nil {
			return "their tables cannot be read"
		}
		for _, s := range sweeps {
			if s.Late {
				return "late: " + s.Sweep + " of id scope " + h.idScope
			}
		}
	}
	return "moving"
}

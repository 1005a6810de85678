package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/rotation"
)

// rotationSweepEvery is how often the planner looks for what is due.
const rotationSweepEvery = 15 * time.Second

// rotationConfig is about the planner.
type rotationConfig struct {
	// ClockJump is the step of the clock, ahead or back, that the planner takes for a jump; 0 = 1 h.
	ClockJump time.Duration `yaml:"clockJump,omitempty"`
	// ClockSteady is for how long a clock that jumped must go evenly before anything is rolled
	// by it; 0 = 10 min.
	ClockSteady time.Duration `yaml:"clockSteady,omitempty"`
}

func (c rotationConfig) check() error {
	for name, d := range map[string]time.Duration{"clockJump": c.ClockJump, "clockSteady": c.ClockSteady} {
		if d != 0 && (d < time.Minute || d > 24*time.Hour) {
			return fault.New(fault.Malformed, "config", "rotation.%s: %s is not between 1m and 24h", name, d)
		}
	}
	return nil
}

func (c rotationConfig) clock() rotation.ClockRule {
	rule := rotation.DefaultClockRule()
	if c.ClockJump != 0 {
		rule.Bound = c.ClockJump
	}
	if c.ClockSteady != 0 {
		rule.Steady = c.ClockSteady
	}
	return rule
}

func sweepRegistrations(ctx context.Context, h *house) (more bool, err error) {
	return h.engine.SweepRegistrations(ctx, h.db.ProvisioningJobs())
}

// rotationCollector says whether the planner holds still.
type rotationCollector []*house

var clockAlarm = prometheus.NewDesc("muster_clock_alarm", "1 while nothing is rolled because the clock jumped.", []string{"id_scope"}, nil)

func (c rotationCollector) Describe(ch chan<- *prometheus.Desc) { ch <- clockAlarm }

func (c rotationCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, h := range c {
		clock, err := h.engine.Clock(ctx)
		if err != nil {
			ch <- prometheus.NewInvalidMetric(clockAlarm, err)
			continue
		}
		alarm := 0.0
		if !clock.Jump.IsZero() {
			alarm = 1
		}
		ch <- prometheus.MustNewConstMetric(clockAlarm, prometheus.GaugeValue, alarm, h.idScope)
	}
}

package main

import (
	"context"
	"time"
)

// sweep finds in an id scope's tables what is due and does it, in bounded steps: run
// answers whether there is more. Nothing but the tables says what is due, so a sweep that
// was missed costs the time until the next one and no more.
type sweep struct {
	name  string
	every time.Duration
	run   func(ctx context.Context, h *house) (more bool, err error)
}

// sweeps are all there are.
var sweeps = []sweep{
	{"subscriptions", 5 * time.Second, func(ctx context.Context, h *house) (bool, error) {
		return h.engine.SweepSubscriptions(ctx, h.db.ProvisioningJobs())
	}},
	{"hubs", 2 * time.Second, func(ctx context.Context, h *house) (bool, error) {
		return h.engine.SweepHubs(ctx, h.db.ProvisioningJobs())
	}},
}

// devSweepEvery is how often a development server looks, whose certificates may live for
// minutes.
const devSweepEvery = time.Second

// keepSweeping runs one sweep until the server stops.
func (s *server) keepSweeping(ctx context.Context, h *house, w sweep) {
	every := w.every
	if s.config.dev {
		every = devSweepEvery
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		more, err := w.run(ctx, h)
		if err != nil && ctx.Err() == nil {
			s.log.Error("sweeping", "sweep", w.name, "idScope", h.idScope, "problem", err)
		}
		if more && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

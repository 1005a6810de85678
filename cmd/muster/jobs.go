package main

import (
	"cmp"
	"context"
	"path/filepath"
	"time"

	"github.com/passmuster/muster/api/admin"
	"github.com/passmuster/muster/jobs"
)

// The sweeps that keep CAs. A development server runs them no more often than others do:
// they are nudged when something waits.
const (
	tendIssuers   = "tend-issuers"
	tellUpstreams = "tell-upstreams"
)

const (
	tendEvery = time.Minute
	// upstreamSweepEvery is how often open intents and revocations to be told are looked for.
	upstreamSweepEvery = 15 * time.Second
	// hubChecksEvery is how often checks of hubs that were asked for are looked for; a hub of very
	// many devices is read to its end.
	hubChecksEvery = 5 * time.Second
	hubChecksLimit = 30 * time.Minute
)

// openJobs opens the jobs of every id scope in the installation's own database.
func (s *server) openJobs(ctx context.Context) (err error) {
	c := jobs.Config{File: filepath.Join(s.config.Data, "jobs.db"), Log: s.log, Observe: s.ops.swept}
	if c.DSN, err = s.config.dsn(); err != nil {
		return err
	}
	for _, h := range s.houses {
		c.Sweeps = append(c.Sweeps, s.sweepsOf(h)...)
	}
	if s.jobs, err = jobs.Open(ctx, c); err != nil {
		return err
	}
	s.ops.watchJobs(s.jobs)
	return nil
}

func (s *server) sweepsOf(h *house) []jobs.Sweep {
	out := []jobs.Sweep{{Scope: h.idScope, Name: tendIssuers, Every: tendEvery, Run: func(ctx context.Context) (bool, error) {
		return false, h.tend(ctx, s.houses[0])
	}}}
	if len(h.sweeper.Upstreams()) > 0 {
		every := min(upstreamSweepEvery, max(cmp.Or(s.config.UpstreamTimeout, upstreamSweepEvery), time.Second))
		out = append(out, jobs.Sweep{Scope: h.idScope, Name: tellUpstreams, Every: every, Run: func(ctx context.Context) (bool, error) {
			return false, h.sweepUpstreams(ctx)
		}})
	}
	if s.config.Brokers.NATS.URL != "" && h == s.houses[0] {
		out = append(out, s.dropSweep(h.idScope))
	}
	out = append(out, jobs.Sweep{Scope: h.idScope, Name: "hub-checks", Every: hubChecksEvery, Limit: hubChecksLimit, Run: func(ctx context.Context) (bool, error) {
		return h.engine.SweepHubChecks(ctx, h.db.ProvisioningJobs())
	}})
	for _, w := range sweeps {
		every := w.every
		if s.config.dev {
			every = devSweepEvery
		}
		out = append(out, jobs.Sweep{Scope: h.idScope, Name: w.name, Every: every, Run: func(ctx context.Context) (bool, error) { return w.run(ctx, h) }})
	}
	return out
}

// stopJobs is what sweeps get to end when the server stops.
const stopJobs = 10 * time.Second

func (s *server) closeJobs(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopJobs)
	defer cancel()
	return s.jobs.Stop(ctx)
}

// nudge has CRLs signed, upstreams told, disallowances carried on and clients dropped soon, because a certificate
// was revoked or disallowed or an issuer has moved in this process; which also takes note of it
// itself.
func (s *server) nudge(h *house) {
	for _, sweep := range []string{tendIssuers, tellUpstreams, carryDisallowances, dropSweep} {
		s.jobs.Nudge(h.idScope, sweep)
	}
	select {
	case s.moved <- struct{}{}:
	default:
	}
}

// jobsOf is how the jobs of one id scope do, for its operators.
type jobsOf struct {
	jobs    *jobs.Jobs
	idScope string
}

// Jobs implements admin.Jobs.
func (j jobsOf) Jobs(ctx context.Context) ([]admin.Job, error) {
	all, err := j.jobs.Status(ctx, j.idScope)
	if err != nil {
		return nil, err
	}
	var out []admin.Job
	for _, s := range all {
		job := admin.Job{Name: s.Sweep, Every: s.Every, Late: s.Late, Done: s.Done}
		if s.Last != nil {
			job.Last = &admin.JobRun{Started: s.Last.Started, Took: s.Last.Took, Outcome: string(s.Last.Outcome), Problem: s.Last.Problem, Process: s.Process}
		}
		out = append(out, job)
	}
	return out, nil
}

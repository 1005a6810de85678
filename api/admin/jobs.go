package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

// Jobs is how an id scope's jobs do, whichever process runs them.
type Jobs interface {
	// Jobs lists them all, by name.
	Jobs(ctx context.Context) ([]Job, error)
}

// Job is something that is done again and again.
type Job struct {
	Name  string
	Every time.Duration
	Late  bool
	Done  time.Time // when the last run began that came to its end; zero: none did
	Last  *JobRun   // nil: it did not run yet
}

// JobRun is the last run of a job.
type JobRun struct {
	Started                   time.Time
	Took                      time.Duration
	Outcome, Problem, Process string
}

type job struct {
	Name  string     `json:"name"`
	Every string     `json:"every" doc:"ISO 8601 duration."`
	State string     `json:"state" enum:"ok,failed,late,waiting" doc:"waiting: it did not run yet. late: it should have run by now."`
	Done  *time.Time `json:"doneDateTimeUtc,omitempty" doc:"When the last run began that came to its end."`
	Last  *jobRun    `json:"lastRun,omitempty"`
}

type jobRun struct {
	Started *time.Time `json:"startedDateTimeUtc"`
	Took    float64    `json:"seconds" doc:"How long it took."`
	Outcome string     `json:"outcome" enum:"done,failed,panicked,cut-off" doc:"cut-off: the process stopped, or it took more than two minutes."`
	Problem string     `json:"problem,omitempty" doc:"Why it is not done."`
	Process string     `json:"process" doc:"Which process ran it: its host and when it started."`
}

func jobOf(j Job) (job, error) {
	out := job{Name: j.Name, Every: formatDuration(j.Every), State: "ok", Done: instant(j.Done)}
	if r := j.Last; r != nil {
		out.Last = &jobRun{Started: instant(r.Started), Took: r.Took.Seconds(), Outcome: r.Outcome, Problem: r.Problem, Process: r.Process}
	}
	switch {
	case j.Late:
		out.State = "late"
	case j.Last == nil:
		out.State = "waiting"
	case j.Last.Outcome != "done":
		out.State = "failed"
	}
	return out, nil
}

func (d *door) addJobs() {
	add(d, route{"list-jobs", http.MethodGet, "/jobs", policies.ScopeRead, "jobs", "List the jobs of the id scope, and how their last runs went", false}, d.listJobs)
}

func (d *door) listJobs(ctx context.Context, in *Paging) (*listed[job], error) {
	if d.Jobs == nil {
		return nil, fault.New(fault.Unavailable, "jobs-not-here", "there are no jobs on this host")
	}
	all, err := d.Jobs.Jobs(ctx)
	if err != nil {
		return nil, err
	}
	return pageOfAll(d.Engine, all, *in, "jobs", func(j Job) string { return j.Name }, jobOf)
}

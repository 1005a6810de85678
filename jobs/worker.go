package jobs

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/riverqueue/river"
)

// args are a job's: which id scope it is for. The sweep is the job's kind.
type args struct {
	Scope string `json:"scope"`
	sweep string
}

// Kind implements river.JobArgs.
func (a args) Kind() string { return a.sweep }

// Outcome is how a run of a sweep ended.
type Outcome string

// The outcomes. A run is cut off when the process stops, or after the limit of its sweep.
const (
	Done     Outcome = "done"
	Failed   Outcome = "failed"
	Panicked Outcome = "panicked"
	CutOff   Outcome = "cut-off"
)

// Run is one job's worth of a sweep: as many pages as there were, within ten seconds.
type Run struct {
	Scope, Sweep string
	Started      time.Time
	Took         time.Duration
	Pages        int
	Outcome      Outcome
	Problem      string // why it is not done
}

// flight is a sweep in this process.
type flight struct {
	Sweep
	mu      sync.Mutex
	flying  bool
	waiting bool // somebody has asked for it since it took off
}

// enter is false when the sweep is at work here already, which then goes round again: what
// the second job was to find may have come after the first had looked.
func (f *flight) enter() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.flying {
		f.waiting = true
		return false
	}
	f.flying, f.waiting = true, false
	return true
}

// leave ends it, unless somebody has asked for it and it can go on.
func (f *flight) leave(goOn bool) (left, asked bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	asked, f.waiting = f.waiting, false
	if asked && goOn {
		return false, true
	}
	f.flying = false
	return true, asked
}

type worker struct {
	river.WorkerDefaults[args]
	jobs *Jobs
}

// Timeout is for River: 0 is the usual.
func (w *worker) Timeout(job *river.Job[args]) time.Duration {
	if f, served := w.jobs.sweeps[task{job.Args.Scope, job.Kind}]; served {
		return f.Limit
	}
	return 0
}

// Work never fails for River: a sweep's error is its own affair, and its next period the
// only retry.
func (w *worker) Work(ctx context.Context, job *river.Job[args]) error {
	f, served := w.jobs.sweeps[task{job.Args.Scope, job.Kind}]
	if !served {
		// A process that was started since knows an id scope that this one does not. Its
		// next period's job may meet a process that does.
		w.jobs.log.Debug("a job of an id scope that is not served here", "idScope", job.Args.Scope, "sweep", job.Kind)
		return nil
	}
	if f.enter() {
		w.jobs.work(ctx, f)
	}
	return nil
}

// work runs a sweep until there is no more, its time is over or something is wrong.
func (j *Jobs) work(ctx context.Context, f *flight) {
	run := Run{Scope: f.Scope, Sweep: f.Name, Started: time.Now(), Outcome: Done}
	for {
		more, err := j.page(ctx, f, &run)
		goOn := err == nil && ctx.Err() == nil && j.stopping.Err() == nil && time.Since(run.Started) < j.config.timing.burst
		if more && goOn {
			continue
		}
		left, asked := f.leave(goOn)
		if !left {
			continue
		}
		if err == nil && (more || asked) {
			j.Nudge(f.Scope, f.Name)
		}
		break
	}
	run.Took = time.Since(run.Started)
	j.ended(ctx, run)
}

// page runs one page and tells the run what became of it.
func (j *Jobs) page(ctx context.Context, f *flight, run *Run) (more bool, err error) {
	defer func() {
		if value := recover(); value != nil {
			more, err = false, fmt.Errorf("internal error: a sweep panicked: %v\n%s", value, debug.Stack())
			run.Outcome, run.Problem = Panicked, fmt.Sprintf("internal error: a sweep panicked: %v", value)
		}
	}()
	run.Pages++
	more, err = f.Run(ctx)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		run.Outcome, run.Problem = CutOff, err.Error()
	default:
		run.Outcome, run.Problem = Failed, err.Error()
	}
	return more, err
}

// ended puts a run on record. A record that cannot be written is no reason to do anything
// else: it says how the jobs do, and they do without.
func (j *Jobs) ended(ctx context.Context, run Run) {
	switch run.Outcome {
	case Failed, Panicked:
		j.log.Error("sweeping", "sweep", run.Sweep, "idScope", run.Scope, "problem", run.Problem)
	case CutOff:
		j.log.Warn("a sweep was cut off", "sweep", run.Sweep, "idScope", run.Scope, "after", run.Took.String())
	}
	if j.config.Observe != nil {
		j.config.Observe(run)
	}
	if run.Outcome == CutOff && j.stopping.Err() != nil {
		return // the process stopped: nothing is wrong with the sweep
	}
	if err := j.database.record(context.WithoutCancel(ctx), run, j.river.ID()); err != nil {
		j.log.Warn("recording a sweep's run", "sweep", run.Sweep, "idScope", run.Scope, "problem", err)
	}
}

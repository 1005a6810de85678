package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
)

// Sweep is something to be done again and again for one id scope. Run does one bounded
// page; more says that there is another. It must bear to be run by two processes at once,
// and to be cut off anywhere.
type Sweep struct {
	Scope string // id scope
	Name  string // kebab-case; the same for every id scope
	Every time.Duration
	Limit time.Duration // cancels a run; 0: two minutes
	Run   func(ctx context.Context) (more bool, err error)
}

// Config says where the jobs are kept, and what they are.
type Config struct {
	File   string // SQLite file, which no other process may use; or
	DSN    string // PostgreSQL, whose search_path is the schema used
	Sweeps []Sweep
	Log    *slog.Logger
	// Observe is told of every run that ended; nil: nobody is.
	Observe func(Run)

	timing timing
}

// timing is what tests make shorter.
type timing struct {
	burst, nudge, patience time.Duration
	promptly               bool // River's maintenance starts without its random pause
}

const (
	// burst is how long a job goes on while there is more, before it goes to the end of
	// the queue, where another process may take it.
	burst = 10 * time.Second
	// nudgeEvery is the least time between two inserts of nudges.
	nudgeEvery = 250 * time.Millisecond
	// patience is what a sweep gets to end by itself when the process stops.
	patience = 5 * time.Second

	// jobTimeout cancels a sweep's context. Pages are short; what is slow is a CA elsewhere.
	jobTimeout = 2 * time.Minute
	// rescueAfter is when a job of a process that was killed is put away. Nobody waits for
	// that: the next period has a job of its own.
	rescueAfter = 5 * time.Minute
	// retention is how long a job that ended is kept to be looked at.
	retention = time.Minute

	queue = "sweeps"
	// Store design §6: with River's own values a nudge waits behind 40 jobs a second.
	fetchCooldown = 10 * time.Millisecond
	workers       = 50
)

func (t timing) complete() timing {
	or := func(d, usual time.Duration) time.Duration {
		if d == 0 {
			return usual
		}
		return d
	}
	return timing{or(t.burst, burst), or(t.nudge, nudgeEvery), or(t.patience, patience), t.promptly}
}

// Jobs are open, and after Start at work.
type Jobs struct {
	config   Config
	log      *slog.Logger
	database *database
	river    client
	sweeps   map[task]*flight
	nudges   *nudges
	started  time.Time

	stopping   context.Context // ends when Stop begins
	stopSoon   context.CancelFunc
	background sync.WaitGroup
}

// task names a sweep of an id scope.
type task struct{ scope, name string }

// client is a river.Client of either database.
type client interface {
	Start(context.Context) error
	Stop(context.Context) error
	StopAndCancel(context.Context) error
	InsertMany(context.Context, []river.InsertManyParams) ([]*rivertype.JobInsertResult, error)
	ID() string
}

// Open opens the database, brings River's schema up to date, and starts nothing yet.
func Open(ctx context.Context, c Config) (*Jobs, error) {
	c.timing = c.timing.complete()
	j := &Jobs{config: c, log: c.Log, sweeps: map[task]*flight{}, nudges: newNudges()}
	j.stopping, j.stopSoon = context.WithCancel(context.WithoutCancel(ctx))
	registry := river.NewWorkers()
	var periodic []*river.PeriodicJob
	kinds := map[string]bool{}
	for _, s := range c.Sweeps {
		if j.sweeps[task{s.Scope, s.Name}] != nil {
			return nil, fmt.Errorf("internal error: two sweeps of id scope %s are called %s", s.Scope, s.Name)
		}
		j.sweeps[task{s.Scope, s.Name}] = &flight{Sweep: s}
		periodic = append(periodic, s.periodic())
		if !kinds[s.Name] {
			kinds[s.Name] = true
			// The kind is the sweep's name, so that River's own tools tell sweeps apart; River
			// would take it from a type of arguments for each.
			river.AddWorkerArgs(registry, args{sweep: s.Name}, &worker{jobs: j})
		}
	}
	var err error
	if j.database, err = openDatabase(ctx, c); err != nil {
		return nil, err
	}
	riverLog := slog.New(quieter{c.Log.Handler()})
	if err = j.database.migrate(ctx, riverLog); err == nil {
		j.river, err = j.database.client(&river.Config{
			Queues:  map[string]river.QueueConfig{queue: {MaxWorkers: workers}},
			Workers: registry, PeriodicJobs: periodic, Logger: riverLog,
			FetchCooldown: fetchCooldown,
			JobTimeout:    jobTimeout, RescueStuckJobsAfter: rescueAfter, MaxAttempts: 1,
			CompletedJobRetentionPeriod: retention, CancelledJobRetentionPeriod: retention, DiscardedJobRetentionPeriod: retention,
			TestOnly: c.timing.promptly,
		})
	}
	if err != nil {
		return nil, errors.Join(err, j.database.close())
	}
	return j, nil
}

// periodic is the sweep's job in each period, and when a process begins to lead. It is not
// one of River's unique jobs: those would take the job that a killed process left running
// for this period's, and the sweep would wait for the next.
func (s Sweep) periodic() *river.PeriodicJob {
	insert := &river.InsertOpts{Queue: queue}
	return river.NewPeriodicJob(river.PeriodicInterval(s.Every),
		func() (river.JobArgs, *river.InsertOpts) { return args{Scope: s.Scope, sweep: s.Name}, insert },
		&river.PeriodicJobOpts{RunOnStart: true})
}

// Start begins to work. The context's values are the sweeps'; its end is not waited for.
func (j *Jobs) Start(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	if err := j.river.Start(ctx); err != nil {
		return err
	}
	j.started = time.Now()
	j.background.Go(func() { j.carryNudges(j.stopping) })
	return nil
}

// Stop gives the sweeps at work a moment to end by themselves, cancels those that do not,
// and closes the database. With the context's end it no longer waits.
func (j *Jobs) Stop(ctx context.Context) error {
	j.stopSoon()
	j.background.Wait()
	kindly, cancel := context.WithTimeout(ctx, j.config.timing.patience)
	defer cancel()
	err := j.river.Stop(kindly)
	if errors.Is(err, context.DeadlineExceeded) {
		err = j.river.StopAndCancel(ctx)
	}
	return errors.Join(err, j.database.close())
}

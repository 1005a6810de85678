package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/passmuster/muster/internal/testpg"
)

func TestMain(m *testing.M) {
	if dsn := os.Getenv(mover); dsn != "" {
		if err := move(context.Background(), dsn); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// limit is more than any wait here takes.
const limit = 30 * time.Second

// onBoth runs a test with a place for jobs on each database. Processes that share it are
// opened with the same Config.
func onBoth(t *testing.T, f func(t *testing.T, c Config)) {
	t.Run("SQLite", func(t *testing.T) { f(t, Config{File: filepath.Join(t.TempDir(), "jobs.db")}) })
	t.Run("PostgreSQL", func(t *testing.T) { f(t, Config{DSN: testpg.DSN(t)}) })
}

func start(t *testing.T, c Config) *Jobs {
	t.Helper()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.timing.promptly = true
	j, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, j) })
	if err := j.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return j
}

func stop(t *testing.T, j *Jobs) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := j.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// counter is a sweep that counts its pages.
type counter struct {
	pages atomic.Int64
	seen  chan struct{} // one for each page, if somebody looks
}

func newCounter() *counter { return &counter{seen: make(chan struct{}, 1<<16)} }

func (c *counter) run(context.Context) (bool, error) {
	c.pages.Add(1)
	c.seen <- struct{}{}
	return false, nil
}

func (c *counter) await(t *testing.T, pages int) {
	t.Helper()
	late := time.After(limit)
	for range pages {
		select {
		case <-c.seen:
		case <-late:
			t.Fatalf("no more pages after %d", c.pages.Load())
		}
	}
}

func TestASweepRunsAtTheStartAndInEachPeriod(t *testing.T) {
	onBoth(t, func(t *testing.T, c Config) {
		quick, slow, other := newCounter(), newCounter(), newCounter()
		c.Sweeps = []Sweep{
			{Scope: "0neA", Name: "quick", Every: time.Second, Run: quick.run},
			{Scope: "0neA", Name: "slow", Every: time.Hour, Run: slow.run},
			{Scope: "0neB", Name: "quick", Every: time.Second, Run: other.run},
		}
		j := start(t, c)
		quick.await(t, 3)
		other.await(t, 3)
		slow.await(t, 1)
		all, err := j.Status(t.Context(), "0neA")
		if err != nil || len(all) != 2 || all[0].Sweep != "quick" || all[0].Last == nil || all[0].Last.Outcome != Done || all[0].Done.IsZero() || all[0].Late {
			t.Fatalf("status: %+v, %v", all, err)
		}
		if slow.pages.Load() != 1 {
			t.Errorf("the slow one ran %d times", slow.pages.Load())
		}
	})
}

func TestASweepWithMoreGoesOnAtOnceAndThenToTheEndOfTheQueue(t *testing.T) {
	onBoth(t, func(t *testing.T, c Config) {
		left := atomic.Int64{}
		left.Store(200)
		done := make(chan struct{})
		c.timing = timing{burst: 20 * time.Millisecond, nudge: time.Millisecond}
		var runs atomic.Int64
		c.Observe = func(Run) { runs.Add(1) }
		c.Sweeps = []Sweep{{Scope: "0neA", Name: "drain", Every: time.Hour, Run: func(context.Context) (bool, error) {
			time.Sleep(time.Millisecond)
			if left.Add(-1) == 0 {
				close(done)
			}
			return left.Load() > 0, nil
		}}}
		start(t, c)
		select {
		case <-done:
		case <-time.After(limit):
			t.Fatalf("%d pages were left", left.Load())
		}
		if runs.Load() < 2 || left.Load() != 0 {
			t.Errorf("%d jobs did it, %d left", runs.Load(), left.Load())
		}
	})
}

func TestASweepThatFailsOrPanicsIsOnRecordAndTriedAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, c Config) {
		fails, panics, well := newCounter(), newCounter(), newCounter()
		var mu sync.Mutex
		outcomes := map[string]Outcome{}
		c.Observe = func(r Run) {
			mu.Lock()
			defer mu.Unlock()
			outcomes[r.Sweep] = r.Outcome
		}
		c.Sweeps = []Sweep{
			{Scope: "0neA", Name: "fails", Every: time.Second, Run: func(ctx context.Context) (bool, error) {
				_, _ = fails.run(ctx)
				return true, errors.New("the disk is away") // more, but not now
			}},
			{Scope: "0neA", Name: "panics", Every: time.Second, Run: func(ctx context.Context) (bool, error) {
				_, _ = panics.run(ctx)
				panic("a bug")
			}},
			{Scope: "0neA", Name: "well", Every: time.Second, Run: well.run},
		}
		j := start(t, c)
		fails.await(t, 2)
		panics.await(t, 2)
		well.await(t, 3)
		if n := fails.pages.Load(); n > 6 {
			t.Errorf("a sweep that fails was run %d times in three periods", n)
		}
		mu.Lock()
		defer mu.Unlock()
		for name, want := range map[string]Outcome{"fails": Failed, "panics": Panicked, "well": Done} {
			if outcomes[name] != want {
				t.Errorf("%s: %q", name, outcomes[name])
			}
		}
		all, err := j.Status(t.Context(), "0neA")
		if err != nil || all[0].Last.Problem != "the disk is away" || !all[0].Done.IsZero() {
			t.Errorf("status: %+v, %v", all, err)
		}
	})
}

// complaining counts warnings.
type complaining struct {
	slog.Handler
	n *atomic.Int64
}

func (c complaining) Enabled(context.Context, slog.Level) bool { return true }

func (c complaining) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		c.n.Add(1)
	}
	return nil
}

func TestNudgesInARowAreFewJobs(t *testing.T) {
	onBoth(t, func(t *testing.T, c Config) {
		n := newCounter()
		var complaints atomic.Int64
		c.Log = slog.New(complaining{slog.DiscardHandler, &complaints})
		c.Sweeps = []Sweep{{Scope: "0neA", Name: "nudged", Every: time.Hour, Run: n.run}}
		j := start(t, c)
		n.await(t, 1)
		for range 10_000 {
			j.Nudge("0neA", "nudged")
		}
		n.await(t, 1)
		time.Sleep(2 * nudgeEvery)
		if got := n.pages.Load(); got > 3 {
			t.Errorf("10,000 nudges at once were %d runs", got-1)
		}
		if got := complaints.Load(); got > 0 {
			t.Errorf("%d warnings", got)
		}
		j.Nudge("0neA", "unknown") // nobody's business
	})
}

func TestANudgeDuringARunIsNotLost(t *testing.T) {
	onBoth(t, func(t *testing.T, c Config) {
		var j *Jobs
		n, begun, goOn := newCounter(), make(chan struct{}, 10), make(chan struct{})
		c.Sweeps = []Sweep{{Scope: "0neA", Name: "nudged", Every: time.Hour, Run: func(ctx context.Context) (bool, error) {
			begun <- struct{}{}
			<-goOn
			return n.run(ctx)
		}}}
		j = start(t, c)
		<-begun
		j.Nudge("0neA", "nudged")
		f := j.sweeps[task{"0neA", "nudged"}]
		for late := time.Now().Add(limit); ; time.Sleep(time.Millisecond) {
			f.mu.Lock()
			waiting := f.waiting
			f.mu.Unlock()
			if waiting {
				break
			}
			if time.Now().After(late) {
				t.Fatal("the second job did not come")
			}
		}
		close(goOn)
		n.await(t, 2)
	})
}

func TestEmptiedTablesLoseNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, c Config) {
		n := newCounter()
		c.Sweeps = []Sweep{{Scope: "0neA", Name: "quick", Every: time.Second, Run: n.run}}
		j := start(t, c)
		n.await(t, 1)
		for _, table := range []string{"river_job", "river_leader", "river_queue", "sweep_runs"} {
			if err := j.database.exec(t.Context(), "DELETE FROM "+table); err != nil {
				t.Fatal(err)
			}
		}
		for len(n.seen) > 0 {
			<-n.seen
		}
		n.await(t, 8) // past the next election
	})
}

func TestStopGivesASweepAMomentAndThenCutsItOff(t *testing.T) {
	onBoth(t, func(t *testing.T, c Config) {
		begun := make(chan string, 2)
		ended := make(chan Run, 2)
		c.timing.patience = 200 * time.Millisecond
		c.Observe = func(r Run) { ended <- r }
		c.Log = slog.New(slog.DiscardHandler)
		c.timing.promptly = true
		c.Sweeps = []Sweep{
			{Scope: "0neA", Name: "ends", Every: time.Hour, Run: func(ctx context.Context) (bool, error) {
				begun <- "ends"
				time.Sleep(50 * time.Millisecond)
				return true, ctx.Err()
			}},
			{Scope: "0neA", Name: "hangs", Every: time.Hour, Run: func(ctx context.Context) (bool, error) {
				begun <- "hangs"
				<-ctx.Done()
				return false, ctx.Err()
			}},
		}
		j, err := Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			select {
			case <-begun:
			case <-time.After(limit):
				t.Fatal("nothing began")
			}
		}
		stop(t, j)
		want := map[string]Outcome{"ends": Done, "hangs": CutOff}
		for range 2 {
			if r := <-ended; r.Outcome != want[r.Sweep] {
				t.Errorf("%s: %s", r.Sweep, r.Outcome)
			}
		}
	})
}

func TestAFileOfAnEarlierProcessIsMadeAnew(t *testing.T) {
	c := Config{File: filepath.Join(t.TempDir(), "jobs.db"), Log: slog.New(slog.DiscardHandler)}
	n := newCounter()
	c.Sweeps = []Sweep{{Scope: "0neA", Name: "once", Every: time.Hour, Run: n.run}}
	for range 2 {
		j := start(t, c)
		n.await(t, 1) // though a leader and a job of this hour are in the file
		stop(t, j)
	}
}

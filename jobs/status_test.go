package jobs

import (
	"testing"
	"time"
)

func TestASweepIsLateThatDidNotRunForThreePeriodsAndTheLongestRun(t *testing.T) {
	up := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) *Run { return &Run{Started: up.Add(d)} }
	for name, c := range map[string]struct {
		last *Run
		now  time.Duration
		want bool
	}{
		"it did not run yet":  {nil, 4 * time.Minute, false},
		"it never ran":        {nil, 6 * time.Minute, true},
		"it ran a period ago": {at(10 * time.Minute), 11 * time.Minute, false},
		"it ran long ago":     {at(10 * time.Minute), 16 * time.Minute, true},
		"it ran before this process, which just came": {at(-24 * time.Hour), time.Minute, false},
		"the clock went back":                         {at(time.Hour), time.Minute, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := late(Status{Every: time.Minute, Last: c.last}, jobTimeout, up, up.Add(c.now)); got != c.want {
				t.Errorf("late is %v", got)
			}
		})
	}
}

func TestTheBacklogTellsWhatWaitsAndWhatIsWorked(t *testing.T) {
	onBoth(t, func(t *testing.T, c Config) {
		n := newCounter()
		c.Sweeps = []Sweep{{Scope: "0neA", Name: "once", Every: time.Hour, Run: n.run}}
		j := start(t, c)
		n.await(t, 1)
		for give := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
			all, err := j.Backlog(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			// It was enqueued in this minute, by the same clock.
			if len(all) == 1 && all[0].Sweep == "once" && all[0].State == "completed" && all[0].Count == 1 && time.Since(all[0].Oldest).Abs() < time.Minute {
				return
			}
			if time.Now().After(give) {
				t.Fatalf("the backlog is %+v", all)
			}
		}
	})
}

package admin

import (
	"context"
	"net/http"
	"testing"
	"time"
)

type someJobs []Job

func (s someJobs) Jobs(context.Context) ([]Job, error) { return s, nil }

func TestJobsAreListedWithTheirLastRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.get("/jobs").want(http.StatusServiceUnavailable, "jobs-not-here")
	at := w.now()
	w.door.Jobs = someJobs{
		{Name: "asleep", Every: time.Minute},
		{Name: "broken", Every: 90 * time.Second, Done: at.Add(-time.Hour), Last: &JobRun{Started: at, Took: 250 * time.Millisecond, Outcome: "failed", Problem: "the disk is away", Process: "a"}},
		{Name: "late", Every: time.Minute, Late: true, Last: &JobRun{Started: at, Outcome: "done", Process: "a"}},
		{Name: "well", Every: time.Minute, Done: at, Last: &JobRun{Started: at, Outcome: "done", Process: "b"}},
	}
	a := w.get("/jobs").want(http.StatusOK)
	for i, state := range []string{"waiting", "failed", "late", "ok"} {
		if got := a.at("items").([]any)[i].(map[string]any)["state"]; got != state {
			t.Errorf("job %d is %v, and should be %s", i, got, state)
		}
	}
	broken := a.at("items").([]any)[1].(map[string]any)
	if last := broken["lastRun"].(map[string]any); broken["every"] != "PT1M30S" || last["seconds"] != 0.25 || last["problem"] != "the disk is away" {
		t.Errorf("it is shown as %v", broken)
	}
	if names := w.walk("/jobs", "name", 1, func(int) {}); len(names) != 4 {
		t.Errorf("in pages there are %v", names)
	}
}

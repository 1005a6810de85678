package main

import (
	"strings"
	"testing"
	"time"
)

func TestHowTheJobsDoIsSeenFromOutside(t *testing.T) {
	s := newDevServer(t)
	done := `muster_job_runs_total{kind="tend-issuers",outcome="done"} `
	for give := time.Now().Add(time.Minute); !strings.Contains(s.ops("/metrics"), done); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(give) {
			t.Fatal("no job has run")
		}
	}
	metrics := s.ops("/metrics")
	for _, want := range []string{`muster_jobs{kind="tend-issuers",state="`, `muster_job_oldest_seconds{kind="tend-issuers"} 0`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics have no %s", want)
		}
	}
	if ready := s.ops("/readyz?verbose"); !strings.Contains(ready, `"jobs":"moving"`) {
		t.Errorf("readyz: %s", ready)
	}
}

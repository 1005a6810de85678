package store

import (
	"sync/atomic"
	"time"
)

// Stats are counters since the engine was opened.
type Stats struct {
	Views      int64 // snapshots answered
	Updates    int64 // functions run for an Update, refused ones too
	Statements int64 // statements those functions asked for
	Trips      int64 // round trips of Updates; 0 on SQLite
	Commits    int64 // transactions committed; on SQLite one commits many Updates
	Reruns     int64 // functions run again
	Failures   int64 // commits that failed as a whole
}

// Sample is what one Update took. On SQLite Ran and Committed are shared by the Batch.
type Sample struct {
	Lane      Lane
	Batch     int           // Updates in the same commit
	Waited    time.Duration // until its function began
	Ran       time.Duration // its function
	Committed time.Duration // the commit
	Failed    bool          // it was answered with an error
}

// Meter keeps an engine's counters and passes samples on. The zero Meter counts only.
type Meter struct {
	Observe func(Sample) // called after each Update; must be quick and safe for concurrent use

	views, updates, statements, trips, commits, reruns, failures atomic.Int64
}

// View counts a snapshot.
func (m *Meter) View() { m.views.Add(1) }

// Function counts a function that was run for an Update, and its statements.
func (m *Meter) Function(statements int, again bool) {
	m.updates.Add(1)
	m.statements.Add(int64(statements))
	if again {
		m.reruns.Add(1)
	}
}

// Trip counts a round trip.
func (m *Meter) Trip() { m.trips.Add(1) }

// Commit counts a commit that was tried.
func (m *Meter) Commit(ok bool) {
	if ok {
		m.commits.Add(1)
	} else {
		m.failures.Add(1)
	}
}

// Sample passes a sample on.
func (m *Meter) Sample(s Sample) {
	if m.Observe != nil {
		m.Observe(s)
	}
}

// Stats reads the counters.
func (m *Meter) Stats() Stats {
	return Stats{
		Views: m.views.Load(), Updates: m.updates.Load(), Statements: m.statements.Load(), Trips: m.trips.Load(),
		Commits: m.commits.Load(), Reruns: m.reruns.Load(), Failures: m.failures.Load(),
	}
}

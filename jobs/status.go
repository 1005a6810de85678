package jobs

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// Status is how a sweep does, whichever process runs it.
type Status struct {
	Sweep   string
	Every   time.Duration
	Last    *Run      // nil: it did not run yet
	Process string    // that ran it last
	Done    time.Time // when the last run began that came to its end; zero: none did
	Late    bool      // it should have run by now
}

// Status lists the sweeps of an id scope, by name.
func (j *Jobs) Status(ctx context.Context, scope string) ([]Status, error) {
	runs, err := j.database.runs(ctx, scope)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	var all []Status
	for t, f := range j.sweeps {
		if t.scope != scope {
			continue
		}
		s := runs[t.name]
		s.Sweep, s.Every = t.name, f.Every
		s.Late = late(s, cmp.Or(f.Limit, jobTimeout), j.started, now)
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(a.Sweep, b.Sweep) })
	return all, nil
}

// late allows for a leader that was killed, and for the longest run: a run is known when it
// has ended.
func late(s Status, limit time.Duration, up, now time.Time) bool {
	since := up
	if s.Last != nil && s.Last.Started.After(since) {
		since = s.Last.Started
	}
	return now.Sub(since) > 3*s.Every+limit
}

// Backlog counts jobs of one sweep, of all id scopes, in one of River's states: available,
// running, completed and the like.
type Backlog struct {
	Sweep, State string
	Count        int64
	Oldest       time.Time // when the first of them was due
}

const (
	backlogPostgres = "SELECT kind, state::text, count(*), extract(epoch FROM min(scheduled_at))::float8 FROM river_job GROUP BY kind, state ORDER BY kind, state"
	backlogSQLite   = "SELECT kind, state, count(*), unixepoch(min(scheduled_at), 'subsec') FROM river_job GROUP BY kind, state ORDER BY kind, state"
)

// Backlog lists what there is of jobs. Those that ended are kept for a minute.
func (j *Jobs) Backlog(ctx context.Context) (all []Backlog, err error) {
	statement := backlogSQLite
	if j.database.pool != nil {
		statement = backlogPostgres
	}
	rows, err := j.database.sql.QueryContext(ctx, statement)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var b Backlog
		var due float64
		if err := rows.Scan(&b.Sweep, &b.State, &b.Count, &due); err != nil {
			return nil, err
		}
		b.Oldest = time.UnixMicro(int64(due * 1e6)).UTC()
		all = append(all, b)
	}
	return all, rows.Err()
}

package jobs

import (
	"context"
	"time"
)

// createRuns keeps of each sweep its last run and its last good one, by whichever process.
const createRuns = `CREATE TABLE IF NOT EXISTS sweep_runs (
  scope   TEXT NOT NULL,
  sweep   TEXT NOT NULL,
  process TEXT NOT NULL,
  started BIGINT NOT NULL,
  took    BIGINT NOT NULL,
  pages   BIGINT NOT NULL,
  outcome TEXT NOT NULL,
  problem TEXT NOT NULL,
  done    BIGINT NOT NULL,
  PRIMARY KEY (scope, sweep)
)`

const recordRun = `INSERT INTO sweep_runs (scope, sweep, process, started, took, pages, outcome, problem, done)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (scope, sweep) DO UPDATE SET process = excluded.process, started = excluded.started, took = excluded.took,
  pages = excluded.pages, outcome = excluded.outcome, problem = excluded.problem,
  done = CASE WHEN excluded.done <> 0 THEN excluded.done ELSE sweep_runs.done END`

func (d *database) record(ctx context.Context, r Run, process string) error {
	var done int64
	if r.Outcome == Done {
		done = r.Started.UnixMicro()
	}
	return d.exec(ctx, recordRun, r.Scope, r.Sweep, process, r.Started.UnixMicro(), r.Took.Microseconds(), r.Pages, string(r.Outcome), r.Problem, done)
}

const selectRuns = "SELECT sweep, process, started, took, pages, outcome, problem, done FROM sweep_runs WHERE scope = $1"

// runs are the last runs of an id scope's sweeps, by name.
func (d *database) runs(ctx context.Context, scope string) (map[string]Status, error) {
	rows, err := d.sql.QueryContext(ctx, d.in(selectRuns), scope)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[string]Status{}
	for rows.Next() {
		last := Run{Scope: scope}
		var process string
		var started, took, done int64
		if err := rows.Scan(&last.Sweep, &process, &started, &took, &last.Pages, &last.Outcome, &last.Problem, &done); err != nil {
			return nil, err
		}
		last.Started, last.Took = time.UnixMicro(started).UTC(), time.Duration(took)*time.Microsecond
		s := Status{Last: &last, Process: process}
		if done != 0 {
			s.Done = time.UnixMicro(done).UTC()
		}
		all[last.Sweep] = s
	}
	return all, rows.Err()
}

package jobs

import (
	"context"
	"slices"

	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivertype"
)

// bearing is River's SQLite driver for somebody who may empty its tables: at v0.31.0 a job
// whose row has vanished while it ran would end the process (riverqueue/river#1303).
type bearing struct{ *riversqlite.Driver }

// GetExecutor implements riverdriver.Driver.
func (b bearing) GetExecutor() riverdriver.Executor {
	return bearingExecutor{b.Driver.GetExecutor()}
}

type bearingExecutor struct{ riverdriver.Executor }

// JobSetStateIfRunningMany leaves the jobs out that are there no more.
func (b bearingExecutor) JobSetStateIfRunningMany(ctx context.Context, p *riverdriver.JobSetStateIfRunningManyParams) ([]*rivertype.JobRow, error) {
	rows, err := b.Executor.JobSetStateIfRunningMany(ctx, p)
	return slices.DeleteFunc(rows, func(r *rivertype.JobRow) bool { return r == nil }), err
}

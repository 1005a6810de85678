package provisioning

import (
	"time"

	"github.com/passmuster/muster/policies"
)

// Plan is a rotation plan on record, with what it has moved in an hour.
type Plan struct {
	policies.RotationPlan
	Hour    int64 // the hour that Moved counts, in hours since 1970
	Moved   int64
	Created time.Time
	Updated time.Time
	Version int64
}

// PlanTx is what provisioning reads and writes of rotation plans.
type PlanTx interface {
	// Plans lists all by name.
	Plans() ([]Plan, error)
	InsertPlan(Plan) error
	// CountMoves adds n moves, less than 0 to give some back, to what a plan has moved in an
	// hour; what another hour counted is forgotten. The row stays locked until the
	// transaction ends, so that whoever reads the plan after it in the same transaction reads
	// a count that holds on every process.
	CountMoves(plan string, hour, n int64) error
}

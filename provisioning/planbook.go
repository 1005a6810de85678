package provisioning

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"time"

	"github.com/passmuster/muster/policies"
)

// PlanBook is how a sweep comes by rotation plans, in its own transaction.
type PlanBook struct {
	// Plans lists them all.
	Plans func(tx Tx) ([]policies.RotationPlan, error)
	// Count counts one move of a plan in the hour of now, and says whether its rate allows
	// it. It is called in the transaction that moves, so that the rate holds for all processes.
	Count func(tx Tx, plan string, now time.Time) (bool, error)
}

// keyOverlap is how long the former of two keys stands at the least.
func keyOverlap(p *policies.RotationPlan) time.Duration {
	overlap := policies.DefaultRotationPolicy().Overlap
	switch {
	case p == nil:
	case p.Overlap != 0:
		overlap = p.Overlap
	case p.Every != 0:
		overlap = min(overlap, p.Every/4)
	}
	return overlap
}

// spreadOf is the fixed place of an owner among all, 0 to 1, by which what comes due together
// is spread.
func spreadOf(owner string) float64 {
	h := sha256.Sum256([]byte(owner))
	return float64(binary.BigEndian.Uint64(h[:])) / math.MaxUint64
}

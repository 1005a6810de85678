package provisioning

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"strings"
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

// planNaming is the plan of a role for an entry: one that names it before one that names
// nobody, and of like ones the first by name; nil without any.
func planNaming(plans []policies.RotationPlan, role policies.RollRole, entry string) (found *policies.RotationPlan) {
	for i := range plans {
		p := &plans[i]
		names := slices.ContainsFunc(p.Entries, func(n string) bool { return strings.EqualFold(n, entry) })
		if p.Role != role || len(p.Entries) > 0 && !names {
			continue
		}
		if found == nil || cmp.Or(cmp.Compare(min(len(found.Entries), 1), min(len(p.Entries), 1)), cmp.Compare(p.Name, found.Name)) < 0 {
			found = p
		}
	}
	return found
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

package provisioning

import (
	"time"

	"github.com/passmuster/muster/policies"
)

// PlansOnRecord is the book of the plans that operators wrote.
func PlansOnRecord() PlanBook { return PlanBook{Plans: plansOnRecord, Count: countMove} }

// plansOnRecord are the settings of all plans, by name.
func plansOnRecord(tx Tx) (list []policies.RotationPlan, err error) {
	rows, err := tx.Plans()
	for _, p := range rows {
		list = append(list, p.RotationPlan)
	}
	return list, err
}

// countMove counts a move of a plan in the hour of now, and says whether its rate allows it:
// in the transaction that moves, so that the rate holds for all processes. Without a plan ("")
// there is none.
func countMove(tx Tx, plan string, now time.Time) (bool, error) {
	if plan == "" {
		return true, nil
	}
	hour := policies.HourOf(now)
	if err := tx.CountMoves(plan, hour, 0); err != nil {
		return false, err
	}
	p, err := tx.Plan(plan)
	if err != nil || p.Left(now) == 0 {
		return false, skipGone(err)
	}
	return true, tx.CountMoves(plan, hour, 1)
}

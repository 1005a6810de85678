package provisioning

import (
	"slices"

	"github.com/passmuster/muster/policies"
)

// entryPlan is the plan by which the slots of an entry roll: the one that names it, else the
// one that names nobody, else one that holds nothing back.
func entryPlan(plans []policies.RotationPlan, o Owner) policies.RotationPlan {
	role := policies.RollEnrollments
	if o.Kind == Group {
		role = policies.RollGroups
	}
	found := policies.RotationPlan{Role: role}
	for _, p := range plans {
		switch {
		case p.Role != role:
		case slices.ContainsFunc(p.Entries, o.ID.Matches):
			return p
		case len(p.Entries) == 0 && found.Name == "":
			found = p
		}
	}
	return found
}

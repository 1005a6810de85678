package provisioning

import "github.com/passmuster/muster/policies"

// rollRole is what the credentials of an entry are to a plan.
func (e Enrollment) rollRole() policies.RollRole {
	switch {
	case e.Role() == RoleKey:
		return policies.RollKeys
	case e.Kind == Group:
		return policies.RollGroups
	}
	return policies.RollEnrollments
}

// entryPlan is the plan by which the slots of an entry roll; without any, one that holds
// nothing back.
func entryPlan(plans []policies.RotationPlan, en Enrollment) policies.RotationPlan {
	plan, _ := policies.Nearest(plans, en.rollRole(), en.ID.String(), "")
	return plan
}

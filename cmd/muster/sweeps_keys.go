package main

import (
	"context"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

// sweepIssuerRoll has the issuing CAs follow each other.
func sweepIssuerRoll(ctx context.Context, h *house) (more bool, err error) {
	s := ca.Schedule{}
	if s.Lifetime, err = h.engine.Lifetimes(ctx); err != nil {
		return false, err
	}
	err = h.db.ProvisioningJobs().View(ctx, func(tx provisioning.Tx) error {
		s.Plans, err = h.plans().Plans(tx)
		return err
	})
	if err != nil {
		return false, err
	}
	return h.sweeper.SweepIssuerRoll(ctx, s)
}

// plans is where the sweeps find rotation plans: there are none on record yet, so that
// nothing but notices comes by itself.
func (h *house) plans() provisioning.PlanBook {
	return provisioning.PlanBook{
		Plans: func(provisioning.Tx) ([]policies.RotationPlan, error) { return nil, nil },
	}
}

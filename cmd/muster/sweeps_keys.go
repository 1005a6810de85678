package main

import (
	"context"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/provisioning"
)

// sweepIssuerRoll has the issuing CAs follow each other.
func sweepIssuerRoll(ctx context.Context, h *house) (more bool, err error) {
	if going, err := h.engine.Steady(ctx, h.db.ProvisioningJobs()); err != nil || !going {
		return false, err
	}
	s := ca.Schedule{}
	if s.Lifetime, err = h.engine.Lifetimes(ctx); err != nil {
		return false, err
	}
	err = h.db.ProvisioningJobs().View(ctx, func(tx provisioning.Tx) error {
		s.Plans, err = provisioning.PlansOnRecord(tx)
		return err
	})
	if err != nil {
		return false, err
	}
	return h.sweeper.SweepIssuerRoll(ctx, s)
}

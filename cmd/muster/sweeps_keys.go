package main

import (
	"context"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/provisioning"
)

// sweepIssuerRoll has the issuing CAs follow each other.
func sweepIssuerRoll(ctx context.Context, h *house) (more bool, err error) {
	s := ca.Schedule{}
	if s.Lifetime, err = h.engine.Lifetimes(ctx); err != nil {
		return false, err
	}
	err = h.db.ProvisioningJobs().View(ctx, func(tx provisioning.Tx) error {
		s.Plans, err = provisioning.PlansOnRecord().Plans(tx)
		return err
	})
	if err != nil {
		return false, err
	}
	return h.sweeper.SweepIssuerRoll(ctx, s)
}

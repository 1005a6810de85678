package main

import (
	"context"
	"errors"
	"time"
)

// sweep finds in an id scope's tables what is due and does it, in bounded steps: run
// answers whether there is more. Nothing but the tables says what is due, so a sweep that
// was missed costs the time until the next one and no more. Of the processes that share a
// database, one runs it (package jobs).
type sweep struct {
	name  string
	every time.Duration
	run   func(ctx context.Context, h *house) (more bool, err error)
}

// carryDisallowances is nudged when there is one.
const carryDisallowances = "disallowances"

// sweeps are all there are beside those that keep CAs, and one that takes long (jobs.go).
var sweeps = []sweep{
	{"registrations", rotationSweepEvery, sweepRegistrations},
	{"entries", 30 * time.Second, func(ctx context.Context, h *house) (bool, error) {
		return h.engine.SweepEntries(ctx, h.db.ProvisioningJobs())
	}},
	{"campaigns", 5 * time.Second, func(ctx context.Context, h *house) (bool, error) {
		return h.engine.SweepCampaigns(ctx, h.db.ProvisioningJobs())
	}},
	{"keys", time.Minute, func(ctx context.Context, h *house) (bool, error) {
		keys, err := h.engine.SweepKeys(ctx, h.db.ProvisioningJobs())
		if err != nil {
			return false, err
		}
		challenges, err := h.engine.SweepTPMChallenges(ctx, h.db.ProvisioningJobs())
		return keys || challenges, err
	}},
	{"access-keys", time.Minute, func(ctx context.Context, h *house) (bool, error) {
		return h.engine.SweepAccessKeys(ctx, h.db.ProvisioningJobs())
	}},
	{"issuer-roll", time.Minute, sweepIssuerRoll},
	{"anchors", time.Hour, func(ctx context.Context, h *house) (bool, error) {
		return h.engine.SweepAnchors(ctx, h.db.ProvisioningJobs())
	}},
	{"expiry", time.Hour, func(ctx context.Context, h *house) (bool, error) {
		return h.engine.SweepExpiry(ctx, h.db.ProvisioningJobs())
	}},
	{"subscriptions", 5 * time.Second, func(ctx context.Context, h *house) (bool, error) {
		return h.engine.SweepSubscriptions(ctx, h.db.ProvisioningJobs())
	}},
	{carryDisallowances, 5 * time.Second, func(ctx context.Context, h *house) (bool, error) {
		return h.engine.SweepIncidents(ctx, h.db.ProvisioningJobs())
	}},
	{"keys-in-use", 5 * time.Second, func(ctx context.Context, h *house) (bool, error) {
		return h.engine.SweepKeysInUse(ctx, h.db.ProvisioningJobs())
	}},
	{"hubs", 2 * time.Second, func(ctx context.Context, h *house) (bool, error) {
		more, err := h.engine.SweepHubs(ctx, h.db.ProvisioningJobs())
		return more, errors.Join(err, h.engine.SweepQuarantines(ctx, h.db.ProvisioningJobs()))
	}},
	{"failed-hubs", 2 * time.Second, func(ctx context.Context, h *house) (bool, error) {
		return h.engine.SweepFailedHubs(ctx, h.db.ProvisioningJobs())
	}},
	{"hub-repairs", 5 * time.Second, func(ctx context.Context, h *house) (bool, error) {
		return h.engine.SweepHubRepairs(ctx, h.db.ProvisioningJobs())
	}},
}

// devSweepEvery is how often a development server looks, whose certificates may live for
// minutes. A look costs a job: each second they would take more than a hundredth of a core.
const devSweepEvery = 2 * time.Second

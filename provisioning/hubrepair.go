package provisioning

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
)

// RepairHub has a hub told again of the devices that a check has listed, and of no others; with
// removes also to remove those that are not ours. What is repaired is what was shown: what was told
// since, or came since, is left alone. A check is on record until another one is done.
//
// Errors: NotFound; Conflict "hub-check-unfinished", "hub-repaired", "hub-built-in".
func (e *Engine) RepairHub(ctx context.Context, actor, name, check string, removes bool) (c HubCheck, err error) {
	now, name := e.now(), strings.ToLower(name)
	err = e.store.Update(ctx, func(tx Tx) error {
		h, err := tx.Hub(name)
		if err != nil {
			return err
		}
		if c, err = hubCheck(tx, name, check); err != nil {
			return err
		}
		if err := repairable(h, c); err != nil {
			return err
		}
		was := c
		c.Repair = HubRepair{At: now, By: actor, Removes: removes}
		facts := map[string]any{"check": c.ID, "removeUnknown": removes}
		for kind, n := range c.Drift {
			facts[string(kind)] = n
		}
		return first(tx.MoveHubCheck(was, c), tx.Append(audit.Event{At: now, Actor: actor, Action: audit.HubRepaired, Subject: "hub:" + name, Body: audit.Body(facts)}))
	})
	return c, err
}

func repairable(h Hub, c HubCheck) error {
	refused := func(rule, detail string) error {
		return fault.New(fault.Conflict, rule, "%s", detail).About("hub " + h.Name)
	}
	switch {
	case h.Driver == BuiltIn:
		return refused("hub-built-in", "the built-in hub is told nothing: what was changed at its door is changed back there")
	case !c.Good():
		return refused("hub-check-unfinished", "the check is not done, or has failed: nothing is known by it")
	case !c.Repair.At.IsZero():
		return refused("hub-repaired", "what this check found is being repaired, or was: check the hub again")
	}
	return nil
}

// hubRepairPage is how many devices one transaction repairs.
const hubRepairPage = 250

// SweepHubRepairs makes the next devices of each repair ahead, so that their hub is told.
func (e *Engine) SweepHubRepairs(ctx context.Context, jobs Store) (more bool, err error) {
	var open []HubCheck
	err = jobs.View(ctx, func(tx Tx) error {
		open, err = tx.HubRepairs()
		return err
	})
	if err != nil {
		return false, err
	}
	var failed []error
	for _, c := range open {
		rest, err := e.stepHubRepair(ctx, jobs, c)
		more = more || rest
		failed = append(failed, ignoreCheckMoved(err))
	}
	return more, errors.Join(failed...)
}

func (e *Engine) stepHubRepair(ctx context.Context, jobs Store, was HubCheck) (more bool, err error) {
	now := e.now()
	err = jobs.Update(ctx, func(tx Tx) error {
		is := was
		page, err := tx.HubDrifts(was.ID, was.Repair.Cursor, hubRepairPage)
		if err != nil {
			return err
		}
		for _, d := range page {
			done, err := repairDevice(tx, d, was.Repair.Removes, now)
			if err != nil {
				return err
			}
			if done {
				is.Repair.Devices++
			}
			is.Repair.Cursor = d.Key()
		}
		if more = len(page) == hubRepairPage; !more {
			is.Repair.Done = now
		}
		return tx.MoveHubCheck(was, is)
	})
	return err == nil && more, err
}

// repairDevice makes a device ahead as it was found. One that is not ours gets an identity that
// no registration has: its hub is told to remove it.
func repairDevice(tx Tx, d HubDrift, removes bool, now time.Time) (bool, error) {
	rec, err := tx.HubIdentity(d.HubPlace)
	switch {
	case d.Kind != DriftUnknown:
		if fault.Is(err, fault.NotFound) || err == nil && rec.Generation != d.Generation {
			return false, nil
		}
		return err == nil, first(err, tx.StepHubIdentity(d.HubPlace, now))
	case err == nil || !removes:
		return false, nil
	case !fault.Is(err, fault.NotFound):
		return false, err
	}
	return true, tx.PutHubIdentity(HubIdentityRecord{HubPlace: d.HubPlace, Spelled: d.Spelled, Generation: firstVersion(now), Since: now})
}

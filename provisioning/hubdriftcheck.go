package provisioning

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// reader is how a hub's devices are read; nil when they cannot be.
func (e *Engine) reader(h Hub) HubReader {
	if h.Driver == BuiltIn {
		return nil // its devices are in the tables: see hubChecking.builtIn
	}
	by, _ := e.hubDrivers[h.Driver].(HubReader)
	return by
}

// BeginHubCheck has it looked up what a hub holds, and compared with what it shall: by a sweep, as a
// hub may have many devices and take its time. While a check is open it is that one.
//
// Errors: NotFound; Conflict "hub-cannot-be-read".
func (e *Engine) BeginHubCheck(ctx context.Context, actor, name string) (c HubCheck, err error) {
	made := newHubCheck(actor, strings.ToLower(name), e.now())
	err = e.store.Update(ctx, func(tx Tx) error {
		h, err := tx.Hub(made.Hub)
		if err != nil {
			return err
		}
		if h.Driver != BuiltIn && e.reader(h) == nil {
			return fault.New(fault.Conflict, "hub-cannot-be-read", "nothing can be read from a hub of the driver %s", h.Driver).About("hub " + h.Name)
		}
		all, err := tx.HubChecks(h.Name)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(all, func(c HubCheck) bool { return c.Ended.IsZero() }); i >= 0 {
			c = all[i]
			return nil
		}
		c = made
		return tx.InsertHubCheck(made)
	})
	return c, err
}

func newHubCheck(actor, hub string, now time.Time) HubCheck {
	return HubCheck{ID: timedID(now), Hub: hub, Actor: actor, Requested: now}
}

// HubChecks lists the checks of a hub that are on record, newest first: the last that was done,
// the last that failed if that was later, and one that is open.
func (e *Engine) HubChecks(ctx context.Context, name string) (list []HubCheck, err error) {
	name = strings.ToLower(name)
	err = e.store.View(ctx, func(tx Tx) error {
		if _, err := tx.Hub(name); err != nil {
			return err
		}
		list, err = tx.HubChecks(name)
		return err
	})
	return list, err
}

// HubCheck reads a check of a hub.
func (e *Engine) HubCheck(ctx context.Context, name, id string) (c HubCheck, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		c, err = hubCheck(tx, strings.ToLower(name), id)
		return err
	})
	return c, err
}

func hubCheck(tx Tx, hub, id string) (HubCheck, error) {
	c, err := tx.HubCheck(id)
	if err == nil && c.Hub != hub {
		err = fault.New(fault.NotFound, "hub-check-not-found", "There is no such hub-check.")
	}
	return c, err
}

// HubDrifts lists what a check found, the most dangerous first, behind a Key. Of a check that is
// not done there is nothing to list.
func (e *Engine) HubDrifts(ctx context.Context, name, id, after string, limit int) (list []HubDrift, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		c, err := hubCheck(tx, strings.ToLower(name), id)
		if err != nil || !c.Good() {
			return err
		}
		list, err = tx.HubDrifts(id, after, limit)
		return err
	})
	return list, err
}

// lastGood is the last check that was done; the zero one when none was.
func lastGood(list []HubCheck) HubCheck {
	if i := slices.IndexFunc(list, HubCheck.Good); i >= 0 {
		return list[i]
	}
	return HubCheck{}
}

// Bounds of checks.
const (
	hubCheckTurns = 4               // hubs read at once
	hubCheckLease = 5 * time.Minute // a check that was cut off is begun anew after this
	hubCheckAgain = time.Hour       // one that failed is repeated after this, if that is sooner than its period
)

// SweepHubChecks makes the checks that were asked for, and those that are due. It may take as
// long as hubs do: those are read to their end.
func (e *Engine) SweepHubChecks(ctx context.Context, jobs Store) (more bool, err error) {
	if err := e.dueHubChecks(ctx, jobs); err != nil {
		return false, err
	}
	var open []HubCheck
	err = jobs.View(ctx, func(tx Tx) error {
		open, err = tx.OpenHubChecks()
		return err
	})
	if err != nil {
		return false, err
	}
	s := &hubSweeping{began: e.now(), turn: make(chan struct{}, hubCheckTurns)}
	for _, c := range open {
		if !s.began.Before(c.Taken) {
			s.begin(e, func() (bool, error) { return false, ignoreCheckMoved(e.carryOutHubCheck(ctx, jobs, c)) })
		}
	}
	s.all.Wait()
	return false, s.err
}

// dueHubChecks asks for the checks whose time has come.
func (e *Engine) dueHubChecks(ctx context.Context, jobs Store) error {
	now := e.now()
	var due []string
	err := jobs.View(ctx, func(tx Tx) error {
		due = nil
		hubs, err := tx.Hubs()
		for _, h := range hubs {
			if e.reader(h) == nil {
				continue
			}
			is, err := e.hubCheckDue(tx, h.Name, now)
			if err != nil {
				return err
			}
			if is {
				due = append(due, h.Name)
			}
		}
		return err
	})
	for _, name := range due {
		c := newHubCheck(jobHubs, name, now)
		asked := jobs.Update(ctx, func(tx Tx) error { return tx.InsertHubCheck(c) })
		if fault.RuleOf(asked) != "hub-check-exists" { // another process was first
			err = errors.Join(err, asked)
		}
	}
	return err
}

// hubCheckDue says whether a hub is to be checked by itself: in its period, sooner after a
// check that failed, and when all that was repaired has been told.
func (e *Engine) hubCheckDue(tx Tx, hub string, now time.Time) (bool, error) {
	list, err := tx.HubChecks(hub)
	if err != nil || len(list) > 0 && list[0].Ended.IsZero() {
		return false, err
	}
	if len(list) > 0 && !list[0].Repair.Done.IsZero() {
		if ahead, _, err := tx.CountHubAhead(hub); err != nil || ahead == 0 {
			return ahead == 0, err
		}
	}
	every := e.checkHubsEvery
	if every == 0 || len(list) == 0 {
		return every > 0, nil
	}
	if !list[0].Good() {
		every = min(every, hubCheckAgain)
	}
	return !now.Before(list[0].Ended.Add(every)), nil
}

func ignoreCheckMoved(err error) error {
	if fault.RuleOf(err) == "hub-check-moved" {
		return nil
	}
	return err
}

package provisioning

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// Bounds of one step of a hub.
const (
	hubPage      = 32
	hubCalls     = 8                // at once, to one hub
	hubLimit     = 5 * time.Second  // one call
	hubStep      = 20 * time.Second // a step begins no call after this
	hubLease     = time.Minute      // a step that was cut off is taken up again after this
	hubTurns     = 8                // hubs told at once
	hubEntryPage = 100              // devices of a changed entry
)

// jobHubs is who tells hubs, in the ledger.
const jobHubs = "job:hubs"

// SweepHubs tells hubs that live elsewhere of their devices, a page each, and has the
// registrations assigned that waited for it. What a hub shall know is read when it is told;
// so any step may be repeated, by any process, and nothing is told in vain.
func (e *Engine) SweepHubs(ctx context.Context, jobs Store) (more bool, err error) {
	var links []HubLink
	drivers := map[string]string{}
	err = jobs.View(ctx, func(tx Tx) error {
		if links, err = tx.HubLinks(); err != nil || len(links) == 0 {
			return err
		}
		hubs, err := tx.Hubs()
		for _, h := range hubs {
			drivers[h.Name] = h.Driver
		}
		return err
	})
	if err != nil || len(links) == 0 {
		return false, err
	}
	if more, err = e.sweepHubEntry(ctx, jobs); err != nil {
		return false, err
	}
	var mu sync.Mutex
	var serving sync.WaitGroup
	turn := make(chan struct{}, hubTurns)
	for _, l := range links {
		if e.now().Before(l.NextTry) {
			continue
		}
		turn <- struct{}{}
		serving.Go(func() {
			defer func() { <-turn }()
			rest, failed := e.serveHub(ctx, jobs, l, drivers[l.Hub])
			mu.Lock()
			defer mu.Unlock()
			more = more || rest
			err = errors.Join(err, failed)
		})
	}
	serving.Wait()
	return more, err
}

// sweepHubEntry goes through a page of the devices of an entry that was changed.
func (e *Engine) sweepHubEntry(ctx context.Context, jobs Store) (more bool, err error) {
	var entry HubEntry
	err = jobs.View(ctx, func(tx Tx) error {
		entry, err = tx.NextHubEntry()
		return err
	})
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	now := e.now()
	err = jobs.Update(ctx, func(tx Tx) error {
		_, err := tx.StepHubEntry(entry, now, hubEntryPage)
		return err
	})
	if fault.RuleOf(err) == "hub-entry-moved" {
		err = nil
	}
	return err == nil, err
}

// serveHub makes one step. A hub that failed is first tried with one device.
func (e *Engine) serveHub(ctx context.Context, jobs Store, link HubLink, driver string) (more bool, err error) {
	t := &telling{Engine: e, jobs: jobs, driver: e.hubDrivers[driver], now: e.now()}
	if t.driver == nil {
		return false, noDriver(link.Hub, driver)
	}
	if t.to, err = e.hubAccess(link); err != nil {
		return false, err
	}
	page := max(hubPage, t.driver.Traits().Batch)
	if link.Tries > 0 {
		page = 1
	}
	var list []tellingOf
	claimed := link
	err = jobs.Update(ctx, func(tx Tx) error {
		list, claimed = nil, link
		recs, err := tx.TakeHubIdentities(link.Hub, t.now, t.now.Add(hubLease), page)
		if err != nil || len(recs) == 0 {
			return err
		}
		for _, rec := range recs {
			list = append(list, tellingOf{HubIdentityRecord: rec})
		}
		if link.Tries == 0 {
			return nil
		}
		// Of several processes one tries a hub that failed.
		claimed.NextTry = t.now.Add(hubLease)
		return tx.MoveHubLink(link, claimed)
	})
	if err != nil || len(list) == 0 {
		return false, ignoreHubMoved(err)
	}
	if err := t.read(ctx, list); err != nil {
		return false, err
	}
	err = t.tell(ctx, list)
	next := claimed
	switch why := t.failed.Load(); {
	case ctx.Err() != nil: // the server stops: nobody's fault
		next.NextTry = link.NextTry
	case why != nil:
		next.Tries, next.Problem = link.Tries+1, why.Detail
		next.NextTry = e.now().Add(max(backoff(next.Tries), why.RetryAfter))
	case t.answered.Load():
		next.Tries, next.NextTry, next.Problem, next.Answered = 0, time.Time{}, "", e.now()
	default:
		next.NextTry = link.NextTry
	}
	err = errors.Join(err, ignoreHubMoved(jobs.Update(context.WithoutCancel(ctx), func(tx Tx) error { return tx.MoveHubLink(claimed, next) })))
	return err == nil && t.failed.Load() == nil && len(list) == page, err
}

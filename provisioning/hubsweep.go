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
	hubCalls     = 8                // at once, to one hub
	hubLimit     = 5 * time.Second  // one call
	hubLongLimit = 20 * time.Second // one call of several devices, which a driver may have to repeat for each
	hubStep      = 20 * time.Second // a step begins no call after this, and a sweep no step
	hubLease     = time.Minute      // a step that was cut off is taken up again after this
	hubTurns     = 32               // hubs told at once
	hubEntryPage = 100              // devices of a changed entry
)

// jobHubs is who tells hubs, in the ledger.
const jobHubs = "job:hubs"

// SweepHubs tells hubs that live elsewhere of their devices, page by page, and has the
// registrations assigned that waited for it. What a hub shall know is read when it is told;
// so any step may be repeated, by any process, and nothing is told in vain. Hubs that
// failed are left to SweepFailedHubs: they may hang, and nobody shall wait for them.
func (e *Engine) SweepHubs(ctx context.Context, jobs Store) (more bool, err error) {
	return e.sweepHubs(ctx, jobs, false)
}

// SweepFailedHubs tries hubs that failed, when it is time, with one device.
func (e *Engine) SweepFailedHubs(ctx context.Context, jobs Store) (more bool, err error) {
	return e.sweepHubs(ctx, jobs, true)
}

func (e *Engine) sweepHubs(ctx context.Context, jobs Store, failed bool) (more bool, err error) {
	more, err = e.tellHubs(ctx, jobs, failed)
	rest, confirmed := e.confirmRetirements(ctx, jobs)
	return more || rest, errors.Join(err, confirmed)
}

func (e *Engine) tellHubs(ctx context.Context, jobs Store, failed bool) (more bool, err error) {
	var links []HubLink
	hubs := map[string]Hub{}
	err = jobs.View(ctx, func(tx Tx) error {
		if links, err = tx.HubLinks(); err != nil || len(links) == 0 {
			return err
		}
		all, err := tx.Hubs()
		for _, h := range all {
			hubs[h.Name] = h
		}
		return err
	})
	if err != nil || len(links) == 0 {
		return false, err
	}
	s := &hubSweeping{began: e.now(), turn: make(chan struct{}, hubTurns)}
	if !failed {
		s.begin(e, func() (bool, error) {
			stepped, err := e.sweepHubEntry(ctx, jobs)
			s.note(stepped, nil) // hubs that had nothing to be told may have by now
			return stepped, err
		})
	}
	for _, l := range links {
		if (l.Tries > 0) == failed && !l.rests(s.began) {
			s.begin(e, func() (bool, error) { return e.serveHub(ctx, jobs, hubs[l.Hub]) })
		}
	}
	s.all.Wait()
	return s.more, s.err
}

// hubSweeping is one sweep: each hub goes on by itself while there is time.
type hubSweeping struct {
	began time.Time
	turn  chan struct{}
	all   sync.WaitGroup
	mu    sync.Mutex
	more  bool
	err   error
}

func (s *hubSweeping) begin(e *Engine, step func() (more bool, err error)) {
	s.all.Go(func() {
		for rest := true; rest; {
			s.turn <- struct{}{}
			more, err := step()
			<-s.turn
			rest = more && err == nil && e.now().Sub(s.began) < hubStep
			if !rest {
				s.note(more, err)
			}
		}
	})
}

func (s *hubSweeping) note(more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.more, s.err = s.more || more, errors.Join(s.err, err)
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
func (e *Engine) serveHub(ctx context.Context, jobs Store, h Hub) (more bool, err error) {
	t := &telling{Engine: e, jobs: jobs, driver: e.hubDrivers[h.Driver], now: e.now(), rate: e.rateOf(h)}
	if t.driver == nil {
		return false, noDriver(h.Name, h.Driver)
	}
	list, link, err := t.take(ctx, h.Name)
	if err != nil || len(list) == 0 {
		return false, ignoreHubMoved(err)
	}
	if err := t.read(ctx, list); err != nil {
		return false, err
	}
	err = t.tell(ctx, list)
	now := e.now()
	next := t.course.after(link, now)
	if ctx.Err() != nil { // the server stops: nobody's fault
		next = link
		next.Trial = time.Time{}
	}
	err = errors.Join(err, ignoreHubMoved(jobs.Update(context.WithoutCancel(ctx), func(tx Tx) error { return moveHub(tx, link, next, now) })))
	return err == nil && next.Tries == 0 && !next.rests(now) && len(list) == t.most, err
}

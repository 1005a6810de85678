package provisioning

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// Ledger is the ledger as those read it who follow it: forwards, up to where no row is
// still to come.
type Ledger interface {
	Horizon(ctx context.Context) (int64, error)
	// Rows lists entries with after < seq ≤ upTo by seq, at most limit.
	Rows(ctx context.Context, after, upTo int64, limit int) ([]audit.Entry, error)
	// LastPosition is a position among the certificates up to which none is still to come.
	LastPosition(ctx context.Context) (int64, error)
	// Behind counts the entries after a seq.
	Behind(ctx context.Context, after int64) (int64, error)
}

// Notice is one ledger entry on its way to a subscriber.
type Notice struct {
	URL     string
	Key     verify.Secret // signs it
	IDScope string
	Entry   audit.Entry // Seq 0: none of the ledger's, but a test
}

// Notifier delivers notices. It ends with its context.
type Notifier interface {
	// Notify returns nil when the notice was taken. RetryAfter of an error is heeded.
	Notify(context.Context, Notice) error
}

// Bounds of one step of a delivery.
const (
	noticePage  = 500
	noticeLimit = 10 * time.Second // one delivery
	noticeStep  = 20 * time.Second // a step takes no more up after this
	noticeLease = 2 * time.Minute  // a step that was cut off is taken up again after this
	noticeTurns = 8                // subscribers served at once
)

// SweepSubscriptions delivers what the ledger has for each subscriber. What is not taken is
// tried again, later and later, and nothing after it is sent before: a subscriber gets
// everything in order, some of it twice.
func (e *Engine) SweepSubscriptions(ctx context.Context, jobs Store) (more bool, err error) {
	var all []Subscription
	err = jobs.View(ctx, func(tx Tx) error {
		all, err = tx.Subscriptions()
		return err
	})
	if err != nil || len(all) == 0 {
		return false, err
	}
	horizon, err := e.ledger.Horizon(ctx)
	if err != nil {
		return false, err
	}
	var mu sync.Mutex
	var serving sync.WaitGroup
	turn := make(chan struct{}, noticeTurns)
	for _, s := range all {
		if !s.Enabled || s.Cursor >= horizon || e.now().Before(s.NextTry) {
			continue
		}
		turn <- struct{}{}
		serving.Go(func() {
			defer func() { <-turn }()
			rest, failed := e.serveSubscription(ctx, jobs, s, horizon)
			mu.Lock()
			defer mu.Unlock()
			more = more || rest
			if err == nil {
				err = failed
			}
		})
	}
	serving.Wait()
	return more, err
}

// serveSubscription makes one step: at most a page of the ledger.
func (e *Engine) serveSubscription(ctx context.Context, jobs Store, s Subscription, horizon int64) (more bool, err error) {
	// A second process that has read the same row finds it moved, and leaves it to this one.
	claimed := s
	claimed.NextTry = e.now().Add(noticeLease)
	if err := e.moveSubscription(ctx, jobs, s, claimed); err != nil {
		return false, ignoreMoved(err)
	}
	rows, err := e.ledger.Rows(ctx, s.Cursor, horizon, noticePage)
	if err != nil {
		return false, err
	}
	next, began := claimed, e.now()
	next.Tries, next.NextTry, next.Problem = 0, time.Time{}, ""
	var refused error
	for _, row := range rows {
		if s.wants(row.Action) {
			if refused = e.notify(ctx, s, row); refused != nil {
				break
			}
			next.Delivered = e.now()
		}
		if next.Cursor = row.Seq; e.now().Sub(began) > noticeStep {
			break
		}
	}
	if refused != nil {
		next.fail(s, refused, e.now())
		if ctx.Err() != nil { // the server stops: nobody's fault
			next.Tries, next.NextTry, next.Problem = s.Tries, s.NextTry, s.Problem
		}
	}
	err = e.moveSubscription(context.WithoutCancel(ctx), jobs, claimed, next)
	return refused == nil && next.Cursor < horizon, ignoreMoved(err)
}

// ignoreMoved is for a subscription that somebody else serves, or that an operator changed.
func ignoreMoved(err error) error {
	if fault.RuleOf(err) == "subscription-moved" {
		return nil
	}
	return err
}

func (e *Engine) moveSubscription(ctx context.Context, jobs Store, was, is Subscription) error {
	return jobs.Update(ctx, func(tx Tx) error { return tx.MoveSubscription(was, is) })
}

func (s Subscription) wants(a audit.Action) bool {
	if len(s.Actions) == 0 {
		return true
	}
	for _, begin := range s.Actions {
		if strings.HasPrefix(string(a), begin) {
			return true
		}
	}
	return false
}

// fail notes a refusal, and when the next try is due.
func (s *Subscription) fail(was Subscription, err error, now time.Time) {
	s.Tries, s.Problem = was.Tries+1, err.Error()
	pause := backoff(s.Tries)
	if f := fault.As(err); f != nil {
		pause, s.Problem = max(pause, f.RetryAfter), f.Detail
	}
	s.NextTry = now.Add(pause)
}

func (e *Engine) notify(ctx context.Context, s Subscription, entry audit.Entry) error {
	address, err := e.box.Open(subscriptionPurpose(s.Name, "url"), s.SealedURL)
	if err != nil {
		return err
	}
	key, err := e.box.Open(subscriptionPurpose(s.Name, "key"), s.SealedKey)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, noticeLimit)
	defer cancel()
	return e.notifier.Notify(ctx, Notice{URL: string(address), Key: verify.NewSecret(key), IDScope: e.idScope, Entry: entry})
}

// TestSubscription sends a subscriber a notice of nothing and says what it answered. The
// progress stays.
func (e *Engine) TestSubscription(ctx context.Context, actor, name string) error {
	var s Subscription
	err := e.store.View(ctx, func(tx Tx) (err error) {
		s, err = tx.Subscription(name)
		return err
	})
	if err != nil {
		return err
	}
	return e.notify(ctx, s, audit.Entry{Event: audit.Event{
		At: e.now(), Actor: actor, Action: "subscription.test", Subject: "subscription:" + name, Body: audit.Body(map[string]any{}),
	}})
}

package ca

import (
	"context"
	"errors"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
)

const (
	// sweepPage is how many intents or revocations a sweep takes at a time.
	sweepPage = 100
	// maxBackoff bounds the time between two attempts to have one certificate revoked.
	maxBackoff = time.Hour
)

// SweepUpstreams brings upstreams and the record into agreement: an intent that has been
// open for longer than any call takes becomes an orphan, and what waits to be revoked is
// told to its upstream, again and again until that confirms. It may run at any time and on
// several replicas. An upstream that cannot be reached does not hold up the others; what
// they say is kept with the revocation.
func (a *Authority) SweepUpstreams(ctx context.Context) error {
	failed := []error{a.sweepIntents(ctx)}
	for _, by := range a.current.Load().issuers {
		if by.Upstream != "" {
			failed = append(failed, a.tellUpstream(ctx, by, ""))
		}
	}
	return errors.Join(failed...)
}

// longestCall is how long after its making an intent may still become issued: the time of
// the call, and some for what is written before and after it. An intent that is taken for an
// orphan too early costs the device its request, not the record its truth: Record fails then.
func (a *Authority) longestCall() time.Duration { return 2*a.config.UpstreamTimeout + 5*time.Second }

func (a *Authority) sweepIntents(ctx context.Context) error {
	now := a.now().UTC()
	for {
		late, err := a.Intents(ctx, IntentFilter{State: IntentOpen, Before: now.Add(-a.longestCall()), Limit: sweepPage})
		if err != nil || len(late) == 0 {
			return err
		}
		err = a.store.Update(ctx, func(tx Tx) error {
			for _, i := range late {
				if err := orphanIn(tx, i.ID, "", nil, "the request ended before its outcome was on record", now); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || len(late) < sweepPage {
			return err
		}
	}
}

// tellUpstream tries the due revocations of an issuer, and of one intent unless that is
// "". The first that the upstream does not answer ends it.
func (a *Authority) tellUpstream(ctx context.Context, by *issuer, intent string) error {
	for {
		var due []UpstreamRevocation
		err := a.store.View(ctx, func(tx Tx) (err error) {
			due, err = tx.DueUpstreamRevocations(by.ID, intent, a.now().UTC(), sweepPage)
			return err
		})
		if err != nil {
			return err
		}
		for _, r := range due {
			said := a.revokeThere(ctx, by.Upstream, r)
			if err := a.told(ctx, r, said); err != nil {
				return err
			}
			if said != nil && !errors.Is(said, ErrNotRevoked) {
				return nil
			}
		}
		if len(due) < sweepPage {
			return nil
		}
	}
}

// revokeThere tells an upstream and waits no longer than is configured. What is answered
// later is lost: the next attempt is told that the certificate is revoked.
func (a *Authority) revokeThere(ctx context.Context, name string, r UpstreamRevocation) error {
	upstream := a.config.Upstreams[name]
	if upstream == nil {
		return fault.New(fault.Unavailable, "upstream-missing", "the upstream %q is not configured", name)
	}
	leave, ok := a.calls.enter()
	if !ok {
		return fault.New(fault.Unavailable, "upstream-busy", "too many requests are with upstreams")
	}
	ctx, cancel := context.WithTimeout(ctx, a.config.UpstreamTimeout)
	answer := make(chan error, 1)
	go func() {
		defer cancel()
		defer leave()
		answer <- upstream.Revoke(ctx, r)
	}()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		select {
		case err := <-answer: // both, or cancelled by the answer itself
			return err
		default:
		}
		time.AfterFunc(givenUp, leave)
		return context.Cause(ctx)
	}
}

// told keeps what an upstream said about a revocation; nil is its confirmation, which also
// settles the intent it is for.
func (a *Authority) told(ctx context.Context, r UpstreamRevocation, said error) error {
	now := a.now().UTC()
	ctx, cancel := tidying(ctx)
	defer cancel()
	r.Tries++
	if said != nil {
		r.Detail, r.Next = clip(said.Error()), now.Add(a.backoff(r.Tries))
		return a.store.Update(ctx, func(tx Tx) error { return tx.UpdateUpstreamRevocation(r) })
	}
	r.Detail, r.Told = "", now
	return a.store.Update(ctx, func(tx Tx) error {
		if err := tx.UpdateUpstreamRevocation(r); err != nil {
			return err
		}
		if r.Intent == "" {
			return tx.Append(audit.Event{
				At: now, Actor: upstreamActor, Action: audit.UpstreamRevoked, Subject: "certificate:" + string(r.Serial),
				Body: audit.Body(map[string]any{"issuer": r.Issuer, "serial": r.Serial, "reason": r.Reason}),
			})
		}
		i, err := tx.Intent(r.Intent)
		if err != nil || i.State != IntentOrphaned {
			return err
		}
		i.State, i.Settled = IntentRevoked, now
		if err := tx.UpdateIntent(i, IntentOrphaned); err != nil {
			return err
		}
		return tx.Append(intentEvent(i, audit.UpstreamRevoked, upstreamActor, now))
	})
}

// backoff doubles from the time a call may take.
func (a *Authority) backoff(tries int) time.Duration {
	return min(a.config.UpstreamTimeout<<min(tries-1, 12), maxBackoff)
}

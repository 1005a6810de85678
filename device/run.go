package device

import (
	"context"
	"errors"
	"time"
)

// maxSleep bounds one wait, so that a clock set right after the start, or a machine
// that was suspended, is noticed.
const maxSleep = 4 * time.Hour

// HubRefused tells a running Agent that the hub answered unauthorized: it registers
// again, at most once a minute. Safe from any goroutine; never blocks.
func (a *Agent) HubRefused() {
	select {
	case a.refused <- struct{}{}:
	default: // one is waiting already
	}
}

// Run keeps the device provisioned until ctx ends, and then returns nil. Every
// failure, a refusal too, is reported, waited out and tried again, because whoever
// disabled a device may enable it again. Only a broken source of randomness ends it
// with an error.
func (a *Agent) Run(ctx context.Context) error {
	forced, failures := false, 0
	for {
		next, err := a.step(ctx, forced)
		if ctx.Err() != nil {
			return nil
		}
		var pause, gap time.Duration // until the next step; until one that the hub asks for
		if err != nil {
			if pause, err = a.pause(err, failures); err != nil {
				return err
			}
			failures++
			gap = pause
		} else {
			forced, failures = false, 0
			pause, gap = min(next.Sub(a.now()), maxSleep), minInterval
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-a.refused:
			forced = true
			if !next.IsZero() {
				gap = min(gap, max(0, next.Sub(a.now()))) // a certificate of minutes is renewed before that
			}
			a.event(Rejected, "unauthorized at the hub; registering again in %s", gap.Round(time.Second))
			_ = wait(ctx, gap) // its error is the context's, looked at below
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// pause reports a failure and says how long to wait after it.
func (a *Agent) pause(err error, failures int) (time.Duration, error) {
	var retryAfter time.Duration
	kind := Failed
	if r, ok := errors.AsType[*Refused](err); ok {
		retryAfter = r.RetryAfter
		if !IsTemporary(err) {
			kind = Rejected
		}
	}
	pause, randErr := backoff(failures, retryAfter, a.config.Random)
	if randErr != nil {
		return 0, randErr
	}
	a.event(kind, "%v; next try in %s", err, pause.Round(time.Second))
	return pause, nil
}

package provisioning

import (
	"context"
	"time"
)

// Attest says whether a device would be admitted now, for doors that let it in before it
// asks for anything (MQTT's CONNECT). It decides and remembers a refusal as [Engine.Register]
// does, with the same errors, and admits to nothing: what is asked later is decided anew.
func (e *Engine) Attest(ctx context.Context, a Attempt) error {
	now := e.now()
	in, err := e.pace.enter(a, false, now)
	if err == nil {
		defer in.leave()
		err = in.outcome(e.attest(ctx, a, now), now)
	}
	if err != nil {
		e.count(a, false, err)
	}
	return err
}

func (e *Engine) attest(ctx context.Context, a Attempt, now time.Time) error {
	d, err := e.decide(ctx, a, nil, now)
	if err != nil {
		e.refused(a, d, err, now)
	}
	return err
}

package jobs

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/riverqueue/river"
)

// nudges are sweeps that somebody wants to run before their time.
type nudges struct {
	mu      sync.Mutex
	pending map[task]bool
	wake    chan struct{} // there are some
}

func newNudges() *nudges {
	return &nudges{pending: map[task]bool{}, wake: make(chan struct{}, 1)}
}

func (n *nudges) add(all map[task]bool) {
	n.mu.Lock()
	maps.Copy(n.pending, all)
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *nudges) take() map[task]bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := n.pending
	n.pending = map[task]bool{}
	return all
}

// Nudge asks for a sweep soon; asked many times over, it runs once. It touches no database,
// so that anybody may call it anywhere. A nudge that is lost costs a period.
func (j *Jobs) Nudge(scope, sweep string) {
	t := task{scope, sweep}
	if j.sweeps[t] != nil {
		j.nudges.add(map[task]bool{t: true})
	}
}

// carryNudges inserts what is pending, at most once in a while.
func (j *Jobs) carryNudges(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-j.nudges.wake:
		}
		all := j.nudges.take()
		if len(all) == 0 { // taken with the nudge before
			continue
		}
		var inserts []river.InsertManyParams
		for t := range all {
			inserts = append(inserts, river.InsertManyParams{Args: args{Scope: t.scope, sweep: t.name}, InsertOpts: &river.InsertOpts{Queue: queue}})
		}
		if _, err := j.river.InsertMany(ctx, inserts); err != nil && ctx.Err() == nil {
			j.log.Warn("waking sweeps", "problem", err)
			j.nudges.add(all)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(j.config.timing.nudge):
		}
	}
}

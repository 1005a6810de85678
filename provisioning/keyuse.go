package provisioning

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/passmuster/muster/rotation"
)

// keyUses remembers when keys of shared access policies admitted somebody, until it is
// written: a request writes nothing. What a process forgets when it ends is a minute's use.
type keyUses struct {
	mu   sync.Mutex
	last map[keyUse]time.Time
}

// keyUse names one key: of a policy, in a slot, since when.
type keyUse struct {
	plane Plane
	name  string
	slot  rotation.Slot
	since time.Time
}

func (u *keyUses) note(k keyUse, at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last == nil {
		u.last = make(map[keyUse]time.Time)
	}
	u.last[k] = at
}

func (u *keyUses) all() map[keyUse]time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	return maps.Clone(u.last)
}

// written forgets what has been written.
func (u *keyUses) written(uses map[keyUse]time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for k, at := range uses {
		if u.last[k].Equal(at) {
			delete(u.last, k)
		}
	}
}

func writeUses(tx Tx, uses map[keyUse]time.Time) error {
	for k, at := range uses {
		if err := tx.AccessKeyUsed(k.plane, k.name, k.slot, k.since, at); err != nil {
			return err
		}
	}
	return nil
}

// SaveKeyUses writes when the keys of shared access policies were used in this process: each
// calls it once a minute, and before an orderly stop.
func (e *Engine) SaveKeyUses(ctx context.Context, jobs Store) error {
	uses := e.uses.all()
	if len(uses) == 0 {
		return nil
	}
	err := jobs.Update(ctx, func(tx Tx) error { return writeUses(tx, uses) })
	if err == nil {
		e.uses.written(uses)
	}
	return err
}

package main

import (
	"context"
	"time"

	"github.com/passmuster/muster/provisioning"
)

const (
	// keksEvery is how often a server looks whether its key-encryption keys have changed.
	keksEvery = 5 * time.Second
	// rewrapEvery is how often it looks for what a slower server may have sealed meanwhile.
	rewrapEvery = time.Minute
)

// rewrap seals webhooks of before they were sealed, once. Then it takes up new key-encryption
// keys, and seals anew what an old one has sealed for as long as that waits to be retired.
func (s *server) rewrap(ctx context.Context) {
	for _, h := range s.houses {
		h.sealWebhooks(ctx, s)
	}
	tick := time.NewTicker(keksEvery)
	defer tick.Stop()
	var last time.Time
	busy := false
	for {
		waits := false
		for _, h := range s.houses {
			if err := h.keks.Refresh(); err != nil {
				s.log.Error("reading the key-encryption keys", "idScope", h.idScope, "problem", err)
			}
			_, _, old := h.keks.Old()
			waits = waits || old
		}
		if waits && (!busy || time.Since(last) >= rewrapEvery) {
			for _, h := range s.houses {
				h.rewrap(ctx, s)
			}
			last = time.Now()
		}
		busy = waits
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (h *house) rewrap(ctx context.Context, s *server) {
	if _, _, waits := h.keks.Old(); !waits {
		return
	}
	done, err := provisioning.Rewrap(ctx, h.db.ProvisioningJobs(), h.keks.Box(), time.Now().UTC())
	h.sealedAnew(ctx, s, done, err)
}

// sealWebhooks is for databases of before webhooks were sealed.
func (h *house) sealWebhooks(ctx context.Context, s *server) {
	done, err := provisioning.SealWebhooks(ctx, h.db.ProvisioningJobs(), h.keks.Box(), time.Now().UTC())
	h.sealedAnew(ctx, s, done, err)
}

func (h *house) sealedAnew(ctx context.Context, s *server, done int, err error) {
	if done > 0 {
		s.log.Info("sealed secrets anew", "idScope", h.idScope, "values", done, "kek", h.keks.Box().Sealing())
	}
	if err != nil && ctx.Err() == nil {
		s.log.Error("sealing secrets anew", "idScope", h.idScope, "problem", err)
	}
}

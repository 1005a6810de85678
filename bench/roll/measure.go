package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/provisioning"
)

const page = 64 // as the sweep's

// nothing is how long a sweep takes when nothing is due, in ms: the median.
func (b *bench) nothing(ctx context.Context) (float64, error) {
	var took []time.Duration
	for range 201 {
		began := time.Now()
		if _, err := b.engine.SweepRegistrations(ctx, b.db.ProvisioningJobs()); err != nil {
			return 0, err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return float64(took[len(took)/2].Microseconds()) / 1000, nil
}

// claims is how long a due row takes, in µs: to be claimed, and in all when it is not to be
// moved yet.
func (b *bench) claims(ctx context.Context) (claim, look float64, err error) {
	b.now = b.now.Add(firstDue)
	var reading time.Duration
	read := 0
	for half := b.due / 2; read < half; {
		err := b.db.ProvisioningJobs().Update(ctx, func(tx provisioning.Tx) error {
			began := time.Now()
			list, err := tx.ClaimPairs(b.now, page)
			if err != nil || len(list) == 0 {
				return errors.Join(err, errors.New("fewer are due than were filled"))
			}
			reading += time.Since(began)
			read += len(list)
			for _, p := range list {
				if err := tx.PutDue(p.ID, b.now.Add(laterDue)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return 0, 0, err
		}
	}
	began := time.Now()
	if err := b.sweep(ctx); err != nil {
		return 0, 0, err
	}
	return micros(reading, read), micros(time.Since(began), b.due-read), nil
}

func micros(d time.Duration, n int) float64 { return float64(d.Microseconds()) / float64(n) }

// retire is how many old certificates a second leave their pair, are revoked, and are told
// of in the ledger.
func (b *bench) retire(ctx context.Context) (float64, error) {
	b.now = b.now.Add(retireDue - firstDue)
	began := time.Now()
	if err := b.sweep(ctx); err != nil {
		return 0, err
	}
	took := time.Since(began)
	list, err := b.engine.Ledger(ctx, provisioning.LedgerFilter{Limit: 1, Action: audit.RollRetired})
	if err != nil || len(list) == 0 {
		return 0, errors.Join(err, errors.New("nothing was retired"))
	}
	if r, err := b.engine.Rotation(ctx); err != nil || r.Overdue != 0 {
		return 0, errors.Join(err, fmt.Errorf("%d are overdue", r.Overdue))
	}
	return float64(b.due) / took.Seconds(), nil
}

func (b *bench) sweep(ctx context.Context) error {
	for more := true; more; {
		var err error
		if more, err = b.engine.SweepRegistrations(ctx, b.db.ProvisioningJobs()); err != nil {
			return err
		}
	}
	return nil
}

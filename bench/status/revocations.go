package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
)

const (
	// among is how many certificates are revoked already in one of the two stores.
	among = 100_000
	// good is how many each has that are not.
	good = 40_000
)

// revocations measures a revocation, with its ledger row and its commit, in a store with many
// revoked certificates beside a store with none, in turns.
func revocations(ctx context.Context, c config, dir string, out io.Writer) error {
	none, err := revocable(ctx, filepath.Join(dir, "none"), 0)
	if err != nil {
		return err
	}
	defer func() { _ = none.engine.Close() }() // it is thrown away
	many, err := revocable(ctx, filepath.Join(dir, "many"), among)
	if err != nil {
		return err
	}
	defer func() { _ = many.engine.Close() }() // as above
	n := min(c.count, good/c.rounds)
	var ratios, costs []float64
	for round := range c.rounds {
		var took [2]float64
		for turn := range 2 {
			which := (turn + round) % 2
			s, first := none, 0
			if which == 1 {
				s, first = many, among
			}
			t, err := spent(func() error { return s.revoke(ctx, first+good-(round+1)*n, n) })
			if err != nil {
				return err
			}
			took[which] = float64(t.Microseconds()) / float64(n)
		}
		ratios, costs = append(ratios, took[1]/took[0]), append(costs, took[1])
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "a revocation among %d, CPU µs\t%.0f\t\t\n", among, median(costs))
	fmt.Fprintf(t, "  beside one among none\t%.2f\t≤ 1.2\t%s\n", median(ratios), verdict(median(ratios) <= 1.2))
	return t.Flush()
}

// revocable is a store with revoked certificates, and some that can be.
func revocable(ctx context.Context, dir string, revoked int) (*stock, error) {
	s, err := openStock(ctx, dir)
	if err != nil {
		return nil, err
	}
	if err = s.fill(ctx, 0, revoked, true); err == nil {
		err = s.fill(ctx, revoked, good, false)
	}
	if err != nil {
		_ = s.engine.Close() // it is thrown away
		return nil, fmt.Errorf("filling: %w", err)
	}
	return s, nil
}

// revoke revokes n certificates, from a number on, each in an Update of its own.
func (s *stock) revoke(ctx context.Context, from, n int) error {
	for i := from; i < from+n; i++ {
		c, err := s.certificate(i, false)
		if err != nil {
			return err
		}
		err = s.db.CA().Update(ctx, func(tx ca.Tx) error {
			stored, err := tx.Certificate(c.Issuer, c.Serial)
			if err != nil {
				return err
			}
			_, err = ca.RevokeIn(tx, stored, ca.Superseded, audit.Event{Actor: "operator:bench"}, s.now)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/passmuster/muster/ca"
)

// lists measures the sweep over the shards of an issuer all of whose certificates are revoked:
// all of them, and one that a revocation has touched.
func lists(ctx context.Context, c config, dir string, out io.Writer) error {
	s, err := openStock(ctx, filepath.Join(dir, "lists"))
	if err != nil {
		return err
	}
	defer func() { _ = s.engine.Close() }() // it is thrown away
	began := time.Now()
	if err := s.fill(ctx, 0, c.revoked, true); err != nil {
		return fmt.Errorf("filling: %w", err)
	}
	took := time.Since(began)
	debug.FreeOSMemory()
	before, err := resetPeak()
	if err != nil {
		return err
	}
	all, err := spent(func() error { return s.authority.SweepCRLs(ctx) })
	if err != nil {
		return err
	}
	peak, err := memory("VmHWM")
	if err != nil {
		return err
	}
	var touched []float64
	for n := range min(c.rounds, s.shards(c.revoked)) { // a shard is touched once
		if err := s.touch(ctx, n+1); err != nil {
			return err
		}
		one, err := spent(func() error { return s.authority.SweepCRLs(ctx) })
		if err != nil {
			return err
		}
		touched = append(touched, one.Seconds())
	}
	crl, err := s.authority.PublishedCRL(ctx, s.issuer, 1)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "CRLs: %d revoked certificates in %d shards, written in %.0f s\n\n", c.revoked, s.shards(c.revoked), took.Seconds())
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\t\tgoal\t")
	fmt.Fprintf(t, "all shards, CPU s\t%.2f\t≤ 8\t%s\n", all.Seconds(), verdict(all <= 8*time.Second))
	fmt.Fprintf(t, "  more memory at its peak, MiB\t%.0f\t≤ 400\t%s\n", peak-before, verdict(peak-before <= 400))
	fmt.Fprintf(t, "one touched shard, CPU s\t%.3f\t≤ 0.15\t%s\n", median(touched), verdict(median(touched) <= 0.15))
	fmt.Fprintf(t, "a full CRL, octets\t%d\t≤ 1000000\t%s\n", len(crl.DER), verdict(len(crl.DER) <= 1_000_000))
	return t.Flush()
}

func (s *stock) shards(certificates int) int { return (certificates + shardSize - 1) / shardSize }

// touch makes a shard's CRL due, as a revocation does: here the reason of a revoked
// certificate becomes a stronger one.
func (s *stock) touch(ctx context.Context, shard int) error {
	c, err := s.certificate((shard-1)*shardSize, true)
	if err != nil {
		return err
	}
	c.Reason = ca.KeyCompromise
	return s.db.CA().Update(ctx, func(tx ca.Tx) error { return tx.MarkRevoked(c) })
}

// resetPeak begins to watch the peak of this process's memory, and returns what it is now.
func resetPeak() (mib float64, err error) {
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o600); err != nil {
		return 0, fmt.Errorf("watching memory: %w", err)
	}
	return memory("VmRSS")
}

// memory reads a line of /proc/self/status, in MiB.
func memory(name string) (float64, error) {
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(raw) {
		if f := bytes.Fields(line); len(f) == 3 && string(f[0]) == name+":" {
			kib, err := strconv.ParseFloat(string(f[1]), 64)
			return kib / 1024, err
		}
	}
	return 0, errors.New("the kernel does not say " + name)
}

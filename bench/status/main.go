// Command status measures what publishing status costs: OCSP answers beside the floor, CRLs
// of an issuer with a million revoked certificates, and a revocation among many beside one
// among none.
//
// The floor answers an OCSP request with one signature, or from a map; it keeps no inventory.
// The CRLs and the revocations are measured in this process, by its own CPU time, on a store
// filled through the store's own statements.
//
// Called by scripts/bench.sh.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"
)

func main() {
	var c config
	flag.StringVar(&c.muster, "muster", "", "the muster binary")
	flag.StringVar(&c.own, "own-load", "", "this repository's load generator")
	flag.StringVar(&c.load, "load", "", "the generator that asks for OCSP answers; default none: they are not measured")
	flag.StringVar(&c.floor, "floor", "", "the binary whose command floor is the floor; default none: as above")
	flag.IntVar(&c.rounds, "rounds", 5, "rounds, of which the table has the medians")
	flag.IntVar(&c.count, "n", 1000, "requests of each kind in a round")
	flag.IntVar(&c.revoked, "revoked", 1_000_000, "revoked certificates on the CRLs, 0 for none")
	flag.Parse()
	if err := run(context.Background(), c, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "status:", err)
		os.Exit(1)
	}
}

type config struct {
	muster, own, load, floor string
	rounds, count, revoked   int
}

func run(ctx context.Context, c config, out io.Writer) error {
	if c.rounds < 1 || c.count < 1 {
		return errors.New("one round and one request at least")
	}
	dir, err := os.MkdirTemp("", "muster-status-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a folder left in TMPDIR harms nobody
	if c.load != "" && c.floor != "" {
		if err := answers(ctx, c, dir, out); err != nil {
			return err
		}
		fmt.Fprintln(out)
	}
	if c.revoked == 0 {
		return nil
	}
	if err := lists(ctx, c, dir, out); err != nil {
		return err
	}
	return revocations(ctx, c, dir, out)
}

// cpu is the processor time this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		panic("internal error: a process can always ask for its own usage")
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// spent is the processor time that f takes.
func spent(f func() error) (time.Duration, error) {
	before := cpu()
	err := f()
	return cpu() - before, err
}

func median(all []float64) float64 {
	slices.Sort(all)
	n := len(all)
	return (all[(n-1)/2] + all[n/2]) / 2
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "MISSED"
}

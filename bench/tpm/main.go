// Command tpm measures registrations of devices with a TPM beside those with a symmetric key: of the
// server's CPU, without what a TPM needs of RSA and AES, which is measured apart; and of many devices
// that come at once, each with a software TPM of its own, in a process of its own.
//
//	tpm -muster BINARY [-devices 100] [-rounds 5]
//
// Called by scripts/bench.sh.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/passmuster/muster/test/instance"
)

// goal is how many times a registration with a symmetric key one with a TPM may cost, but for its RSA.
const goal = 3.0

func main() {
	program := flag.String("muster", "", "the server's program")
	devices := flag.Int("devices", 100, "devices, and as many software TPMs")
	rounds := flag.Int("rounds", 5, "how often each registers")
	flag.Parse()
	if err := run(context.Background(), *program, *devices, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "tpm:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, program string, devices, rounds int) (err error) {
	dir, err := os.MkdirTemp("", "muster-tpm-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	m, err := instance.Start(instance.Config{Binary: program, Data: filepath.Join(dir, "muster")})
	if err != nil {
		return err
	}
	defer m.Kill()
	began := time.Now()
	f, err := furnish(ctx, m, devices)
	defer func() { err = errors.Join(err, f.close()) }()
	if err != nil {
		return err
	}
	fmt.Printf("%d devices, each with a TPM of its own (swtpm); made in %.0f s\n\n", devices, time.Since(began).Seconds())
	took, err := f.atOnce(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("  all at once: the first was assigned after %4.0f ms, the last after %4.0f ms, TPMs and all\n", ms(slices.Min(took)), ms(slices.Max(took)))
	f.rest(5 * time.Second)
	var keys, tpms []float64
	for range rounds {
		key, err := f.register(ctx, f.keyed)
		if err != nil {
			return err
		}
		chip, err := f.register(ctx, f.chips)
		if err != nil {
			return err
		}
		keys, tpms = append(keys, key), append(tpms, chip)
	}
	ops, err := f.operations()
	if err != nil {
		return err
	}
	key, chip := median(keys), median(tpms)
	ratio, word := (chip-ops)/key, "met"
	if ratio > goal {
		word = "MISSED"
	}
	fmt.Printf("\nthe server's CPU for a whole registration on connections of its own, µs; median of %d rounds of %d; without the %.1f %% of a core that it takes alone\n\n", rounds, devices, 100*f.idle)
	fmt.Printf("  symmetric key %6.0f\n  TPM           %6.0f, of which %.0f are two keys wrapped for it, measured apart: without them %.2f times (goal %.0f) %s\n", key, chip, ops, ratio, goal, word)
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

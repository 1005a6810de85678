// Command herd measures how devices that are let in fare beside a herd that is not: ten
// times Azure's limit of registrations a minute (protocols/dps.md §7), while 20,000 disabled
// devices come back again and again, each on a connection of its own.
//
//	herd -muster BINARY -load BINARY
//
// Called by scripts/bench.sh.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/passmuster/muster/test/instance"
)

const (
	letIn    = 10_000.0 / 60 // registrations a second
	disabled = 20_000
	p99Goal  = 250.0 // ms
	groupKey = "bXVzdGVyLWJlbmNoLWdyb3VwLWtleS0wMTIzNDU2Nzg="
)

func main() {
	muster := flag.String("muster", "", "the server's program")
	load := flag.String("load", "", "the load generator")
	seconds := flag.Int("seconds", 60, "how long")
	every := flag.Duration("every", 30*time.Second, "how often a disabled device comes back")
	flag.Parse()
	if err := run(context.Background(), *muster, *load, *seconds, *every); err != nil {
		fmt.Fprintln(os.Stderr, "herd:", err)
		os.Exit(1)
	}
}

// sample is what the load generator reports.
type sample struct {
	Count     int     `json:"count"`
	PerSecond float64 `json:"per_second"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	Peak      float64 `json:"server_rss_peak_mib"`
	CPU       float64 `json:"server_cpu_us_per_op"` // all of the server's, by the requests of this run

	Statuses map[int]int `json:"statuses"`
}

func run(ctx context.Context, muster, load string, seconds int, every time.Duration) error {
	dir, err := os.MkdirTemp("", "muster-herd-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a folder left in TMPDIR harms nobody
	m, err := instance.Start(instance.Config{Binary: muster, Data: filepath.Join(dir, "muster")})
	if err != nil {
		return err
	}
	defer m.Kill()
	if err := furnish(ctx, m); err != nil {
		return err
	}

	comeBack := disabled / every.Seconds()
	var in, out sample
	var errIn, errOut error
	var both sync.WaitGroup
	both.Go(func() { in, errIn = generate(load, m, letIn, seconds, "-prefix", "ok-", "-pool", "2000") })
	both.Go(func() {
		out, errOut = generate(load, m, comeBack, seconds, "-prefix", "off-", "-pool", strconv.Itoa(disabled), "-want", "401", "-or", "429", "-group-key", offKey)
	})
	both.Wait()
	if err := errors.Join(errIn, errOut); err != nil {
		return err
	}
	verdict := "met"
	if in.P99 > p99Goal {
		verdict = "MISSED"
	}
	fmt.Printf("%d s of %.0f registrations a second beside %d disabled devices, each back every %s; every request on a connection of its own, timed from when it was due\n\n", seconds, letIn, disabled, every)
	fmt.Printf("  let in   %6d   %4.0f/s   p50 %5.1f ms   p99 %6.1f ms (goal %.0f) %s\n", in.Count, in.PerSecond, in.P50, in.P99, p99Goal, verdict)
	fmt.Printf("  refused  %6d   %4.0f/s   p50 %5.1f ms   p99 %6.1f ms\n", out.Count, out.PerSecond, out.P50, out.P99)
	fmt.Printf("           %d were decided (401), %d asked more often than they had been advised to (429)\n", out.Statuses[http.StatusUnauthorized], out.Statuses[http.StatusTooManyRequests])
	fmt.Printf("  the server: %.2f of a core; memory, peak %.0f MiB\n", in.CPU*float64(in.Count)/1e6/float64(seconds), in.Peak)
	return nil
}

const offKey = "bXVzdGVyLWJlbmNoLW9mZi1ncm91cC1rZXktMDEyMzQ="

// furnish makes the group that is let in and the one that is not.
func furnish(ctx context.Context, m *instance.Instance) error {
	var errs []error
	for _, g := range []struct{ name, key, status string }{{"keys", groupKey, "enabled"}, {"off", offKey, "disabled"}} {
		errs = append(errs, m.Call(ctx, "PUT", "/groups/"+g.name, instance.Object{
			"attestation":        instance.Object{"type": "symmetricKey", "symmetricKey": instance.Object{"primaryKey": g.key}},
			"provisioningStatus": g.status,
		}, nil))
	}
	return errors.Join(errs...)
}

func generate(load string, m *instance.Instance, rate float64, seconds int, more ...string) (s sample, err error) {
	args := append([]string{
		"dps", "-url", m.Devices, "-scope", m.IDScope, "-pid", strconv.Itoa(m.PID), "-fresh", "-c", "64", "-warm", "0",
		"-rate", strconv.FormatFloat(rate, 'f', 3, 64), "-n", strconv.Itoa(int(rate * float64(seconds))), "-group-key", groupKey,
	}, more...)
	var complaint strings.Builder
	cmd := exec.Command(load, args...)
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return s, fmt.Errorf("%w: %s", err, complaint.String())
	}
	return s, json.Unmarshal(out, &s)
}

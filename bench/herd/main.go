// Command herd measures how devices that are let in fare beside a herd that is not, which comes
// back again and again, each device on a connection of its own: first without the herd, then beside it.
//
//	herd -muster BINARY -load BINARY                                     ten times Azure's limit of registrations a minute (protocols/dps.md §7)
//	herd -muster BINARY -load BINARY -rate 50 -disabled 100000 -every 100s
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
	p99Goal   = 250.0 // ms
	ratioGoal = 2.0   // times the p99 without the herd
	groupKey  = "bXVzdGVyLWJlbmNoLWdyb3VwLWtleS0wMTIzNDU2Nzg="
)

// config is what is measured.
type config struct {
	muster, load string
	rate         float64 // registrations a second that are let in
	disabled     int
	every        time.Duration // how often a disabled device comes back
	seconds      int
}

func main() {
	var c config
	flag.StringVar(&c.muster, "muster", "", "the server's program")
	flag.StringVar(&c.load, "load", "", "the load generator")
	flag.IntVar(&c.seconds, "seconds", 60, "how long")
	flag.Float64Var(&c.rate, "rate", 10_000.0/60, "registrations a second that are let in")
	flag.IntVar(&c.disabled, "disabled", 20_000, "devices that are not let in")
	flag.DurationVar(&c.every, "every", 30*time.Second, "how often such a device comes back")
	flag.Parse()
	if err := c.run(context.Background()); err != nil {
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

func (c config) run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "muster-herd-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a folder left in TMPDIR harms nobody
	m, err := instance.Start(instance.Config{Binary: c.muster, Data: filepath.Join(dir, "muster")})
	if err != nil {
		return err
	}
	defer m.Kill()
	if err := furnish(ctx, m); err != nil {
		return err
	}
	quiet, err := c.generate(m, c.rate, "-prefix", "quiet-", "-pool", "2000")
	if err != nil {
		return err
	}
	var in, out sample
	var errIn, errOut error
	var both sync.WaitGroup
	both.Go(func() { in, errIn = c.generate(m, c.rate, "-prefix", "ok-", "-pool", "2000") })
	both.Go(func() {
		out, errOut = c.generate(m, float64(c.disabled)/c.every.Seconds(), "-prefix", "off-", "-pool", strconv.Itoa(c.disabled), "-want", "401", "-or", "429", "-group-key", offKey)
	})
	both.Wait()
	if err := errors.Join(errIn, errOut); err != nil {
		return err
	}
	fmt.Printf("%d s of %.0f registrations a second beside %d disabled devices, each back every %s; every request on a connection of its own, timed from when it was due\n\n", c.seconds, c.rate, c.disabled, c.every)
	fmt.Printf("  let in, without the herd  %6d   %4.0f/s   p50 %5.1f ms   p99 %6.1f ms\n", quiet.Count, quiet.PerSecond, quiet.P50, quiet.P99)
	fmt.Printf("  let in                    %6d   %4.0f/s   p50 %5.1f ms   p99 %6.1f ms (goal %.0f) %s; %.1f times that without it (goal %.0f) %s\n",
		in.Count, in.PerSecond, in.P50, in.P99, p99Goal, met(in.P99 <= p99Goal), in.P99/quiet.P99, ratioGoal, met(in.P99 <= ratioGoal*quiet.P99))
	fmt.Printf("  refused                   %6d   %4.0f/s   p50 %5.1f ms   p99 %6.1f ms\n", out.Count, out.PerSecond, out.P50, out.P99)
	fmt.Printf("           %d were decided (401), %d asked more often than they had been advised to (429)\n", out.Statuses[http.StatusUnauthorized], out.Statuses[http.StatusTooManyRequests])
	fmt.Printf("  the server: %.2f of a core; memory, peak %.0f MiB\n", in.CPU*float64(in.Count)/1e6/float64(c.seconds), in.Peak)
	return nil
}

func met(ok bool) string {
	if ok {
		return "met"
	}
	return "MISSED"
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

func (c config) generate(m *instance.Instance, rate float64, more ...string) (s sample, err error) {
	args := append([]string{
		"dps", "-url", m.Devices, "-scope", m.IDScope, "-pid", strconv.Itoa(m.PID), "-fresh", "-c", "64", "-warm", "200",
		"-rate", strconv.FormatFloat(rate, 'f', 3, 64), "-n", strconv.Itoa(int(rate * float64(c.seconds))), "-group-key", groupKey,
	}, more...)
	var complaint strings.Builder
	cmd := exec.Command(c.load, args...)
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return s, fmt.Errorf("%w: %s", err, complaint.String())
	}
	return s, json.Unmarshal(out, &s)
}

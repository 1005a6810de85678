// Command contain measures a disallowance: a CA is stolen that many devices rest on. How long
// the act takes, how soon doors refuse after its answer, how long until every receipt is in, and how
// devices fare meanwhile that do not rest on it.
//
//	contain -muster BINARY -load BINARY
//	contain -muster BINARY -load BINARY -dsn DSN     on PostgreSQL: one server acts, another is asked
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
	"text/tabwriter"
	"time"
)

// Goals. Of the act there are two: on SQLite, and on PostgreSQL with two processes.
const (
	actGoal, actGoalPostgres = 50.0, 150.0 // ms
	refusedGoal              = 1000.0      // ms
	receiptsGoal             = 20_000.0    // a second
	besideGoal               = 3.0         // times the p99 without it
)

func main() {
	var c config
	flag.StringVar(&c.muster, "muster", "", "the muster binary")
	flag.StringVar(&c.load, "load", "", "this repository's load generator")
	flag.StringVar(&c.dsn, "dsn", "", "PostgreSQL, where a schema is made for each size and dropped; none: SQLite")
	small := flag.Int("devices", 100_000, "devices below the stolen CA")
	large := flag.Int("large", 1_000_000, "and in the larger store; 0 for none")
	flag.Parse()
	if err := run(context.Background(), c, []int{*small, *large}, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "contain:", err)
		os.Exit(1)
	}
}

// config is what a measurement runs on.
type config struct{ muster, load, dsn string }

func run(ctx context.Context, c config, sizes []int, out io.Writer) error {
	store, goal := "SQLite, one process", actGoal
	if c.dsn != "" {
		store, goal = "PostgreSQL, two processes: one acts, the other is asked", actGoalPostgres
	}
	fmt.Fprintf(out, "A factory's CA is disallowed with everything below it; %s; ms unless said otherwise\n\n", store)
	rows := []figure{
		{"preview", "", func(m taken) (float64, bool) { return ms(m.preview), true }},
		{"act", atMost(goal), func(m taken) (float64, bool) { return ms(m.act), ms(m.act) <= goal }},
		{fmt.Sprintf("longest of %d acts", acts), atMost(goal), func(m taken) (float64, bool) { return ms(m.longest), ms(m.longest) <= goal }},
		{"all doors have refused, after it", atMost(refusedGoal), func(m taken) (float64, bool) { return ms(m.refused), ms(m.refused) <= refusedGoal }},
		{"OCSP has said revoked, after another", atMost(refusedGoal), func(m taken) (float64, bool) { return ms(m.revoked), ms(m.revoked) <= refusedGoal }},
		{"receipts are in, s", "", func(m taken) (float64, bool) { return m.done.Seconds(), true }},
		{"receipts a second", fmt.Sprintf("≥ %.0f", receiptsGoal), func(m taken) (float64, bool) {
			rate := float64(m.devices) / m.done.Seconds()
			return rate, rate >= receiptsGoal
		}},
		{"issuance of other devices, p99", "", func(m taken) (float64, bool) { return m.quiet, true }},
		{"  beside the act and its receipts", fmt.Sprintf("≤ %.0f ×", besideGoal), func(m taken) (float64, bool) { return m.beside, m.beside <= besideGoal*m.quiet }},
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "devices\tgoal\t")
	var measured []taken
	for _, devices := range sizes {
		if devices == 0 {
			continue
		}
		m, err := measure(ctx, c, devices)
		if err != nil {
			return fmt.Errorf("%d devices: %w", devices, err)
		}
		measured = append(measured, m)
		fmt.Fprintf(t, "%d\t\t", devices)
	}
	fmt.Fprintln(t)
	for _, row := range rows {
		fmt.Fprintf(t, "%s\t%s\t", row.name, row.goal)
		for _, m := range measured {
			is, good := row.of(m)
			fmt.Fprintf(t, "%.1f\t%s\t", is, met(row.goal, good))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// figure is a line of the table.
type figure struct {
	name, goal string
	of         func(taken) (is float64, good bool)
}

func atMost(goal float64) string { return fmt.Sprintf("≤ %.0f", goal) }

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func met(goal string, good bool) string {
	switch {
	case goal == "":
		return ""
	case good:
		return "met"
	}
	return "MISSED"
}

// taken is what a disallowance took: until the preview was there, until the act was answered, from
// then until the slowest door had refused, and until every receipt was in; and the p99 in ms of
// issuances without it and beside it.
type taken struct {
	disallowed
	longest       time.Duration // of some acts that follow
	refused       time.Duration
	revoked       time.Duration // until OCSP says so of a leaf, in another act
	done          time.Duration
	quiet, beside float64
}

func measure(ctx context.Context, c config, devices int) (m taken, err error) {
	w, err := open(ctx, c)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, w.close(ctx)) }()
	d, err := w.furnish(ctx, devices)
	if err != nil {
		return m, err
	}
	doors, err := d.doors(w.asked)
	if err != nil {
		return m, err
	}
	if m.quiet, err = w.issue("quiet-", nil); err != nil {
		return m, err
	}
	m.beside, err = w.issue("beside-", func() error {
		stolen, err := caOf(w.stolen)
		if err != nil {
			return err
		}
		if m.disallowed, err = disallow(ctx, w.acts, stolen); err != nil {
			return err
		}
		if m.devices != devices+1 {
			return fmt.Errorf("the preview finds %d devices", m.devices)
		}
		for n, door := range doors {
			if code, err := door(); err != nil || code != 401 {
				return fmt.Errorf("door %d answers the first request after the act with %d: %w", n, code, err)
			}
		}
		m.refused = time.Since(m.at)
		m.done, err = receipts(ctx, w.acts, m.disallowed)
		return err
	})
	if err != nil {
		return m, err
	}
	if m.longest, err = oneByOne(ctx, w.acts, w.clean); err != nil {
		return m, err
	}
	other, err := newDevice(w.clean, "dev-b")
	if err != nil {
		return m, err
	}
	m.revoked, err = revokedAtOnce(ctx, w.acts, w.asked, other)
	return m, err
}

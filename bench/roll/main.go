// Command roll measures the planner: what it costs to claim devices whose certificates
// are due among a million and among ten million, what it costs when nothing is due, and how
// many moves a second are made on SQLite.
//
// It fills a store by statements of its own, with pairs that never were anybody's, and runs
// the engine's own sweep on it.
//
// Called by scripts/bench.sh.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/store/sqlite"
)

func main() {
	rows := flag.Int("rows", 1_000_000, "registrations, a multiple of 1000")
	large := flag.Int("large", 10_000_000, "registrations of the larger store, 0 for none")
	due := flag.Int("due", 20_000, "registrations that are due, and again as many to move")
	flag.Parse()
	if err := run(context.Background(), *rows, *large, *due); err != nil {
		fmt.Fprintln(os.Stderr, "roll:", err)
		os.Exit(1)
	}
}

const (
	claimGoal = 35.0   // µs a due row
	growth    = 1.5    // of that in the larger store
	idleGoal  = 1.0    // ms
	movesGoal = 2000.0 // a second
)

func run(ctx context.Context, rows, large, due int) error {
	if rows < 1000 || due < 100 || due*2 > rows {
		return errors.New("a thousand rows at least, of which no more than half are due")
	}
	small, err := measure(ctx, rows, due, true)
	if err != nil {
		return err
	}
	fmt.Printf("What is due of %d pairs, filled in %.0f s, %.1f GB\n\n", rows, small.filled.Seconds(), small.size)
	line("claimed, µs a due row", small.claim, "≤", claimGoal)
	line("looked at and given another date, µs a row", small.look, "", 0)
	line("nothing due, ms", small.idle, "≤", idleGoal)
	line("moves a second", small.moves, "≥", movesGoal)
	if large == 0 {
		return nil
	}
	big, err := measure(ctx, large, due, false)
	if err != nil {
		return err
	}
	fmt.Printf("\nWhat is due of %d, filled in %.0f s, %.1f GB\n\n", large, big.filled.Seconds(), big.size)
	line("claimed, µs a due row", big.claim, "", 0)
	line("  of what it was above", big.claim/small.claim, "≤", growth)
	line("nothing due, ms", big.idle, "≤", idleGoal)
	return nil
}

// line prints a figure beside its goal, if it has one.
func line(what string, got float64, sign string, goal float64) {
	verdict := ""
	if sign != "" {
		verdict = fmt.Sprintf("%s %g  met", sign, goal)
		if sign == "≤" && got > goal || sign == "≥" && got < goal {
			verdict = fmt.Sprintf("%s %g  MISSED", sign, goal)
		}
	}
	fmt.Printf("  %-44s %9.2f  %s\n", what, got, verdict)
}

// figures are what was measured on one store.
type figures struct {
	filled             time.Duration
	size               float64 // GB
	claim, look, moves float64
	idle               float64
}

// measure fills a store and removes it afterwards.
func measure(ctx context.Context, rows, due int, moves bool) (f figures, err error) {
	dir, err := os.MkdirTemp("", "muster-roll-")
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "muster.db")
	file, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	b := &bench{file: file, db: store.New(file), rows: rows, due: due, now: time.Now().UTC().Truncate(time.Hour)}
	start := b.now
	b.engine = provisioning.New(provisioning.Config{
		Store: b.db.Provisioning(), Now: func() time.Time { return b.now }, Even: func() time.Duration { return b.now.Sub(start) }, Log: slog.New(slog.DiscardHandler),
	})
	began := time.Now()
	if err := b.fill(ctx); err != nil {
		return f, fmt.Errorf("filling: %w", err)
	}
	f.filled = time.Since(began)
	info, err := os.Stat(path)
	if err != nil {
		return f, err
	}
	f.size = float64(info.Size()) / 1e9
	if f.idle, err = b.nothing(ctx); err != nil {
		return f, err
	}
	if f.claim, f.look, err = b.claims(ctx); err != nil || !moves {
		return f, err
	}
	f.moves, err = b.retire(ctx)
	return f, err
}

// Command scale measures what a million certificates do to a server: to issuing, to
// its start, to its memory and to its disk; and what a million enrollments do to the
// pages of a query.
//
// It fills the store of one installation through the store's own statements, leaves
// another empty, and measures both in turns. The certificates are of the real size and
// have real thumbprints; their signatures are not valid, which nothing here looks at.
// The enrollments have an installation of their own.
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
	"os/exec"
	"path/filepath"

	"github.com/passmuster/muster/test/instance"
)

func main() {
	var c config
	flag.StringVar(&c.muster, "muster", "", "the muster binary")
	flag.StringVar(&c.load, "load", "", "this repository's load generator")
	flag.IntVar(&c.rows, "rows", 1_000_000, "certificates, 0 for none; there are a tenth as many enrolled devices")
	flag.IntVar(&c.entries, "enrollments", 1_000_000, "enrollments that are listed, 0 for none")
	flag.IntVar(&c.rounds, "rounds", 5, "rounds, of which the table has the medians")
	flag.IntVar(&c.count, "n", 1000, "certificates issued by each server in a round")
	flag.Parse()
	if err := run(context.Background(), c, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

type config struct {
	muster, load                 string
	rows, entries, rounds, count int
}

func run(ctx context.Context, c config, out io.Writer) error {
	if c.muster == "" || c.load == "" || c.rounds < 1 {
		return errors.New("-muster and -load are needed, and one round at least")
	}
	dir, err := os.MkdirTemp("", "muster-scale-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a folder left in TMPDIR harms nobody
	if c.rows > 0 {
		if err := certificates(ctx, c, dir, out); err != nil {
			return err
		}
	}
	if c.rows > 0 && c.entries > 0 {
		fmt.Fprintln(out)
	}
	if c.entries > 0 {
		return enrollments(ctx, c, dir, out)
	}
	return nil
}

// certificates measures a server that has issued many beside one that has not.
func certificates(ctx context.Context, c config, dir string, out io.Writer) error {
	if c.rows < 10 {
		return errors.New("ten rows at least")
	}
	if out, err := exec.Command(c.load, "gen-ca", dir, "devices").CombinedOutput(); err != nil {
		return fmt.Errorf("making a device CA: %w: %s", err, out)
	}
	b := &bench{config: c, dir: dir}
	for _, name := range []string{"empty", "full"} {
		if err := b.furnish(ctx, name); err != nil {
			return fmt.Errorf("furnishing %s: %w", name, err)
		}
	}
	f, err := fill(ctx, filepath.Join(dir, "full", "muster.db"), c.rows)
	if err != nil {
		return fmt.Errorf("filling: %w", err)
	}
	if err := b.measure(ctx, f); err != nil {
		return err
	}
	b.print(out, f)
	return nil
}

// furnish makes an installation that lets the devices in, and has each of a few enroll
// once: one of them is the pattern for what fill writes.
func (b *bench) furnish(ctx context.Context, name string) error {
	s, err := instance.Start(instance.Config{Binary: b.muster, Data: filepath.Join(b.dir, name)})
	if err != nil {
		return err
	}
	defer s.Kill()
	if err := s.Admit(ctx, "devices", filepath.Join(b.dir, "devices"), true); err != nil {
		return err
	}
	if _, err := b.issue(s, 1, 1, patternPrefix); err != nil {
		return err
	}
	return s.Stop()
}

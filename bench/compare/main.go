// Command compare measures Muster beside the floor, in turns, and prints one table.
//
// The floor is the least server that still enrolls honestly: no policy, audit, log or
// metrics. Both run on this machine in the same minutes, so that their ratio means
// something where their digits do not. Without the floor only Muster's own figures are
// printed. With step-ca its issuances are measured in the same turns.
//
// Called by scripts/bench.sh.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/passmuster/muster/test/instance"
)

func main() {
	var c config
	flag.StringVar(&c.muster, "muster", "", "the muster binary")
	flag.StringVar(&c.own, "own-load", "", "this repository's load generator")
	flag.StringVar(&c.load, "load", "", "the load generator for what is compared; default the own one")
	flag.StringVar(&c.floor, "floor", "", "the binary whose command floor is the floor; default none")
	flag.StringVar(&c.stepCA, "step-ca", "", "the step-ca binary; default none. It needs a -load that knows it")
	flag.IntVar(&c.rounds, "rounds", 5, "rounds, of which the table has the medians")
	flag.IntVar(&c.count, "n", 1000, "requests of each kind in a round")
	flag.IntVar(&c.clients, "c", 8, "concurrent clients")
	flag.Parse()
	if err := run(context.Background(), c); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

type config struct {
	muster, own, load, floor, stepCA string
	rounds, count, clients           int
}

func run(ctx context.Context, c config) (err error) {
	if c.muster == "" || c.own == "" || c.rounds < 1 {
		return errors.New("-muster and -own-load are needed, and one round at least")
	}
	if c.load == "" {
		c.load = c.own
	}
	dir, err := os.MkdirTemp("", "muster-compare-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a folder left in TMPDIR harms nobody
	for _, name := range []string{"devices", "refused"} {
		if out, err := exec.Command(c.own, "gen-ca", dir, name).CombinedOutput(); err != nil {
			return fmt.Errorf("making a device CA: %w: %s", err, out)
		}
	}
	m, err := startMuster(ctx, c, dir)
	if err != nil {
		return err
	}
	defer m.Kill()
	b := bench{config: c, dir: dir, muster: m}
	if c.floor != "" {
		if b.floor, err = startFloor(c.floor, dir); err != nil {
			return err
		}
		defer b.floor.stop()
	}
	if c.stepCA != "" {
		if b.stepCA, err = startStepCA(c.stepCA, filepath.Join(dir, "step-ca")); err != nil {
			return err
		}
		defer b.stepCA.stop()
	}
	if err := b.measure(); err != nil {
		return err
	}
	b.print(os.Stdout)
	return nil
}

// warm is how many requests are sent before measuring.
const warm = 50

// refusedDevices is how many devices are refused: each asks four times in a run. One that
// asks more often is put off, which is another thing, and cheaper.
func (c config) refusedDevices() int { return max((c.count+warm)/4+1, c.clients) }

// groupKey is the key of the group whose devices show tokens.
const groupKey = "bXVzdGVyLWJlbmNoLWdyb3VwLWtleS0wMTIzNDU2Nzg="

// startMuster runs a server with a group of devices that are let in, one whose devices
// are refused, and devices that are refused by name.
func startMuster(ctx context.Context, c config, dir string) (*instance.Instance, error) {
	m, err := instance.Start(instance.Config{Binary: c.muster, Data: filepath.Join(dir, "muster")})
	if err != nil {
		return nil, err
	}
	err = errors.Join(m.Admit(ctx, "devices", filepath.Join(dir, "devices"), true), m.Admit(ctx, "refused", filepath.Join(dir, "refused"), false))
	if err == nil {
		err = m.Call(ctx, "PUT", "/groups/keys", instance.Object{
			"attestation": instance.Object{"type": "symmetricKey", "symmetricKey": instance.Object{"primaryKey": groupKey}},
		}, nil)
	}
	for n := 0; n < c.refusedDevices() && err == nil; n++ {
		err = m.Call(ctx, "PUT", fmt.Sprintf("/enrollments/off-%06d", n), instance.Object{
			"attestation": instance.Object{"type": "symmetricKey"}, "provisioningStatus": "disabled",
		}, nil)
	}
	if err != nil {
		m.Kill()
		return nil, fmt.Errorf("furnishing the server: %w", err)
	}
	return m, nil
}

// Command breach plays a breach through: a factory's intermediate is stolen on which a fleet
// rests, part of it at the built-in hub, part of it at a real Mosquitto. It is disallowed as an
// operator does that, and then every door and hub is asked whether it took. Every step is
// checked; the first that is not as it should be ends it with status 1.
//
//	breach -muster BINARY -dir FOLDER [-devices N]
//
// Called by scripts/demo-breach.sh.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/passmuster/muster/test/instance"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	muster := flag.String("muster", "", "the muster binary")
	dir := flag.String("dir", "", "an empty folder")
	devices := flag.Int("devices", 10_000, "how many rest on what is stolen")
	flag.Parse()
	b := &breach{muster: *muster, dir: *dir, size: *devices, began: time.Now()}
	defer b.close()
	if err := b.play(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "demo-breach: FAILED in step %d, %s: %v\n", b.steps, b.title, err)
		b.close()
		os.Exit(1)
	}
}

// brokerHub is the name that the broker is linked by.
const brokerHub = "mqtt.example.net"

// breach is the world it is played in.
type breach struct {
	muster, dir string
	size        int
	began       time.Time
	steps       int
	title       string

	root, line, next *authority // the factory's; next stands in for line
	server           *instance.Instance
	broker           *instance.Broker
	fleet            *fleet
	devices          []*device
	atBroker         []*open
}

func (b *breach) close() {
	if b.broker != nil {
		b.broker.Stop()
		b.broker = nil
	}
	if b.server != nil {
		b.server.Kill()
		b.server = nil
	}
}

func (b *breach) play(ctx context.Context) error {
	for _, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"A server on loopback, and a Mosquitto beside it", b.open},
		{"A factory: its root, and the intermediate of line 3. A group for each", b.furnish},
		{fmt.Sprintf("%d devices of line 3 register; a tenth or so is assigned to the Mosquitto", b.size), b.enroll},
		{"The key of line 3 is stolen: whoever has it makes devices", b.steal},
		{"Looking before acting", b.preview},
		{"A replacement for line 3 stands ready in the group's other slot", b.stage},
		{"The act, and how far it gets", b.act},
		{"Devices come back under the replacement", b.comeBack},
		{"The report", b.report},
	} {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b.steps, b.title = b.steps+1, step.title
		fmt.Printf("\n%2d. %s\n", b.steps, step.title)
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	if err := b.server.Stop(); err != nil {
		return err
	}
	b.server = nil
	fmt.Printf("\nDone in %.0f s. The server and the broker are stopped; what they had is in ./demo-breach for a look.\n", time.Since(b.began).Seconds())
	return nil
}

func say(format string, args ...any) { fmt.Printf("    "+format+"\n", args...) }

// run is an operator's command, shown with what it prints. It finds the server's dev.env.
func (b *breach) run(ctx context.Context, args ...string) (string, error) {
	say("$ muster %s", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, b.muster, args...)
	cmd.Dir, cmd.Env = b.dir, b.environment()
	var problem strings.Builder
	cmd.Stderr = &problem
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("muster %s: %w: %s%s", args[0], err, out, problem.String())
	}
	return string(out), nil
}

// environment is ours without the settings of another server.
func (b *breach) environment() (list []string) {
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "MUSTER_") {
			list = append(list, v)
		}
	}
	return list
}

func shown(text string) {
	for line := range strings.Lines(text) {
		say("  %s", strings.TrimRight(line, "\n"))
	}
}

func (b *breach) path(name string) string { return filepath.Join(b.dir, name) }

// Command idle measures what MQTT connections cost a server while they idle: its resident
// memory after so many devices have connected, registered and stayed, less what it held
// before the first, by the connection. One server for devices that show a token, another for
// those that show a certificate.
//
//	idle -muster BINARY -load BINARY
//
// Called by scripts/bench.sh.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/passmuster/muster/test/instance"
)

const (
	goal     = 40.0 // KiB a connection
	groupKey = "bXVzdGVyLWJlbmNoLWdyb3VwLWtleS0wMTIzNDU2Nzg="
)

func main() {
	var b bench
	flag.StringVar(&b.muster, "muster", "", "the server's program")
	flag.StringVar(&b.load, "load", "", "the load generator")
	flag.IntVar(&b.connections, "connections", 5000, "how many")
	flag.DurationVar(&b.settle, "settle", 30*time.Second, "how long they idle before the server's memory is looked at: it gives back what it does not need when all is quiet")
	flag.Parse()
	if err := b.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "idle:", err)
		os.Exit(1)
	}
}

type bench struct {
	muster, load string
	connections  int
	settle       time.Duration
	dir          string
}

// holding is what the load generator reports.
type holding struct {
	Connections int     `json:"connections"`
	Before      float64 `json:"server_rss_before_mib"`
	After       float64 `json:"server_rss_after_mib"`
}

func (b *bench) run(ctx context.Context) (err error) {
	if err := b.allowed(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "muster-idle-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(b.dir) }() // a folder left in TMPDIR harms nobody
	if out, err := exec.Command(b.load, "gen-ca", b.dir, "devices").CombinedOutput(); err != nil {
		return fmt.Errorf("making a device CA: %w: %s", err, out)
	}
	fmt.Printf("%d MQTT connections that have registered and idle, %s after the last; the server's resident memory\n\n", b.connections, b.settle)
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "devices show\tbefore, MiB\twith all, MiB\tKiB each\tgoal\t")
	for _, shows := range []struct {
		what   string
		option []string
	}{
		{"a token", []string{"-group-key", groupKey}},
		{"a certificate", []string{"-device-ca", filepath.Join(b.dir, "devices")}},
	} {
		h, err := b.hold(ctx, strings.ReplaceAll(shows.what, " ", "-"), shows.option)
		if err != nil {
			return fmt.Errorf("devices that show %s: %w", shows.what, err)
		}
		each, verdict := (h.After-h.Before)*1024/float64(h.Connections), "met"
		if each > goal {
			verdict = "MISSED"
		}
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.1f\t≤ %.0f\t%s\n", shows.what, h.Before, h.After, each, goal, verdict)
	}
	return t.Flush()
}

// allowed says whether a process may have that many connections.
func (b *bench) allowed() error {
	const others = 200 // files that are no connections
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return err
	}
	if need := uint64(b.connections + others); files.Max < need {
		return fmt.Errorf("%d open files are allowed here (ulimit -Hn), and %d are needed", files.Max, need)
	}
	return nil
}

func (b *bench) hold(ctx context.Context, name string, option []string) (h holding, err error) {
	m, err := instance.Start(instance.Config{Binary: b.muster, Data: filepath.Join(b.dir, name)})
	if err != nil {
		return h, err
	}
	defer m.Kill()
	if err := m.Admit(ctx, "devices", filepath.Join(b.dir, "devices"), true); err != nil {
		return h, err
	}
	if err := m.Call(ctx, "PUT", "/groups/keys", instance.Object{
		"attestation": instance.Object{"type": "symmetricKey", "symmetricKey": instance.Object{"primaryKey": groupKey}},
	}, nil); err != nil {
		return h, err
	}
	cmd := exec.CommandContext(ctx, b.load, append([]string{
		"mqtt", "-url", m.MQTT, "-scope", m.IDScope, "-pid", strconv.Itoa(m.PID),
		"-pool", strconv.Itoa(b.connections), "-settle", b.settle.String(),
	}, option...)...)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return h, fmt.Errorf("%w: %s", err, complaint.String())
	}
	return h, json.Unmarshal(out, &h)
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/passmuster/muster/test/instance"
)

// bench is the servers and what was measured on them.
type bench struct {
	config
	dir    string
	muster *instance.Instance
	floor  *floor  // nil: not there
	stepCA *stepCA // nil: not there
	taken  map[string]*pair
}

// pair is the samples of one row, a round each. after is the CPU time that each request left
// to the planner, in µs.
type pair struct {
	muster, floor, stepCA []sample
	after                 []float64
}

// sample is what the load generator reports of one run.
type sample struct {
	PerSecond float64 `json:"per_second"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	CPU       float64 `json:"server_cpu_us_per_op"`
	Peak      float64 `json:"server_rss_peak_mib"`
}

// row is one thing measured: how to ask Muster for it, and the floor. Without arguments
// for the floor, or with own, only this repository's generator can ask.
type row struct {
	name    string
	goal    float64 // at most so many times the floor's CPU time; 0 = no goal
	own     bool
	refused bool // it asks for devices that are refused
	muster  string
	floor   string
}

const csrVersion = "2025-07-01-preview" // of the device API: the first that carries a CSR

var rows = []row{
	{name: registerCSR, goal: 1.3, muster: "dps -fresh -new-csr -with-csr -api-version " + csrVersion, floor: "est -fresh -new-csr"},
	{name: register, muster: "dps -fresh", floor: "dps -fresh"},
	{name: "EST enroll, fresh", goal: 1.3, muster: "est -fresh -new-csr", floor: "est -fresh -new-csr"},
	{name: enrollKept, goal: 1.4, muster: "est -new-csr", floor: "est -new-csr"},
	{name: registerKey, own: true, muster: "dps -group-key " + groupKey},
	{name: handshake, own: true, muster: "get -fresh -path /.well-known/est/csrattrs -want 200", floor: "get -fresh -path /ping -want 200"},
	{name: refusedDevice, own: true, refused: true, muster: "dps -fresh -new-csr -with-csr -prefix off- -want 401 -api-version " + csrVersion},
	{name: refusedGroup, own: true, refused: true, muster: "dps -fresh -new-csr -with-csr -want 401 -device-ca refused -api-version " + csrVersion},
}

// Names of rows that other figures are computed from.
const (
	registerCSR   = "DPS register with CSR, fresh"
	register      = "DPS register, fresh"
	enrollKept    = "EST enroll, keep-alive" // which step-ca is asked for too
	registerKey   = "DPS register with key, keep-alive"
	handshake     = "bare request, fresh"
	refusedDevice = "refused: device disabled"
	refusedGroup  = "refused: group disabled"
)

// measure runs every row on the servers in turns, whose order changes with the round:
// what warms the machine up or wears it down hits all.
func (b *bench) measure() error {
	b.taken = map[string]*pair{}
	for round := range b.rounds {
		for _, r := range rows {
			p := b.taken[r.name]
			if p == nil {
				p = &pair{}
				b.taken[r.name] = p
			}
			turns := []func() error{
				func() error { return b.onMuster(r, p) },
				func() error { return b.onFloor(r, p) },
				func() error { return b.onStepCA(r, p) },
			}
			if round%2 == 1 {
				slices.Reverse(turns)
			}
			for _, turn := range turns {
				if err := turn(); err != nil {
					return fmt.Errorf("%s: %w", r.name, err)
				}
			}
		}
	}
	return nil
}

func (b *bench) onMuster(r row, p *pair) error {
	if err := b.align(); err != nil {
		return err
	}
	s, err := b.run(r, r.muster, b.muster.Devices, b.muster.CAFile, b.muster.PID)
	if err != nil {
		return err
	}
	p.muster = append(p.muster, s)
	spent, err := b.settle()
	p.after = append(p.after, float64(spent.Microseconds())/float64(b.count+warm))
	return err
}

// align has the planner look just now, so that it does not in the middle of a row, which is
// shorter than the time between two looks: it gives it something to do, and waits.
func (b *bench) align() error {
	few := *b
	few.count = 3 * b.clients
	if _, err := few.run(row{}, "est -new-csr", b.muster.Devices, b.muster.CAFile, b.muster.PID); err != nil {
		return err
	}
	_, err := b.settle()
	return err
}

// settle waits until the planner has nothing left to do for what was issued, so that no row
// pays for another: the devices here ask many times a second, and of what was issued to one
// all but the last two are revoked as superseded. It answers the CPU time that took.
func (b *bench) settle() (time.Duration, error) {
	before := instance.UsageOf(b.muster.PID).CPU
	for range 600 {
		var due struct{ Items []json.RawMessage }
		if err := b.muster.Call(context.Background(), http.MethodGet, "/rotation/due?role=device&limit=1&before="+time.Now().Add(time.Second).UTC().Format(time.RFC3339), nil, &due); err != nil {
			return 0, err
		}
		if len(due.Items) == 0 {
			return instance.UsageOf(b.muster.PID).CPU - before, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return 0, errors.New("the planner does not come to an end")
}

func (b *bench) onFloor(r row, p *pair) error {
	if b.floor == nil || r.floor == "" {
		return nil
	}
	s, err := b.run(r, r.floor, b.floor.url, b.floor.caFile, b.floor.cmd.Process.Pid)
	p.floor = append(p.floor, s)
	return err
}

func (b *bench) onStepCA(r row, p *pair) error {
	if b.stepCA == nil || r.name != enrollKept {
		return nil
	}
	s, err := b.run(r, b.stepCA.args(), b.stepCA.url, b.stepCA.caFile, b.stepCA.cmd.Process.Pid)
	p.stepCA = append(p.stepCA, s)
	return err
}

// run runs the load generator once. Later arguments win: a row may say otherwise.
func (b *bench) run(r row, what, url, ca string, pid int) (s sample, err error) {
	words, pool := strings.Fields(what), 200
	if r.refused {
		pool = b.refusedDevices()
	}
	args := []string{
		words[0], "-url", url, "-ca", ca, "-pid", strconv.Itoa(pid), "-json",
		"-n", strconv.Itoa(b.count), "-c", strconv.Itoa(b.clients), "-warm", strconv.Itoa(warm),
		"-pool", strconv.Itoa(pool),
	}
	if words[0] != "step-ca" { // whose clients show a token
		args = append(args, "-device-ca", filepath.Join(b.dir, "devices"))
	}
	if words[0] == "dps" {
		args = append(args, "-scope", b.muster.IDScope)
	}
	for n, word := range words[1:] {
		if words[n] == "-device-ca" {
			word = filepath.Join(b.dir, word)
		}
		args = append(args, word)
	}
	program := b.load
	if r.own {
		program = b.own
	}
	cmd := exec.Command(program, args...)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return s, fmt.Errorf("%w: %s", err, complaint.String())
	}
	return s, json.Unmarshal(out, &s)
}

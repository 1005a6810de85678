package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/passmuster/muster/test/instance"
)

// bench is two installations and what was measured on them.
type bench struct {
	config
	dir string

	start, idle, cpu, rate, peak map[string][]float64 // by installation, a sample a round
	ratio                        []float64            // CPU time of full to empty, of each round
	reads                        []read
}

// read is a question an operator asks of the full server.
type read struct {
	what string
	took float64 // ms
}

var names = []string{"empty", "full"}

// sample is what the load generator reports of one run.
type sample struct {
	PerSecond float64 `json:"per_second"`
	CPU       float64 `json:"server_cpu_us_per_op"`
	Peak      float64 `json:"server_rss_peak_mib"`
}

// measure starts and loads both installations in turns.
func (b *bench) measure(ctx context.Context, f filled) error {
	b.start, b.idle = map[string][]float64{}, map[string][]float64{}
	b.cpu, b.rate, b.peak = map[string][]float64{}, map[string][]float64{}, map[string][]float64{}
	for round := range b.rounds {
		order := slices.Clone(names)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, name := range order {
			if err := b.round(ctx, name, f, round == 0); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		b.ratio = append(b.ratio, b.cpu["full"][round]/b.cpu["empty"][round])
	}
	return nil
}

func (b *bench) round(ctx context.Context, name string, f filled, first bool) error {
	s, err := instance.Start(instance.Config{Binary: b.muster, Data: filepath.Join(b.dir, name)})
	if err != nil {
		return err
	}
	defer s.Kill()
	rss, err := resident(s.PID)
	if err != nil {
		return err
	}
	got, err := b.issue(s, b.count, 8, "dev-")
	if err != nil {
		return err
	}
	for to, value := range map[*map[string][]float64]float64{
		&b.start: s.Took.Seconds(), &b.idle: rss, &b.cpu: got.CPU, &b.rate: got.PerSecond, &b.peak: got.Peak,
	} {
		(*to)[name] = append((*to)[name], value)
	}
	if first && name == "full" {
		if err := b.ask(ctx, s, f); err != nil {
			return err
		}
	}
	return s.Stop()
}

// issue has devices register with a CSR on fresh connections.
func (b *bench) issue(s *instance.Instance, n, clients int, prefix string) (got sample, err error) {
	cmd := exec.Command(b.load, "dps", "-url", s.Devices, "-scope", s.IDScope, "-api-version", "2025-07-01-preview",
		"-fresh", "-with-csr", "-new-csr", "-ca", s.CAFile, "-device-ca", filepath.Join(b.dir, "devices"), "-prefix", prefix,
		"-n", strconv.Itoa(n), "-c", strconv.Itoa(clients), "-warm", strconv.Itoa(min(n-1, 200)), "-pool", strconv.Itoa(min(n, 200)), "-pid", strconv.Itoa(s.PID))
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return got, fmt.Errorf("%w: %s", err, complaint.String())
	}
	return got, json.Unmarshal(out, &got)
}

// ask times what an operator looks up, the median of five.
func (b *bench) ask(ctx context.Context, s *instance.Instance, f filled) error {
	for _, q := range [][2]string{
		{"newest page of certificates", "/certificates"},
		{"certificate by serial", "/certificates?serial=" + string(f.sample.Serial)},
		{"certificate by thumbprint", "/certificates?thumbprint=" + f.sample.Thumbprint.String()},
		{"certificates of a device", "/certificates?registrationId=" + f.sample.RegistrationID.String()},
		{"revoked certificates", "/certificates?status=revoked"},
		{"device", "/registrations/" + f.sample.RegistrationID.String()},
		{"newest page of the ledger", "/audit"},
	} {
		var all []float64
		for range 5 {
			began := time.Now()
			if err := s.Call(ctx, "GET", q[1], nil, nil); err != nil {
				return err
			}
			all = append(all, float64(time.Since(began).Microseconds())/1000)
		}
		b.reads = append(b.reads, read{q[0], median(all)})
	}
	return nil
}

// resident is the memory a process holds, in MiB.
func resident(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "VmRSS:" {
			kib, err := strconv.ParseFloat(fields[1], 64)
			return kib / 1024, err
		}
	}
	return 0, errors.New("/proc does not say what memory the server holds")
}

func median(all []float64) float64 {
	all = slices.Sorted(slices.Values(all))
	n := len(all)
	return (all[(n-1)/2] + all[n/2]) / 2
}

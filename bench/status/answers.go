package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/passmuster/muster/test/instance"
)

// kept is how many times as many requests are sent for answers that are kept: the kernel counts
// CPU time in steps that are too large for fewer.
const kept = 5

// warm is how many requests are sent before measuring.
const warm = 50

// answers measures OCSP answers that are signed for the request, and ones that were signed
// before, on both servers in turns.
func answers(ctx context.Context, c config, dir string, out io.Writer) error {
	if o, err := exec.Command(c.own, "gen-ca", dir, "devices").CombinedOutput(); err != nil {
		return fmt.Errorf("making a device CA: %w: %s", err, o)
	}
	m, err := instance.Start(instance.Config{Binary: c.muster, Data: filepath.Join(dir, "muster")})
	if err != nil {
		return err
	}
	defer m.Kill()
	if err := m.Admit(ctx, "devices", filepath.Join(dir, "devices"), true); err != nil {
		return err
	}
	b := bench{config: c, dir: dir, muster: m}
	serials, err := b.issue(c.rounds * (c.count + warm))
	if err != nil {
		return err
	}
	stop, err := b.startFloor()
	if err != nil {
		return err
	}
	defer stop()
	var signed, cached pair
	for round := range c.rounds {
		fresh := serials[round*(c.count+warm):][:c.count+warm]
		if err := b.round(round, &signed, "/ocsp", fresh, c.count, warm); err != nil {
			return err
		}
		if err := b.round(round, &cached, "/ocsp-cached", fresh[:100], kept*c.count, 200); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "OCSP: %d rounds of %d requests by POST, and five times as many for answers signed before, plain HTTP, SQLite; medians; CPU in µs of the server's own time\n\n", c.rounds, c.count)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tCPU\tfloor\tratio\tgoal\t")
	for _, row := range []struct {
		name string
		pair
	}{{"signed", signed}, {"signed before", cached}} {
		ratio := median(row.ratio)
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.2f\t≤ 1.5\t%s\n", row.name, median(row.muster), median(row.floor), ratio, verdict(ratio <= 1.5))
	}
	return t.Flush()
}

// pair is the samples of one row, a round each.
type pair struct{ muster, floor, ratio []float64 }

type bench struct {
	config
	dir      string
	muster   *instance.Instance
	issuer   string // PEM file with what may have signed Muster's answers
	floorURL string
	floorPID int
}

// issue has devices enroll, each once: what leaves a device's pair is revoked. It returns the
// serial numbers of their certificates.
func (b *bench) issue(n int) ([][]byte, error) {
	file := filepath.Join(b.dir, "serials")
	cmd := exec.Command(b.load, "est", "-url", b.muster.Devices, "-ca", b.muster.CAFile, "-n", strconv.Itoa(n), "-pool", strconv.Itoa(n), "-fresh", "-new-csr",
		"-device-ca", filepath.Join(b.dir, "devices"), "-serials-out", file, "-warm", "0")
	if o, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("issuing: %w: %s", err, o)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	serials := bytes.Fields(raw)
	if len(serials) < n {
		return nil, fmt.Errorf("%d certificates were issued, of %d", len(serials), n)
	}
	return serials, b.writeIssuer()
}

// writeIssuer leaves the issuing CA's certificate alone in a file: the generator takes the
// first for the issuer.
func (b *bench) writeIssuer() error {
	raw, err := os.ReadFile(b.muster.CAFile)
	if err != nil {
		return err
	}
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err
		}
		if !bytes.Equal(certificate.RawSubject, certificate.RawIssuer) {
			b.issuer = filepath.Join(b.dir, "issuing.pem")
			return os.WriteFile(b.issuer, pem.EncodeToMemory(block), 0o600)
		}
	}
	return errors.New("the server has no issuing CA")
}

// startFloor starts the floor and waits until it answers, on a port and the one above it.
func (b *bench) startFloor() (stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().(*net.TCPAddr)
	_ = l.Close() // what matters is that it could be opened
	cmd := exec.Command(b.floor, "floor", "-addr", addr.String(), "-dir", b.dir, "-device-ca", filepath.Join(b.dir, "devices.crt"))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		_ = cmd.Process.Kill() // it has no other way to end
		_ = cmd.Wait()
	}
	b.floorURL, b.floorPID = fmt.Sprintf("http://127.0.0.1:%d", addr.Port+1), cmd.Process.Pid
	for range 100 {
		resp, err := http.Get(b.floorURL + "/ping")
		if err == nil {
			_ = resp.Body.Close() // nothing was read
			return stop, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	stop()
	return nil, fmt.Errorf("the floor does not answer; it said: %s", said.String())
}

// round asks both servers; which comes first changes with the round.
func (b *bench) round(n int, p *pair, floorPath string, serials [][]byte, count, warm int) error {
	file := filepath.Join(b.dir, "asked")
	if err := os.WriteFile(file, bytes.Join(serials, []byte("\n")), 0o600); err != nil {
		return err
	}
	var muster, floor float64
	ask := func(first bool) (err error) {
		if first {
			muster, err = b.ask(b.muster.PKI, "/ocsp", b.issuer, file, b.muster.PID, count, warm)
		} else {
			floor, err = b.ask(b.floorURL, floorPath, filepath.Join(b.dir, "ca.crt"), file, b.floorPID, count, warm)
		}
		return err
	}
	if err := errors.Join(ask(n%2 == 0), ask(n%2 != 0)); err != nil {
		return err
	}
	p.muster, p.floor, p.ratio = append(p.muster, muster), append(p.floor, floor), append(p.ratio, muster/floor)
	return nil
}

func (b *bench) ask(url, path, ca, serials string, pid, count, warm int) (float64, error) {
	cmd := exec.Command(b.load, "ocsp", "-url", url, "-path", path, "-ca", ca, "-serials", serials, "-want", "good", "-json",
		"-n", strconv.Itoa(count), "-warm", strconv.Itoa(warm), "-pool", "8", "-pid", strconv.Itoa(pid))
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	raw, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("asking %s%s: %w: %s", url, path, err, complaint.String())
	}
	var r struct {
		CPU float64 `json:"server_cpu_us_per_op"`
	}
	return r.CPU, json.Unmarshal(raw, &r)
}

// Command contain measures a disallowance: a CA is stolen that many devices rest on. How long
// the act takes, how soon doors refuse after its answer, and how long until every receipt is in.
//
//	contain -muster BINARY -load BINARY
//
// Called by scripts/bench.sh.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/passmuster/muster/test/instance"
)

func main() {
	muster := flag.String("muster", "", "the muster binary")
	load := flag.String("load", "", "this repository's load generator")
	small := flag.Int("devices", 100_000, "devices below the stolen CA")
	large := flag.Int("large", 1_000_000, "and in the larger store; 0 for none")
	flag.Parse()
	if err := run(context.Background(), *muster, *load, *small, *large, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "contain:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, muster, load string, small, large int, out io.Writer) error {
	fmt.Fprintf(out, "A factory's CA is disallowed with everything below it; SQLite; ms unless said otherwise\n\n")
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "devices\tpreview\tact\tgoal\t\tfirst refusal after it\tgoal\t\treceipts in, s\tdevices/s\tgoal\t")
	for _, devices := range []int{small, large} {
		if devices == 0 {
			continue
		}
		m, err := measure(ctx, muster, load, devices)
		if err != nil {
			return fmt.Errorf("%d devices: %w", devices, err)
		}
		rate := float64(devices) / m.done.Seconds()
		fmt.Fprintf(t, "%d\t%.0f\t%.1f\t≤ 50\t%s\t%.1f\t≤ 1000\t%s\t%.1f\t%.0f\t≥ 20000\t%s\n", devices, ms(m.preview), ms(m.act), met(ms(m.act) <= 50),
			ms(m.refused), met(ms(m.refused) <= 1000), m.done.Seconds(), rate, met(rate >= 20_000))
	}
	return t.Flush()
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func met(ok bool) string {
	if ok {
		return "met"
	}
	return "MISSED"
}

// taken is what one disallowance took: until the preview was there, until the act was answered,
// from then until the slowest door had refused, and until every receipt was in.
type taken struct{ preview, act, refused, done time.Duration }

func measure(ctx context.Context, muster, load string, devices int) (m taken, err error) {
	dir, err := os.MkdirTemp("", "muster-contain-")
	if err != nil {
		return m, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a folder left in TMPDIR harms nobody
	if said, err := exec.Command(load, "gen-ca", dir, "devices").CombinedOutput(); err != nil {
		return m, fmt.Errorf("making a device CA: %w: %s", err, said)
	}
	base, data := filepath.Join(dir, "devices"), filepath.Join(dir, "data")
	s, err := instance.Start(instance.Config{Binary: muster, Data: data})
	if err != nil {
		return m, err
	}
	defer func() { s.Kill() }()
	if err := s.Admit(ctx, "devices", base, true); err != nil {
		return m, err
	}
	d, err := newDevice(base, "dev-a")
	if err != nil {
		return m, err
	}
	if err := d.reaches(s); err != nil {
		return m, err
	}
	if err := s.Stop(); err != nil {
		return m, err
	}
	if err := fill(ctx, filepath.Join(data, "muster.db"), d.name, devices); err != nil {
		return m, fmt.Errorf("filling: %w", err)
	}
	if s, err = instance.Start(instance.Config{Binary: muster, Data: data}); err != nil {
		return m, err
	}
	doors := d.doors(s)
	for _, door := range doors { // kept connections, opened before the act
		if code, err := door(); err != nil || code >= 300 {
			return m, fmt.Errorf("a door answers %d before the act: %w", code, err)
		}
	}
	authority, err := os.ReadFile(base + ".crt")
	if err != nil {
		return m, err
	}
	body := instance.Object{"certificate": string(authority)}
	var preview struct {
		Preview string
		Devices int
	}
	began := time.Now()
	if err := s.Call(ctx, http.MethodPost, "/disallowances/preview", body, &preview); err != nil {
		return m, err
	}
	if m.preview = time.Since(began); preview.Devices != devices+1 {
		return m, fmt.Errorf("the preview finds %d devices", preview.Devices)
	}
	body["preview"] = preview.Preview
	var incident struct {
		ID, State string
		Devices   int
	}
	began = time.Now()
	if err := s.Call(ctx, http.MethodPost, "/disallowances", body, &incident); err != nil {
		return m, err
	}
	m.act = time.Since(began)
	acted := time.Now()
	for n, door := range doors {
		if code, err := door(); err != nil || code != http.StatusUnauthorized {
			return m, fmt.Errorf("door %d answers the first request after the act with %d: %w", n, code, err)
		}
	}
	m.refused = time.Since(acted)
	for incident.State != "done" {
		if time.Since(acted) > 5*time.Minute {
			return m, errors.New("the receipts do not come in")
		}
		time.Sleep(50 * time.Millisecond)
		if err := s.Call(ctx, http.MethodGet, "/disallowances/"+incident.ID, nil, &incident); err != nil {
			return m, err
		}
	}
	if m.done = time.Since(acted); incident.Devices != devices+1 {
		return m, fmt.Errorf("there are %d receipts", incident.Devices)
	}
	return m, s.Stop()
}

// device is one that its factory's CA signed.
type device struct {
	name string
	tls  tls.Certificate
	csr  []byte
}

// doors are one request each, over DPS and over EST, on a connection of its own that is kept,
// and over DPS on a fresh one.
func (d device) doors(s *instance.Instance) (list []func() (int, error)) {
	kept := []*http.Client{d.client(s, false), d.client(s, false), d.client(s, true)}
	list = append(list, func() (int, error) { return d.dps(kept[0], s) }, func() (int, error) { return d.est(kept[1], s) },
		func() (int, error) { return d.dps(kept[2], s) })
	return list
}

func (d device) client(s *instance.Instance, fresh bool) *http.Client {
	pool := x509.NewCertPool()
	if raw, err := os.ReadFile(s.CAFile); err == nil {
		pool.AppendCertsFromPEM(raw)
	}
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: fresh, TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{d.tls}},
	}}
}

func (d device) dps(c *http.Client, s *instance.Instance) (int, error) {
	return ask(c, http.MethodPut, s.Devices+"/"+s.IDScope+"/registrations/"+d.name+"/register?api-version=2021-06-01", "application/json",
		`{"registrationId":"`+d.name+`"}`)
}

func (d device) est(c *http.Client, s *instance.Instance) (int, error) {
	return ask(c, http.MethodPost, s.Devices+"/.well-known/est/simpleenroll", "application/pkcs10", base64.StdEncoding.EncodeToString(d.csr))
}

func (d device) reaches(s *instance.Instance) error {
	for _, door := range d.doors(s) {
		if code, err := door(); err != nil || code >= 300 {
			return fmt.Errorf("a new device is answered %d: %w", code, err)
		}
	}
	return nil
}

func ask(c *http.Client, method, url, mediaType, body string) (int, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", mediaType)
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }() // all was read
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

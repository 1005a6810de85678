package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/passmuster/muster/device"
)

// runCmd is `mustersim run`.
type runCmd struct {
	Devices  int           `default:"100" help:"How many."`
	Prefix   string        `default:"sim-" help:"What their registration ids begin with."`
	Duration time.Duration `default:"10m" help:"For how long."`
	Rate     float64       `default:"20" help:"How many are switched on in a second."`
	Protocol string        `enum:"dps-http,est,mixed" default:"mixed" help:"dps-http, est, or mixed: half of each."`
	Dir      string        `required:"" type:"path" help:"Folder of the devices' folders. Devices that are there go on with what they have."`

	URL         string `required:"" help:"The server's device listener, https."`
	IDScope     string `required:"" help:"Id scope."`
	CAFile      string `required:"" type:"existingfile" help:"Roots that vouch for the server, PEM."`
	FactoryCert string `required:"" type:"existingfile" help:"The factory's CA, PEM."`
	FactoryKey  string `required:"" type:"existingfile" help:"Its key, PEM."`

	HubConnectionFile string        `required:"" type:"existingfile" help:"Connection string of a hub policy (muster access connection-string iothubowner --plane hub)."`
	CheckEvery        time.Duration `default:"10s" help:"How often each device is looked up at the hub."`
	Report            string        `type:"path" help:"Where the report goes, JSON (default: standard output)."`
	Verbose           bool          `help:"Print what befalls each device."`
}

// Run runs the fleet.
func (c *runCmd) Run(ctx context.Context) error {
	made, err := openFactory(c.FactoryCert, c.FactoryKey)
	if err != nil {
		return err
	}
	roots, err := readRoots(c.CAFile)
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 64,
	}}
	at, err := openHub(c.URL, c.HubConnectionFile, client)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Duration)
	defer cancel()
	f := &fleet{config: *c, factory: made, roots: roots, hub: at, report: report{Devices: c.Devices, Reasons: map[string]int{}}}
	var busy sync.WaitGroup
	pause := time.NewTicker(max(time.Millisecond, time.Duration(float64(time.Second)/c.Rate)))
	defer pause.Stop()
	for n := range c.Devices {
		select {
		case <-ctx.Done():
		case <-pause.C:
			busy.Go(func() { f.live(ctx, n) })
		}
	}
	busy.Wait()
	return f.finish()
}

func readRoots(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return pool, nil
}

// fleet is the devices and what is counted of them.
type fleet struct {
	config  runCmd
	factory *factory
	roots   *x509.CertPool
	hub     *hub

	mu     sync.Mutex
	report report
	broken error
}

// report is how a fleet fared.
type report struct {
	Devices      int            `json:"devices"`
	Provisioned  int            `json:"provisioned"`  // had a certificate in the end
	Registered   int            `json:"registered"`   // for the first time
	Renewed      int            `json:"renewed"`      // certificates after the first
	Told         int            `json:"told"`         // by the hub's twin, to come again
	Failures     int            `json:"failures"`     // tries that came to nothing for now
	Rejected     int            `json:"rejected"`     // refusals of a credential
	Checks       int            `json:"checks"`       // of a device at the hub
	Unanswered   int            `json:"unanswered"`   // of those, without an answer
	Unauthorized int            `json:"unauthorized"` // the hub would have refused the device's certificate
	Expired      int            `json:"expired"`      // the device had only a certificate past its end
	Reasons      map[string]int `json:"reasons,omitempty"`
}

func (f *fleet) count(do func(*report)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do(&f.report)
}

func (f *fleet) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = errors.Join(f.broken, err)
}

// live is the life of one device.
func (f *fleet) live(ctx context.Context, n int) {
	id := fmt.Sprintf("%s%05d", f.config.Prefix, n)
	folder, agent, err := f.build(id, n)
	if err != nil {
		f.fail(fmt.Errorf("%s: %w", id, err))
		return
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := agent.Run(ctx); err != nil {
			f.fail(fmt.Errorf("%s: %w", id, err))
		}
	})
	f.attend(ctx, id, folder, agent)
	running.Wait()
	if last, err := folder.Current(); err == nil && last.Leaf() != nil {
		f.count(func(r *report) { r.Provisioned++ })
	}
}

// build makes the device, or finds it as it was left.
func (f *fleet) build(id string, n int) (*device.Folder, *device.Agent, error) {
	credential, err := f.factory.credential(id)
	if err != nil {
		return nil, nil, err
	}
	dir := filepath.Join(f.config.Dir, id)
	folder, err := device.Open(dir)
	if errors.Is(err, os.ErrNotExist) {
		key, made := device.NewKey(device.P256)
		if made != nil {
			return nil, nil, made
		}
		folder, err = device.Create(dir, key)
	}
	if err != nil {
		return nil, nil, err
	}
	protocol := device.Protocol(f.config.Protocol)
	if f.config.Protocol == "mixed" {
		protocol = [...]device.Protocol{device.DPS, device.EST}[n%2]
	}
	agent, err := device.NewAgent(device.AgentConfig{
		Server: device.Config{URL: f.config.URL, IDScope: f.config.IDScope, RegistrationID: id, CA: f.roots, Credential: credential},
		Folder: folder, Protocol: protocol, Events: func(e device.Event) { f.note(id, e) },
	})
	return folder, agent, err
}

func (f *fleet) note(id string, e device.Event) {
	if f.config.Verbose {
		fmt.Fprintf(os.Stderr, "%s  %s  %s\n", e.Time.UTC().Format("15:04:05"), id, e)
	}
	f.count(func(r *report) {
		switch e.Kind {
		case device.Registered:
			r.Registered++
		case device.Renewed:
			r.Renewed++
		case device.Rejected:
			r.Rejected++
		case device.Failed:
			r.Failures++
		}
	})
}

// attend is the hub's side of the device until ctx ends: whether it would be let in, and
// what it is told.
func (f *fleet) attend(ctx context.Context, id string, folder *device.Folder, agent *device.Agent) {
	heard := ""
	for turn := 0; ; turn++ {
		pause := time.Duration(float64(f.config.CheckEvery) * (0.5 + rand.Float64()))
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		f.check(ctx, id, folder)
		if turn%3 != 0 {
			continue
		}
		if told, err := f.hub.told(ctx, id); err == nil && told != heard {
			if heard = told; told != "" {
				f.count(func(r *report) { r.Told++ })
				agent.HubRefused() // it registers again, as if the hub had refused it
			}
		}
	}
}

// check asks the hub about the certificate that the device would show it now.
func (f *fleet) check(ctx context.Context, id string, folder *device.Folder) {
	before, err := folder.Current()
	leaf := before.Leaf()
	if err != nil || leaf == nil {
		return // it has not registered yet
	}
	if time.Now().After(leaf.NotAfter) {
		f.count(func(r *report) { r.Expired++ })
		return
	}
	admitted, why, err := f.hub.admits(ctx, id, leaf)
	if ctx.Err() != nil {
		return
	}
	if err != nil && !errors.Is(err, errDown) {
		f.fail(err)
	}
	after, _ := folder.Current() // a device that has renewed meanwhile shows another one
	moved := after.Leaf() == nil || !after.Leaf().Equal(leaf)
	f.count(func(r *report) {
		r.Checks++
		switch {
		case err != nil:
			r.Unanswered++
		case !admitted && !moved:
			r.Unauthorized++
			r.Reasons[why]++
		}
	})
}

// finish writes the report.
func (f *fleet) finish() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	text, err := json.MarshalIndent(f.report, "", "  ")
	if err != nil {
		return err
	}
	if text = append(text, '\n'); f.config.Report == "" {
		_, err = os.Stdout.Write(text)
	} else {
		err = os.WriteFile(f.config.Report, text, 0o600)
	}
	switch r := f.report; {
	case f.broken != nil:
		return f.broken
	case err != nil:
		return err
	case r.Unauthorized > 0 || r.Expired > 0:
		return fmt.Errorf("%d times the hub would have refused a device, %d times a device had no certificate in date", r.Unauthorized, r.Expired)
	case r.Provisioned < r.Devices:
		return fmt.Errorf("%d of %d devices have no certificate", r.Devices-r.Provisioned, r.Devices)
	}
	return nil
}

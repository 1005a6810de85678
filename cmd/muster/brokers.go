package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"

	natsdoor "github.com/passmuster/muster/api/nats"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/jobs"
)

// brokersConfig is about brokers that ask whether a client may connect.
type brokersConfig struct {
	// AskAgain is the longest that an answer is good for; 0 = 1 h.
	AskAgain time.Duration `yaml:"askAgain,omitempty"`
	NATS     natsConfig    `yaml:"nats,omitempty"`
}

// natsConfig is about NATS servers that ask by auth callout. They are the own id scope's.
type natsConfig struct {
	// URL is where they are, several with commas; empty = there are none.
	URL string `yaml:"url,omitempty"`
	// Hub is the built-in hub they stand for; empty = the only one.
	Hub string `yaml:"hub,omitempty"`
	// Account is that of devices.
	Account string `yaml:"account,omitempty"`
	// Files of seeds: of the callout's user (SU…), of the issuer of answers (SA…), of the xkey (SX…),
	// of a user of the system account (SU…). The last two may be missing.
	UserFile   string `yaml:"userFile,omitempty"`
	IssuerFile string `yaml:"issuerFile,omitempty"`
	XKeyFile   string `yaml:"xkeyFile,omitempty"`
	SystemFile string `yaml:"systemFile,omitempty"`
	// CAFile has roots that vouch for the servers; empty = the system's.
	CAFile string `yaml:"caFile,omitempty"`
	// Certificate and Key are what is shown to the servers, which demand it of everybody.
	Certificate string `yaml:"certificate,omitempty"`
	Key         string `yaml:"key,omitempty"`
	// Publish and Subscribe are a device's subjects, with {device} for its name.
	Publish   []string `yaml:"publish,omitempty"`
	Subscribe []string `yaml:"subscribe,omitempty"`
}

const (
	defaultAskAgain = time.Hour
	// ownSubjects is what a device may publish and subscribe to.
	ownSubjects = "devices.{device}.>"
	// dropSweep looks for connections of devices that are shut out.
	dropSweep      = "drop-nats"
	dropSweepEvery = 5 * time.Second
)

func (c brokersConfig) askAgain() time.Duration { return cmp.Or(c.AskAgain, defaultAskAgain) }

func (c brokersConfig) check() error {
	if d := c.askAgain(); d < time.Minute || d > 7*24*time.Hour {
		return fault.New(fault.Malformed, "config", "brokers.askAgain: %s is not between 1m and 168h", d)
	}
	if c.NATS.URL == "" {
		return nil
	}
	return c.NATS.check()
}

func (c natsConfig) check() error {
	for name, value := range map[string]string{"account": c.Account, "userFile": c.UserFile, "issuerFile": c.IssuerFile} {
		if value == "" {
			return fault.New(fault.Malformed, "config", "brokers.nats.%s is missing", name)
		}
	}
	if (c.Certificate == "") != (c.Key == "") {
		return fault.New(fault.Malformed, "config", "brokers.nats: certificate and key go together")
	}
	for text := range strings.SplitSeq(c.URL, ",") {
		u, err := url.Parse(strings.TrimSpace(text))
		if err != nil || u.Host == "" || u.User != nil || u.Scheme != "tls" && u.Scheme != "nats" {
			return fault.New(fault.Malformed, "config", "brokers.nats.url: %q is no address such as tls://nats.example.net:4222", text)
		}
		if u.Scheme == "nats" && !loopback(u.Host) {
			return unsafe("what NATS is told of devices would cross the network in the clear", "brokers: {nats: {url: tls://"+u.Host+"}}")
		}
	}
	for _, path := range []string{c.UserFile, c.IssuerFile, c.XKeyFile, c.SystemFile, c.Key} {
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
			return fault.New(fault.Malformed, "config-unsafe", "the file %s can be read by others; run: chmod 600 %s", path, path)
		}
	}
	return nil
}

// openNATS begins to answer, if there are servers.
func (s *server) openNATS() error {
	c := s.config.Brokers.NATS
	if c.URL == "" {
		return nil
	}
	own := s.houses[0]
	d := natsdoor.Config{
		Engine: own.engine, Hub: c.Hub, URL: c.URL, Account: c.Account, AskAgain: s.config.Brokers.askAgain(), Now: time.Now, Log: s.log, Checked: s.ops.checked,
		Publish: c.Publish, Subscribe: c.Subscribe,
	}
	for _, list := range []*[]string{&d.Publish, &d.Subscribe} {
		if len(*list) == 0 {
			*list = []string{ownSubjects}
		}
	}
	for _, x := range []struct {
		to           *nkeys.KeyPair
		path, prefix string
	}{{&d.User, c.UserFile, "SU"}, {&d.Issuer, c.IssuerFile, "SA"}, {&d.XKey, c.XKeyFile, "SX"}, {&d.System, c.SystemFile, "SU"}} {
		if x.path == "" {
			continue
		}
		seed, err := os.ReadFile(x.path)
		if err != nil {
			return err
		}
		if *x.to, err = natsdoor.KeyOf(bytes.TrimSpace(seed), x.prefix); err != nil {
			return fault.New(fault.Malformed, "config", "brokers.nats: %s: %v", x.path, err)
		}
	}
	var err error
	if d.TLS, err = c.tls(); err != nil {
		return err
	}
	s.callout, err = natsdoor.Open(d)
	if err == nil {
		s.ops.watchNATS(s.callout)
	}
	return err
}

// tls is how the servers are known, and what they are shown, read at each connection.
func (c natsConfig) tls() (*tls.Config, error) {
	if !strings.Contains(c.URL, "tls:") {
		return nil, nil // on this host
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		text, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, err
		}
		if t.RootCAs = x509.NewCertPool(); !t.RootCAs.AppendCertsFromPEM(text) {
			return nil, fault.New(fault.Malformed, "config", "brokers.nats.caFile: %s holds no certificate", c.CAFile)
		}
	}
	if c.Certificate == "" {
		return t, nil
	}
	t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
		if err != nil {
			return nil, fmt.Errorf("brokers.nats.certificate: %w", err)
		}
		return &pair, nil
	}
	_, err := t.GetClientCertificate(nil)
	return t, err
}

// natsDoor is the callout among the doors: it is served until it is stopped.
func (s *server) natsDoor() door {
	closed := make(chan struct{})
	return door{
		serve: func() error { <-closed; return nil },
		stop: func(ctx context.Context) error {
			defer close(closed)
			return within(ctx, s.callout.Close)
		},
	}
}

// dropSweep is the sweep that drops who is shut out. The callout is open before sweeps begin.
func (s *server) dropSweep(idScope string) jobs.Sweep {
	return jobs.Sweep{Scope: idScope, Name: dropSweep, Every: dropSweepEvery, Run: func(ctx context.Context) (bool, error) {
		return false, s.callout.Sweep(ctx)
	}}
}

// watchNATS begins to report on the connections to NATS.
func (o *ops) watchNATS(c *natsdoor.Callout) {
	o.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "muster_nats_connected", Help: "1 while NATS can ask, and clients can be dropped."}, func() float64 {
		if c.IsConnected() {
			return 1
		}
		return 0
	}))
}

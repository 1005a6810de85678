package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/hub/mosquitto"
	"github.com/passmuster/muster/internal/callout"
	"github.com/passmuster/muster/internal/fault"
)

// mosquittoConfig are Mosquitto brokers, by the name of the hub that each is linked as.
type mosquittoConfig map[string]mosquittoBroker

// mosquittoBroker is what of a broker no API chooses: files that the server reads and writes.
type mosquittoBroker struct {
	// IDScope is whose hub it is; empty = the installation's own.
	IDScope string `yaml:"idScope,omitempty"`
	// CRLFile is the broker's crlfile, which the server keeps, and PIDFile its pid_file.
	CRLFile string `yaml:"crlFile,omitempty"`
	PIDFile string `yaml:"pidFile,omitempty"`
	// CAFile vouches for the broker; empty = as for webhooks.
	CAFile string `yaml:"caFile,omitempty"`
	// Certificate and Key are shown to the broker.
	Certificate string `yaml:"certificate,omitempty"`
	Key         string `yaml:"key,omitempty"`
}

// readMosquitto reads a file with nothing but brokers, for a development server.
func readMosquitto(path string) (b mosquittoConfig, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	d := yaml.NewDecoder(bytes.NewReader(raw))
	d.KnownFields(true)
	if err := d.Decode(&b); err != nil && !errors.Is(err, io.EOF) {
		return nil, fault.New(fault.Malformed, "config", "%s: %v", path, err)
	}
	return b, nil
}

func (b mosquittoConfig) check(crl crlConfig) error {
	bad := func(name, why string) error {
		return fault.New(fault.Malformed, "config", "mosquitto.%s: %s", name, why)
	}
	files := map[string]bool{}
	for name, c := range b {
		switch {
		case name != strings.ToLower(name):
			return bad(name, "names of hubs are lower-case")
		case (c.CRLFile == "") != (c.PIDFile == ""):
			return bad(name, "crlFile and pidFile go together")
		case (c.Certificate == "") != (c.Key == ""):
			return bad(name, "certificate and key go together")
		case c.CRLFile == "":
			continue
		case files[c.CRLFile]:
			return bad(name, "two brokers have one crlFile")
		case crl.Delta:
			return bad(name, "a broker reads no delta CRLs: with crl.delta its crlFile would miss what is revoked")
		}
		files[c.CRLFile] = true
	}
	return nil
}

// open reads the files of the brokers that one id scope has.
func (b mosquittoConfig) open(idScope string, own bool) (map[string]mosquitto.Broker, error) {
	out := map[string]mosquitto.Broker{}
	for name, c := range b {
		if !strings.EqualFold(c.IDScope, idScope) && (!own || c.IDScope != "") {
			continue
		}
		is := mosquitto.Broker{CRLFile: c.CRLFile, PIDFile: c.PIDFile}
		if c.CAFile != "" {
			raw, err := os.ReadFile(c.CAFile)
			if err != nil {
				return nil, err
			}
			if is.Roots = x509.NewCertPool(); !is.Roots.AppendCertsFromPEM(raw) {
				return nil, fault.New(fault.Malformed, "config", "mosquitto.%s: %s holds no certificate", name, c.CAFile)
			}
		}
		if c.Certificate != "" {
			is.Certificate = func() (*tls.Certificate, error) { return brokerCertificate(name, c.Certificate, c.Key) }
			if _, err := is.Certificate(); err != nil {
				return nil, err
			}
		}
		out[name] = is
	}
	return out, nil
}

// brokerCertificate reads what the server shows to a broker: it may be renewed while the server runs.
func brokerCertificate(broker, file, key string) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(file, key)
	if err != nil {
		return nil, fmt.Errorf("mosquitto.%s: %w", broker, err)
	}
	if cn := pair.Leaf.Subject.CommonName; mosquitto.CouldBeDevice(cn) {
		return nil, fault.New(fault.Malformed, "config", "mosquitto.%s: a device could have the CN %s, and with it Muster's rights: it needs another character, such as ~", broker, cn)
	}
	return &pair, nil
}

// openMosquitto makes the driver of this id scope's brokers.
func (h *house) openMosquitto(webhooks callout.Options) (err error) {
	o := mosquitto.Options{Callout: webhooks, Local: h.config.dev, CRLs: (&publishedLists{authority: h.sweeper}).read}
	if o.Brokers, err = h.config.Mosquitto.open(h.idScope, h.config.idScope == ""); err != nil {
		return err
	}
	h.mosquitto = mosquitto.New(o)
	return nil
}

// listsEvery is how long a broker may go by an older list than is published.
const listsEvery = 10 * time.Second

// keepLists keeps the CRL files of brokers until ctx ends. It is this process' own affair:
// the files are on its host.
func (h *house) keepLists(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(listsEvery)
	defer tick.Stop()
	last := ""
	for {
		problem := ""
		if err := h.mosquitto.KeepFiles(ctx); err != nil && ctx.Err() == nil {
			problem = err.Error()
		}
		if problem != "" && problem != last {
			log.Error("keeping the CRL files of brokers", "idScope", h.idScope, "problem", problem)
		}
		last = problem
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// publishedLists are all CRLs that an authority has published, in PEM, kept until there is another.
type publishedLists struct {
	authority *ca.Authority

	mu  sync.Mutex
	of  string // numbers of the lists in pem
	pem []byte
}

// read publishes what is due first.
func (p *publishedLists) read(ctx context.Context) ([]byte, error) {
	if err := p.authority.SweepCRLs(ctx); err != nil {
		return nil, err
	}
	shards, err := p.authority.CRLShards(ctx)
	if err != nil {
		return nil, err
	}
	var needed []ca.CRLShard
	var of strings.Builder
	for _, s := range shards {
		if s.Number > 0 && !p.authority.Ended(s) {
			needed = append(needed, s)
			fmt.Fprintln(&of, s.Issuer, s.Shard, s.Number)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if of.String() == p.of {
		return p.pem, nil
	}
	var lists []byte
	for _, s := range needed {
		crl, err := p.authority.PublishedCRL(ctx, s.Issuer, s.Shard)
		if err != nil {
			return nil, err
		}
		lists = append(lists, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: crl.DER})...)
	}
	p.of, p.pem = of.String(), lists
	return lists, nil
}

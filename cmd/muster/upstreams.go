package main

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"gopkg.in/yaml.v3"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
)

// upstreamsConfig is the CAs elsewhere that sign for issuers, each under its name. Which
// keys a section has depends on its type.
type upstreamsConfig map[string]yaml.Node

// upstreamKinds opens a section by its type. What a build leaves out says so.
var upstreamKinds = map[string]func(section) (ca.Upstream, error){
	"stepca": openStepCA,
	"vault":  openVault,
	"google": openGoogle,
}

// section is one upstream's part of the configuration without its type.
type section struct{ raw []byte }

// into reads the section strictly.
func (s section) into(c any) error {
	d := yaml.NewDecoder(bytes.NewReader(s.raw))
	d.KnownFields(true)
	return d.Decode(c)
}

// open checks every section; nothing is asked of the CAs yet.
func (u upstreamsConfig) open() (map[string]ca.Upstream, error) {
	out := map[string]ca.Upstream{}
	for _, name := range slices.Sorted(maps.Keys(u)) {
		upstream, err := openUpstream(u[name])
		if err != nil {
			return nil, fault.New(fault.Malformed, "config", "upstreams.%s: %v", name, err)
		}
		out[name] = upstream
	}
	return out, nil
}

func openUpstream(node yaml.Node) (ca.Upstream, error) {
	var keys map[string]yaml.Node
	if err := node.Decode(&keys); err != nil {
		return nil, err
	}
	kind := keys["type"].Value
	opener, known := upstreamKinds[kind]
	if !known {
		return nil, fault.New(fault.Malformed, "config", "type: stepca, vault or google, not %q", kind)
	}
	delete(keys, "type")
	raw, err := yaml.Marshal(keys)
	if err != nil {
		return nil, err
	}
	return opener(section{raw})
}

// leftOut is the answer of a build without a kind of upstream.
func leftOut(kind, how string) (ca.Upstream, error) {
	return nil, fault.New(fault.Malformed, "upstream-not-built", "this muster was built without %s: build it %s", kind, how)
}

// sweepUpstreams brings upstreams and the record into agreement.
func (h *house) sweepUpstreams(ctx context.Context) error {
	if err := h.sweeper.Reload(ctx); err != nil { // an issuer may have been made since
		return err
	}
	return h.sweeper.SweepUpstreams(ctx)
}

// upstreamCollector counts what is not done at upstreams.
type upstreamCollector []*house

var upstreamBacklog = prometheus.NewDesc("muster_upstream_backlog",
	"Requests to upstreams that are open, orphaned ones, and revocations that are not confirmed there.", []string{"id_scope", "what"}, nil)

func (c upstreamCollector) Describe(ch chan<- *prometheus.Desc) { ch <- upstreamBacklog }

func (c upstreamCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, h := range c {
		b, err := h.authority.Backlog(ctx)
		if err != nil {
			ch <- prometheus.NewInvalidMetric(upstreamBacklog, err)
			continue
		}
		for what, n := range map[string]int64{"open": b.Open, "orphaned": b.Orphaned, "revocations": b.Revocations} {
			ch <- prometheus.MustNewConstMetric(upstreamBacklog, prometheus.GaugeValue, float64(n), h.idScope, what)
		}
	}
}

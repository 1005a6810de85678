package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/passmuster/muster/test/instance"
)

// report is what is measured.
type report struct {
	Count       int     `json:"count"`
	Errors      int     `json:"errors"`
	PerSecond   float64 `json:"per_second"`
	P50ms       float64 `json:"p50_ms"`
	P99ms       float64 `json:"p99_ms"`
	ServerCPUus float64 `json:"server_cpu_us_per_op"`
	RSSBeforeMB float64 `json:"server_rss_before_mib"`
	RSSPeakMB   float64 `json:"server_rss_peak_mib"`
	FirstError  string  `json:"first_error,omitempty"`

	Statuses map[int]int `json:"statuses"` // how many answers had each
}

type generator struct {
	options
	pool    []*device
	issuers []*x509.Certificate
	turn    atomic.Int64
	sending int64     // requests of the run under way
	began   time.Time // and its beginning

	mu    sync.Mutex
	took  []time.Duration // of the requests that went well
	said  map[int]int     // how many of them were answered with each status
	bad   int
	first error
}

func newGenerator(o options) (*generator, error) {
	g := &generator{options: o, said: map[int]int{}}
	var err error
	if o.issuers != "" {
		if g.issuers, err = readCertificates(o.issuers); err != nil {
			return nil, err
		}
	}
	g.pool, err = makeDevices(o)
	return g, err
}

// measure warms the server up and then measures.
func (g *generator) measure() (report, error) {
	g.send(g.warm)
	if g.bad > 0 {
		return report{}, fmt.Errorf("warming up: %w", g.first)
	}
	g.took, g.said = nil, map[int]int{}
	before := instance.UsageOf(g.pid)
	began := time.Now()
	g.send(g.count)
	wall := time.Since(began)
	after := instance.UsageOf(g.pid)

	r := report{Count: len(g.took), Errors: g.bad, RSSBeforeMB: before.RSS, RSSPeakMB: after.Peak, Statuses: g.said}
	if g.first != nil {
		r.FirstError = g.first.Error()
	}
	if r.Count > 0 {
		slices.Sort(g.took)
		at := func(part float64) float64 {
			return float64(g.took[int(part*float64(r.Count-1))]) / float64(time.Millisecond)
		}
		r.PerSecond, r.P50ms, r.P99ms = float64(r.Count)/wall.Seconds(), at(.50), at(.99)
		r.ServerCPUus = float64((after.CPU - before.CPU).Microseconds()) / float64(r.Count)
	}
	return r, nil
}

// send sends n requests from all clients.
func (g *generator) send(n int) {
	g.sending, g.began = int64(n), time.Now()
	var left atomic.Int64
	left.Store(int64(n))
	var clients sync.WaitGroup
	for c := range g.clients {
		clients.Go(func() { g.client(c, &left) })
	}
	clients.Wait()
}

// client sends requests until none are left.
func (g *generator) client(n int, left *atomic.Int64) {
	kept := connection(g.pool[n], false)
	defer kept.CloseIdleConnections()
	for {
		at := left.Add(-1)
		if at < 0 {
			return
		}
		due := g.await(at)
		d, c := g.pool[n], kept
		if g.fresh {
			d = g.pool[int(g.turn.Add(1))%len(g.pool)]
			c = connection(d, true)
		}
		var took time.Duration
		var status int
		var err error
		if g.newCSR {
			d, err = d.withNewCSR()
		}
		if err == nil {
			took, status, err = g.once(c, d)
		}
		if g.rate > 0 {
			took = time.Since(due) // a request that had to wait for a client is late
		}
		g.note(took, status, err)
	}
}

// await waits until the request is due of which so many are left after it.
func (g *generator) await(left int64) time.Time {
	if g.rate == 0 {
		return time.Time{}
	}
	due := g.began.Add(time.Duration(float64(g.sending-left-1) / g.rate * float64(time.Second)))
	time.Sleep(time.Until(due))
	return due
}

// once times one request; the answer is checked after the clock has stopped.
func (g *generator) once(c *http.Client, d *device) (time.Duration, int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	began := time.Now()
	status, cert, err := g.ask(ctx, c, d)
	took := time.Since(began)
	if err == nil && cert != nil {
		err = d.check(cert, g.issuers)
	}
	return took, status, err
}

func (g *generator) note(took time.Duration, status int, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil {
		g.took = append(g.took, took)
		g.said[status]++
		return
	}
	g.bad++
	if g.first == nil {
		g.first = err
	}
}

// connection is a client that speaks for one device. The server's own certificate is
// not looked at: the peer is the one just started on loopback.
func connection(d *device, fresh bool) *http.Client {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}
	if d.tls != nil {
		conf.Certificates = []tls.Certificate{*d.tls}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: fresh, DisableCompression: true}}
}

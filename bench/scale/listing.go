package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/passmuster/muster/test/instance"
)

const (
	pageSize = 100
	maxPages = 200 // measured at each place, of each kind
	stride   = 1000
	warm     = 50
)

// place is where in the list pages are measured: as many of enrollments with certificates,
// and then of enrollments with keys.
type place struct {
	name  string
	from  int          // enrollments before it
	pages [2][]float64 // ms
}

// enrollments measures the pages of a query of the service API among many: the first, some
// in the middle and the last.
func enrollments(ctx context.Context, c config, dir string, out io.Writer) error {
	f, err := newFleet(c.entries)
	if err != nil {
		return err
	}
	server := instance.Config{Binary: c.muster, Data: filepath.Join(dir, "fleet")}
	s, err := instance.Start(server)
	if err != nil {
		return err
	}
	defer func() { s.Kill() }()
	if err := f.enroll(ctx, s); err != nil {
		return err
	}
	if err := s.Stop(); err != nil {
		return err
	}
	began := time.Now()
	if err := f.write(ctx, server.Data); err != nil {
		return fmt.Errorf("writing enrollments: %w", err)
	}
	wrote := time.Since(began)
	if s, err = instance.Start(server); err != nil {
		return err
	}
	places := []place{{name: "first"}, {name: "middle", from: f.stretches / 2 &^ 1 * f.stretch}, {name: "last", from: (f.stretches - 2) * f.stretch}}
	if err := walk(ctx, s, &f, places); err != nil {
		return err
	}
	printPages(out, &f, wrote, places)
	return s.Stop()
}

// walk goes through the list, in pages of their size at the places and with long strides
// between them.
func walk(ctx context.Context, s *instance.Instance, f *fleet, places []place) error {
	token, err := s.ServiceToken(time.Hour)
	if err != nil {
		return err
	}
	l := lister{s: s, token: token, client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		// The server is the one just started on loopback.
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}, DisableCompression: true,
	}}}
	defer l.client.CloseIdleConnections()
	for range warm {
		if _, err := l.next(ctx, pageSize); err != nil {
			return err
		}
	}
	l.at, l.continuation = 0, ""
	for n := range places {
		p := &places[n]
		for l.at < p.from {
			if _, err := l.next(ctx, min(stride, p.from-l.at)); err != nil {
				return err
			}
		}
		for kind := range p.pages {
			for range f.stretch / pageSize {
				took, err := l.next(ctx, pageSize)
				if err != nil {
					return err
				}
				p.pages[kind] = append(p.pages[kind], float64(took.Microseconds())/1000)
			}
		}
	}
	if l.at != f.size() || l.continuation != "" {
		return fmt.Errorf("the list goes on behind enrollment %d of %d", l.at, f.size())
	}
	return nil
}

// lister asks for one page after the other.
type lister struct {
	s            *instance.Instance
	token        string
	client       *http.Client
	continuation string
	at           int // enrollments seen
}

// next times a page, from the request to the last octet of the answer.
func (l *lister) next(ctx context.Context, items int) (time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.s.Devices+"/enrollments/query?api-version=2021-10-01", strings.NewReader(`{"query":"SELECT * FROM enrollments"}`))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", l.token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Ms-Max-Item-Count", strconv.Itoa(items))
	if l.continuation != "" {
		req.Header.Set("X-Ms-Continuation", l.continuation)
	}
	began := time.Now()
	resp, err := l.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	took := time.Since(began)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("status %d: %.200s", resp.StatusCode, body)
	}
	// Counted, and not decoded: the client shares the machine with what is measured.
	if got := strings.Count(string(body), `"registrationId":`); got != items {
		return 0, fmt.Errorf("a page of %d has %d enrollments", items, got)
	}
	l.at += items
	l.continuation = resp.Header.Get("X-Ms-Continuation")
	return took, nil
}

func printPages(out io.Writer, f *fleet, wrote time.Duration, places []place) {
	fmt.Fprintf(out, "%d enrollments, written in %.0f s; query with continuation, %d pages of %d of each kind at each place;\n"+
		"ms of a round trip over a kept TLS connection on loopback, the client's half of it included\n\n", f.size(), wrote.Seconds(), f.stretch/pageSize, pageSize)
	const most, ratio = 5, 1.5
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "enrollments with\tcertificates, p50\tp95\tgoal\t\tkeys, p50\tp95\tgoal\t")
	for _, p := range places {
		fmt.Fprintf(t, "%s pages", p.name)
		for _, all := range p.pages {
			fmt.Fprintf(t, "\t%.1f\t%.1f\t≤ %d\t%s", median(all), p95(all), most, verdict(p95(all) <= most))
		}
		fmt.Fprintln(t)
	}
	fmt.Fprint(t, "  last / first")
	for kind := range places[0].pages {
		r := median(places[len(places)-1].pages[kind]) / median(places[0].pages[kind])
		fmt.Fprintf(t, "\t%.2f\t\t≤ %.1f\t%s", r, ratio, verdict(r <= ratio))
	}
	fmt.Fprintln(t)
	_ = t.Flush() // as the writes to a terminal above
}

func p95(all []float64) float64 {
	all = slices.Sorted(slices.Values(all))
	return all[(len(all)*95+99)/100-1]
}

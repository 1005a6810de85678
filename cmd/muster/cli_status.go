package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// statusCmd says whether the service is well: ready, issuers, CRLs, rotation.
type statusCmd struct {
	connection
	Output string `short:"o" enum:"table,json" default:"table" help:"table or json."`
	Check  bool   `help:"Exit 10 for a warning and 11 for what is critical, an unreachable server included."`
}

// check is one thing that was looked at.
type check struct {
	Check  string `json:"check"`
	State  string `json:"state"` // ok, warning, critical, unknown
	Detail string `json:"detail"`
}

const (
	stateOK       = "ok"
	stateWarning  = "warning"
	stateCritical = "critical"
	stateUnknown  = "unknown"
)

// When an issuer or a CRL wants attention: a successor takes weeks to roll out, and
// brokers refuse everyone after nextUpdate. An issuer that lives shorter than eight
// months is given until the last quarter of its life; a CRL lives 24 hours unless
// configured otherwise, and that of a root whose key is elsewhere takes a ceremony.
const (
	issuerWarning   = 60 * 24 * time.Hour
	crlWarning      = 6 * time.Hour
	ceremonyWarning = 30 * 24 * time.Hour
)

// Run looks at everything once.
func (c *statusCmd) Run(ctx context.Context, s streams, api *client) error {
	checks, err := c.look(ctx, s, api, time.Now())
	if err != nil {
		if c.Check && fault.Is(err, fault.Unavailable) {
			fmt.Fprintf(s.Err, "muster: %v\n", err)
			return quietExit{exitCritical}
		}
		return err
	}
	if c.Output == "json" {
		err = printJSON(s.Out, checks)
	} else {
		rows := make([][]string, len(checks))
		for i, k := range checks {
			rows[i] = []string{k.State, k.Check, printable(k.Detail)}
		}
		err = printRows(s.Out, rows)
	}
	if code := worst(checks); err == nil && c.Check && code != exitDone {
		return quietExit{code}
	}
	return err
}

func worst(checks []check) int {
	code := exitDone
	for _, k := range checks {
		switch k.State {
		case stateWarning:
			code = max(code, exitWarning)
		case stateCritical:
			code = max(code, exitCritical)
		}
	}
	return code
}

func (c *statusCmd) look(ctx context.Context, s streams, api *client, now time.Time) ([]check, error) {
	ready, err := readiness(ctx, api)
	if err != nil {
		return nil, err
	}
	checks := []check{ready}
	if api.token == "" {
		fmt.Fprintln(s.Err, "issuers and CRLs are not shown without a token")
		return checks, nil
	}
	items, _, err := listing{All: true}.fetch(ctx, api, "issuers", nil)
	if err != nil {
		return nil, err
	}
	issuers := make([]issuerClock, len(items))
	for n, item := range items {
		if err := json.Unmarshal(item, &issuers[n]); err != nil {
			return nil, fmt.Errorf("reading the answer: %w", err)
		}
	}
	for _, i := range issuers {
		checks = append(checks, i.checks(now, i.followed(issuers))...)
	}
	rolling, err := rotationChecks(ctx, api, now)
	if err != nil {
		return nil, err
	}
	checks = append(checks, rolling...)
	l, err := logOf(ctx, api)
	if err != nil {
		return nil, err
	}
	return append(checks, l.check(now)), nil
}

// readiness asks /readyz, which in production has a listener of its own.
func readiness(ctx context.Context, api *client) (check, error) {
	base := api.ops
	if base == "" {
		base = api.base
	}
	status, _, err := api.raw(ctx, base+"/readyz")
	if err != nil {
		return check{}, err
	}
	switch status {
	case http.StatusOK:
		return check{"ready", stateOK, base}, nil
	case http.StatusNotFound:
		return check{"ready", stateUnknown, "health is on another listener: --ops-url"}, nil
	}
	return check{"ready", stateCritical, fmt.Sprintf("%s/readyz answers %d", base, status)}, nil
}

// issuerClock is what is read of an issuer.
type issuerClock struct {
	ID, Name, State     string
	Role, Profile       string
	NotBefore, NotAfter time.Time
	KeyHere             bool
	CRL                 *struct {
		Number     int64
		NextUpdate time.Time
		IsCurrent  bool
	}
}

// followed says that an issuer has a successor: it is prepared, or has taken over.
func (i issuerClock) followed(all []issuerClock) bool {
	return i.State == "retiring" || slices.ContainsFunc(all, func(x issuerClock) bool {
		return x.State == "prepared" && x.ID != i.ID && x.Role == i.Role && x.Profile == i.Profile
	})
}

func (i issuerClock) checks(now time.Time, followed bool) []check {
	name := "issuer " + i.ID
	early := min(issuerWarning, i.NotAfter.Sub(i.NotBefore)/4)
	out := []check{{name, clock(now, i.NotAfter, early), fmt.Sprintf("%s, %s, to %s", i.Name, i.State, i.NotAfter.Format(time.RFC3339))}}
	ended := i.State == "retired" || i.State == "revoked"
	switch {
	case ended:
		out[0].State = stateOK
	case followed && out[0].State == stateWarning:
		out[0].State, out[0].Detail = stateOK, out[0].Detail+", a successor is there"
	}
	if i.CRL == nil || ended {
		return out
	}
	if early = crlWarning; !i.KeyHere {
		early = ceremonyWarning
	}
	crl := check{"crl " + i.ID, clock(now, i.CRL.NextUpdate, early), fmt.Sprintf("number %d, next update %s", i.CRL.Number, i.CRL.NextUpdate.Format(time.RFC3339))}
	if !i.CRL.IsCurrent {
		crl.Detail += ", a revocation waits to be published"
	}
	return append(out, crl)
}

func clock(now, end time.Time, early time.Duration) string {
	switch left := end.Sub(now); {
	case left <= 0:
		return stateCritical
	case left < early:
		return stateWarning
	}
	return stateOK
}

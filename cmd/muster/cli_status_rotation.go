package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

const (
	// serverWarning is less than what is left of a certificate of Muster's own making when it
	// is made anew: then that fails.
	serverWarning = 7 * 24 * time.Hour
	// surveyWarning is after how long somebody has to look why nothing is counted any more.
	surveyWarning = 3 * time.Hour
)

// rotationChecks say whether renewals keep up, and whether something ends that nothing follows.
func rotationChecks(ctx context.Context, api *client, now time.Time) ([]check, error) {
	got, err := api.do(ctx, call{method: http.MethodGet, at: []string{"rotation"}})
	if err != nil {
		return nil, err
	}
	var r struct {
		Overdue int64
		Stuck   []struct {
			Reason string
			Count  int64
		}
		ClockAlarm                        bool
		SubscriptionsFailing, HubsWaiting []string
	}
	if err := json.Unmarshal(got.body, &r); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	overdue := check{"rotation", stateOK, "nothing is overdue"}
	if r.Overdue > 0 {
		overdue = check{"rotation", stateWarning, fmt.Sprintf("%d have been due for more than an hour: muster roll due --within 0h", r.Overdue)}
	}
	stuck := check{"stuck devices", stateOK, "none"}
	var reasons []string
	for _, s := range r.Stuck {
		reasons = append(reasons, fmt.Sprintf("%d %s", s.Count, s.Reason))
	}
	if len(reasons) > 0 {
		stuck = check{"stuck devices", stateWarning, strings.Join(reasons, ", ") + ": muster roll stuck REASON"}
	}
	ends, err := expiryChecks(ctx, api, now)
	clock := check{"clock", stateOK, "goes evenly"}
	if r.ClockAlarm {
		clock = check{"clock", stateCritical, "it jumped, and nothing rolls until it has gone evenly for a while"}
	}
	return append([]check{
		clock, overdue, stuck,
		nobody("subscriptions", r.SubscriptionsFailing, "have taken nothing for more than an hour: muster subscription list"),
		nobody("hubs", r.HubsWaiting, "have not been told of a device for more than an hour: muster hub list"),
	}, ends...), err
}

// nobody warns of those that do not do as they should.
func nobody(name string, who []string, problem string) check {
	if len(who) == 0 {
		return check{name, stateOK, "none fails"}
	}
	return check{name, stateWarning, strings.Join(who, ", ") + " " + problem}
}

// expiryChecks look at the soonest end of each role that has no checks of its own.
func expiryChecks(ctx context.Context, api *client, now time.Time) ([]check, error) {
	got, err := api.do(ctx, call{method: http.MethodGet, at: []string{"expiry"}})
	if fault.Is(err, fault.Unavailable) {
		return []check{{"survey", stateUnknown, "what ends when has not been counted yet"}}, nil
	}
	if err != nil {
		return nil, err
	}
	var e struct {
		Surveyed time.Time
		Roles    []struct {
			Role    string
			Soonest time.Time
			Ended   int64
		}
	}
	if err := json.Unmarshal(got.body, &e); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	out := []check{{"survey", stateOK, "what ends when was counted " + e.Surveyed.Format(time.RFC3339)}}
	if now.Sub(e.Surveyed) > surveyWarning {
		out[0].State = stateWarning
	}
	early := map[string]time.Duration{"anchor": issuerWarning, "group": issuerWarning, "server": serverWarning}
	for _, role := range e.Roles {
		warn, looked := early[role.Role]
		switch {
		case !looked:
		case role.Ended > 0:
			state := stateWarning
			if role.Role == "server" {
				state = stateCritical
			}
			out = append(out, check{role.Role + " certificates", state, fmt.Sprintf("%d ended", role.Ended)})
		case !role.Soonest.IsZero():
			out = append(out, check{role.Role + " certificates", clock(now, role.Soonest, warn), "the first without a successor ends " + role.Soonest.Format(time.RFC3339)})
		}
	}
	return out, nil
}

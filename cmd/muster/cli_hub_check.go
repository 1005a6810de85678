package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

var (
	hubCheckTable = table{
		{"CHECK", "id", false}, {"HUB", "hub", false}, {"STATE", "state", false}, {"ENDED", "endedDateTimeUtc", false}, {"DEVICES THERE", "held", false},
		{"NOT YET TOLD", "untold", false}, {"PROBLEM", "problem", true}, {"REQUESTED BY", "requestedBy", true}, {"REQUESTED", "requestedDateTimeUtc", true},
		{"REPAIRED BY", "repair.requestedBy", true}, {"REPAIRED", "repair.devices", true},
	}
	hubDriftTable = table{{"DEVICE", "deviceId", false}, {"DRIFT", "kind", false}, {"REGISTRATION", "registrationId", false}}
)

// driftWords say what each kind of drift means.
var driftWords = map[provisioning.HubDriftKind]string{
	provisioning.DriftEnabled:     "enabled there, disabled here: the hub lets them in",
	provisioning.DriftCredentials: "other certificates or keys there",
	provisioning.DriftUnknown:     "not ours",
	provisioning.DriftMissing:     "missing there",
	provisioning.DriftDisabled:    "disabled there, enabled here",
	provisioning.DriftDeviceKind:  "edge device there and not here, or the other way round",
}

// checkedHub is what is read of a check.
type checkedHub struct {
	ID, Hub, State, Problem, EndedDateTimeUtc string
	Unnamed                                   int64
	Drift                                     map[provisioning.HubDriftKind]int64
	Repair                                    *struct{}
}

func readHubCheck(body json.RawMessage) (c checkedHub, err error) {
	if err := json.Unmarshal(body, &c); err != nil {
		return c, fmt.Errorf("reading the answer: %w", err)
	}
	return c, nil
}

// print writes a line for each kind of drift there is, the most dangerous first.
func (c checkedHub) print(w io.Writer) error {
	var rows [][]string
	for _, kind := range provisioning.HubDriftKinds {
		if n := c.Drift[kind]; n > 0 {
			rows = append(rows, []string{string(kind), strconv.FormatInt(n, 10), driftWords[kind]})
		}
	}
	if c.Unnamed > 0 {
		rows = append(rows, []string{"unnamed", strconv.FormatInt(c.Unnamed, 10), "ids that no device of ours can have: they are not listed"})
	}
	return printRows(w, rows)
}

// exit says in the exit code what a script has to know.
func (c checkedHub) exit() error {
	switch {
	case c.Drift[provisioning.DriftEnabled] > 0:
		return quietExit{exitCritical}
	case len(c.Drift) > 0:
		return quietExit{exitWarning}
	}
	return nil
}

type hubCheckCmd struct {
	output
	Name string        `arg:"" help:"Its host name."`
	For  time.Duration `default:"10m" help:"How long to wait for the result; 0: not at all. The check goes on."`
}

// Run checks a hub, and waits for what is found.
func (c *hubCheckCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"hubs", c.Name, "checks"}, next: "muster hub list"})
	if err != nil {
		return err
	}
	is, err := readHubCheck(got.body)
	for over := time.Now().Add(c.For); err == nil && is.State == "open" && time.Now().Before(over); {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(250 * time.Millisecond):
		}
		if got, err = api.do(ctx, call{method: http.MethodGet, at: []string{"hubs", c.Name, "checks", is.ID}}); err == nil {
			is, err = readHubCheck(got.body)
		}
	}
	if err != nil {
		return err
	}
	if err := c.one(s.Out, hubCheckTable, got.body); err != nil {
		return err
	}
	switch is.State {
	case "open":
		fmt.Fprintf(s.Err, "the check goes on: muster hub check %s\n", c.Name)
		return quietExit{exitPartly}
	case "failed":
		return &apiError{fault: fault.New(fault.Unavailable, "hub-unavailable", "%s", is.Problem).About("hub " + c.Name), next: "muster hub test " + c.Name}
	}
	if c.Output == "table" || c.Output == "wide" {
		if err := is.print(s.Out); err != nil {
			return err
		}
	}
	if len(is.Drift) > 0 {
		fmt.Fprintf(s.Err, "which: muster hub drift %s; to put it right: muster hub repair %s\n", c.Name, c.Name)
	}
	return is.exit()
}

// lastHubCheck is the last check of a hub that was done.
func lastHubCheck(ctx context.Context, api *client, name string) (c checkedHub, err error) {
	got, err := api.do(ctx, call{method: http.MethodGet, at: []string{"hubs", name, "checks"}, next: "muster hub list"})
	if err != nil {
		return c, err
	}
	var list struct{ Items []checkedHub }
	if err := json.Unmarshal(got.body, &list); err != nil {
		return c, fmt.Errorf("reading the answer: %w", err)
	}
	for _, c := range list.Items {
		if c.State == "done" {
			return c, nil
		}
	}
	return c, &apiError{fault: fault.New(fault.NotFound, "hub-check-not-found", "hub %s was not checked yet", name), next: "muster hub check " + name}
}

type hubDriftCmd struct {
	listing
	Name string `arg:"" help:"Its host name."`
}

// Run lists what a hub holds otherwise.
func (c *hubDriftCmd) Run(ctx context.Context, s streams, api *client) error {
	last, err := lastHubCheck(ctx, api, c.Name)
	if err != nil {
		return err
	}
	return c.print(ctx, api, s, hubDriftTable, "hubs/"+last.Hub+"/checks/"+last.ID+"/drift", nil)
}

type hubRepairCmd struct {
	output
	harm
	Name          string `arg:"" help:"Its host name."`
	RemoveUnknown bool   `help:"Have it remove devices that are not ours, too."`
}

// Run shows what would be told, asks, and has it told.
func (c *hubRepairCmd) Run(ctx context.Context, s streams, api *client) error {
	last, err := lastHubCheck(ctx, api, c.Name)
	if err != nil {
		return err
	}
	if err := last.print(s.Err); err != nil {
		return err
	}
	told, unknown := int64(0), last.Drift[provisioning.DriftUnknown]
	for _, n := range last.Drift {
		told += n
	}
	told -= unknown
	if told == 0 && (unknown == 0 || !c.RemoveUnknown) {
		fmt.Fprintf(s.Err, "nothing to tell hub %s, as of %s\n", c.Name, last.EndedDateTimeUtc)
		return nil
	}
	what := fmt.Sprintf("hub %s will be told again of %d devices, as of %s", c.Name, told, last.EndedDateTimeUtc)
	if c.RemoveUnknown && unknown > 0 {
		what += fmt.Sprintf(", and to remove %d that are not ours", unknown)
	}
	if err := c.confirmed(s, c.Name, what); err != nil {
		return err
	}
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"hubs", c.Name, "repair"}, body: map[string]any{"check": last.ID, "removeUnknown": c.RemoveUnknown}, next: "muster hub check " + c.Name})
	if err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "it is told, and then checked again: muster hub show %s -o wide\n", c.Name)
	return c.one(s.Out, hubCheckTable, got.body)
}

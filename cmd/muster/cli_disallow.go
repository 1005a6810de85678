package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// disallowCmd is `muster disallow`: what is compromised is refused everywhere.
type disallowCmd struct {
	connection
	Preview disallowPreviewCmd `cmd:"" help:"Say what shutting a certificate out would do, and do nothing."`
	Start   disallowStartCmd   `cmd:"" help:"Shut a certificate, key or CA out everywhere, at once."`
	List    disallowListCmd    `cmd:"" help:"List what was shut out, newest first."`
	Show    disallowShowCmd    `cmd:"" help:"Show one, and which hubs have confirmed."`
	Devices disallowDevicesCmd `cmd:"" help:"List its devices."`
	Watch   disallowWatchCmd   `cmd:"" help:"Follow one until every hub has confirmed."`
	Report  disallowReportCmd  `cmd:"" help:"Print what was done and what was not, as Markdown."`
	Lift    disallowLiftCmd    `cmd:"" help:"End one for good; what it revoked, emptied and disabled stays so."`
}

var (
	disallowTable = table{
		{"ID", "id", false}, {"STATE", "state", false}, {"SCOPE", "scope", false}, {"SUBJECT", "subject", false}, {"DEVICES", "devices", false}, {"REVOKED", "revoked", false},
		{"REASON", "reason", false}, {"CREATED", "createdDateTimeUtc", false}, {"BY", "createdBy", true}, {"SINCE", "since", true}, {"THUMBPRINT", "thumbprint", true},
		{"DONE", "doneDateTimeUtc", true}, {"LIFTED", "liftedDateTimeUtc", true}, {"LIFTED BY", "liftedBy", true},
	}
	disallowDeviceTable = table{
		{"ID", "registrationId", false}, {"HUB", "hub", false}, {"CONFIRMED", "confirmedDateTimeUtc", false}, {"PROBLEM", "problem", false},
		{"DEVICE ID", "deviceId", true}, {"FOUND", "foundDateTimeUtc", true},
	}
)

type disallowStartCmd struct {
	output
	harm
	compromised
	ExpectDevices *int64 `placeholder:"N" help:"Refuse if more devices rest on it."`
	StopsIssuing  bool   `name:"yes-this-stops-issuing" help:"Do it though nobody is left to sign for some profile."`
	Preview       string `placeholder:"ID" help:"That of a preview you have looked at; nothing is asked then. It must have been of the same certificate, scope, reason and time."`
}

// Validate keeps bounds from being nonsense.
func (c *disallowStartCmd) Validate() error {
	if c.ExpectDevices != nil && *c.ExpectDevices < 0 {
		return fmt.Errorf("--expect-devices is not below 0")
	}
	return nil
}

// Run looks, asks and acts.
func (c *disallowStartCmd) Run(ctx context.Context, s streams, api *client) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	body["preview"] = c.Preview
	if c.Preview == "" {
		delete(body, "preview")
		if body["preview"], err = c.look(ctx, s, api, body); err != nil {
			return err
		}
	}
	if c.ExpectDevices != nil {
		body["expectDevices"] = *c.ExpectDevices
	}
	if c.StopsIssuing {
		body["stopsIssuing"] = true
	}
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"disallowances"}, body: body})
	if err != nil {
		return err
	}
	r, err := decode(got.body)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "refused here from now on; hubs are told: muster disallow watch %s\n", value(r, "id"))
	return c.one(s.Out, disallowTable, got.body)
}

// look shows what would happen, asks, and gives the preview's id.
func (c *disallowStartCmd) look(ctx context.Context, s streams, api *client, body map[string]any) (string, error) {
	p, _, err := foresee(ctx, api, body)
	if err != nil {
		return "", err
	}
	if c.ExpectDevices != nil && p.Devices > *c.ExpectDevices {
		return "", fault.New(fault.Conflict, "more-devices-than-expected", "%d devices rest on it, more than the %d expected", p.Devices, *c.ExpectDevices)
	}
	if err := p.print(s.Err); err != nil {
		return "", err
	}
	if len(p.Stops) > 0 && !c.StopsIssuing {
		return "", fault.New(fault.Conflict, "last-issuer", "nobody is left to sign then: add --yes-this-stops-issuing, or have another issuer sign first")
	}
	name := p.Thumbprint[:min(8, len(p.Thumbprint))]
	what := fmt.Sprintf("%d devices will be shut out, on every hub, with %s (%s)", p.Devices, printable(p.Subject), name)
	if len(p.Issuers) > 0 {
		what = fmt.Sprintf("what %s (%s) signed will be good nowhere: %d devices stay by something else, or have to come again", printable(p.Subject), name, p.Devices)
	}
	return p.Preview, c.confirmed(s, name, what)
}

type disallowListCmd struct{ listing }

// Run lists disallowances.
func (c *disallowListCmd) Run(ctx context.Context, s streams, api *client) error {
	return c.print(ctx, api, s, disallowTable, "disallowances", nil)
}

func getDisallowance(ctx context.Context, api *client, id string) (answer, error) {
	return api.do(ctx, call{method: http.MethodGet, at: []string{"disallowances", id}, next: "muster disallow list"})
}

// spread is what is read of how far a disallowance is.
type spread struct {
	State, PassedDateTimeUtc, DoneDateTimeUtc string
	Devices, Pending, Revoked                 int64
	Entries                                   []struct{ Kind, ID, Act, Slot string }
	Hubs                                      []struct {
		Hub, Problem     string
		Devices, Pending int64
		hubTakes
	}
}

type disallowShowCmd struct {
	output
	ID string `arg:"" help:"Its id."`
}

// Run shows a disallowance: then what became of each entry, and a line for each hub.
func (c *disallowShowCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := getDisallowance(ctx, api, c.ID)
	if err != nil {
		return err
	}
	if err := c.one(s.Out, disallowTable, got.body); err != nil || c.Output != "table" && c.Output != "wide" {
		return err
	}
	var x spread
	if err := json.Unmarshal(got.body, &x); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	var rows [][]string
	for _, e := range x.Entries {
		rows = append(rows, []string{entryNoun(e.Kind) + " " + e.ID, entryFate(e.Act, e.Slot)})
	}
	for _, h := range x.Hubs {
		rows = append(rows, []string{"hub " + printable(cmp.Or(h.Hub, "-")), fmt.Sprintf("%d of %d confirmed", h.Devices-h.Pending, h.Devices), strings.Join(h.words(), ", "), printable(h.Problem)})
	}
	return printRows(s.Out, rows)
}

type disallowDevicesCmd struct {
	listing
	ID      string `arg:"" help:"Its id."`
	Pending bool   `help:"Only those whose hub has not confirmed."`
}

// Run lists the devices of a disallowance.
func (c *disallowDevicesCmd) Run(ctx context.Context, s streams, api *client) error {
	if _, err := escaped([]string{c.ID}); err != nil {
		return err
	}
	return c.print(ctx, api, s, disallowDeviceTable, "disallowances/"+c.ID+"/devices", filters("pending", flagged(c.Pending)))
}

type disallowWatchCmd struct {
	ID    string        `arg:"" help:"Its id."`
	For   time.Duration `placeholder:"10m" help:"Give up after this long, with exit code 8 (until it is done unless given)."`
	Every time.Duration `default:"1s" help:"How often to look."`
}

// Validate keeps a watch from asking without end.
func (c *disallowWatchCmd) Validate() error {
	if c.Every < 100*time.Millisecond || c.For < 0 {
		return fmt.Errorf("--every is at least 100ms, and --for not below 0")
	}
	return nil
}

// Run prints a line whenever a disallowance has got further.
func (c *disallowWatchCmd) Run(ctx context.Context, s streams, api *client) error {
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	var over <-chan time.Time
	if c.For > 0 {
		over = time.After(c.For)
	}
	for last := ""; ; {
		got, err := getDisallowance(ctx, api, c.ID)
		if err != nil {
			return err
		}
		var x spread
		if err := json.Unmarshal(got.body, &x); err != nil {
			return fmt.Errorf("reading the answer: %w", err)
		}
		if line := x.line(); line != last {
			fmt.Fprintln(s.Out, line)
			last = line
		}
		if x.DoneDateTimeUtc != "" {
			return nil
		}
		select {
		case <-ctx.Done():
			fmt.Fprintf(s.Err, "it goes on: muster disallow watch %s\n", c.ID)
			return context.Cause(ctx)
		case <-over:
			fmt.Fprintf(s.Err, "not every hub has confirmed, and it goes on: muster disallow devices %s --pending\n", c.ID)
			return quietExit{exitPartly}
		case <-tick.C:
		}
	}
}

// line is how far it is, in one line.
func (x spread) line() string {
	parts := []string{x.State, fmt.Sprintf("devices %d", x.Devices), fmt.Sprintf("pending %d", x.Pending)}
	if x.Revoked > 0 {
		parts = append(parts, fmt.Sprintf("revoked %d", x.Revoked))
	}
	if x.PassedDateTimeUtc == "" {
		parts = append(parts, "counting")
	}
	for _, h := range x.Hubs {
		if h.Pending > 0 {
			hub := fmt.Sprintf("%s %d of %d", printable(h.Hub), h.Devices-h.Pending, h.Devices)
			if h.Takes != "" {
				hub += ", " + h.span()
			}
			if h.Problem != "" {
				hub += " (" + printable(h.Problem) + ")"
			}
			parts = append(parts, hub)
		}
	}
	return strings.Join(parts, "  ")
}

type disallowReportCmd struct {
	Output string `short:"o" enum:"markdown,json" default:"markdown" help:"markdown or json."`
	ID     string `arg:"" help:"Its id."`
}

// Run prints the report.
func (c *disallowReportCmd) Run(ctx context.Context, s streams, api *client) error {
	a := call{method: http.MethodGet, at: []string{"disallowances", c.ID, "report"}, next: "muster disallow list"}
	if c.Output == "markdown" {
		a.accept = "text/markdown"
	}
	got, err := api.do(ctx, a)
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return printIndented(s.Out, got.body)
	}
	_, err = s.Out.Write(got.body)
	return err
}

type disallowLiftCmd struct {
	output
	harm
	ID string `arg:"" help:"Its id."`
}

// Run lifts a disallowance, and says what that does not bring back.
func (c *disallowLiftCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := getDisallowance(ctx, api, c.ID)
	if err != nil {
		return err
	}
	r, err := decode(got.body)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("%s will not be refused any more because of %s", value(r, "subject"), c.ID)
	if err := c.confirmed(s, c.ID, what); err != nil {
		return err
	}
	if got, err = api.do(ctx, call{method: http.MethodPost, at: []string{"disallowances", c.ID, "lift"}}); err != nil {
		return err
	}
	var lifted struct{ NotRestored []struct{ Detail string } }
	if err := json.Unmarshal(got.body, &lifted); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	for _, x := range lifted.NotRestored {
		fmt.Fprintf(s.Err, "not restored: %s\n", printable(x.Detail))
	}
	return c.one(s.Out, disallowTable, got.body)
}

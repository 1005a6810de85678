package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// retireCmd is `muster retire`: devices leave service.
type retireCmd struct {
	connection
	Device retireDeviceCmd `cmd:"" default:"withargs" help:"Take one device out of service, or several by a plan that is shown first."`
	Start  retireStartCmd  `cmd:"" help:"Carry out a plan that was looked at."`
	List   retireListCmd   `cmd:"" help:"List devices that were taken out of service."`
	Show   retireShowCmd   `cmd:"" help:"Show the receipt of one."`
}

var retirementTable = table{
	{"ID", "registrationId", false}, {"STATE", "state", false}, {"ENROLLMENT", "enrollment", false}, {"HUB", "hub", false}, {"CERTIFICATES", "certificates", false},
	{"STAYS OPEN", "staysOpen", false}, {"RETIRED", "retiredDateTimeUtc", false}, {"CONFIRMED", "confirmedDateTimeUtc", false},
	{"OWNER", "owner.id", true}, {"RECORD DELETED", "recordDeleted", true}, {"CAMPAIGN", "campaign", true}, {"BY", "retiredBy", true}, {"AWAITED", "awaited", true},
}

// devices say who is meant: by name, or by what they have in common.
type devices struct {
	ID       []string `arg:"" optional:"" help:"Registration ids."`
	File     string   `type:"existingfile" placeholder:"FILE" help:"A file with registration ids, one on a line; what follows # is a comment."`
	Group    string   `placeholder:"ID" help:"Devices that this group admits."`
	Hub      string   `placeholder:"NAME" help:"Devices on this hub."`
	Orphaned bool     `help:"Registrations whose entry was deleted."`
}

// read gives the ids that are named, or what devices have in common as the API selects them. alone is
// the one device that is meant.
func (d devices) read() (selection map[string]any, alone string, err error) {
	ids := d.ID
	if d.File != "" {
		raw, err := os.ReadFile(d.File)
		if err != nil {
			return nil, "", err
		}
		for line := range strings.Lines(string(raw)) {
			line, _, _ = strings.Cut(line, "#")
			ids = append(ids, strings.Fields(line)...)
		}
	}
	selection = selecting{Group: d.Group, Hub: d.Hub, Device: ids}.body(time.Now())
	if d.Orphaned {
		selection["orphaned"] = true
	}
	switch {
	case len(selection) == 0:
		return nil, "", usage(fmt.Errorf("say who is meant: registration ids, --file FILE, --group ID, --hub NAME or --orphaned"))
	case len(ids) > maxNamed:
		return nil, "", fault.New(fault.Malformed, "too-many-ids", "%d devices are named, and one plan has %d: split the list, or say what they have in common", len(ids), maxNamed)
	case len(d.ID) == 1 && len(ids) == 1 && len(selection) == 1:
		alone = ids[0]
	}
	return selection, alone, nil
}

// maxNamed is how many devices a campaign takes by their names.
const maxNamed = 1000

type retireDeviceCmd struct {
	output
	harm
	expecting
	devices
	DeleteRecord bool   `help:"Delete registrations, too; they stay on record, on no hub, unless given."`
	Plan         bool   `help:"Show the plan, and stop; of one device what it would do."`
	Campaign     string `placeholder:"NAME" help:"What the campaign of several devices is called (a name with the time unless given)."`
	MaxPerHour   int    `placeholder:"N" help:"Retire at most so many in an hour of the clock."`
	Watch        bool   `help:"Follow the campaign until it is done."`
}

// Run retires one device at once, or several by a plan.
func (c *retireDeviceCmd) Run(ctx context.Context, s streams, api *client) error {
	selection, alone, err := c.read()
	if err != nil {
		return err
	}
	if alone != "" {
		return c.one(ctx, s, api, alone)
	}
	p := planning{output: c.output, harm: c.harm, expecting: c.expecting, plan: c.Plan, watch: c.Watch}
	return p.run(ctx, s, api, map[string]any{
		"name": campaignName("retire", c.Campaign), "act": "retire", "deleteRecords": c.DeleteRecord, "maxPerHour": c.MaxPerHour, "select": selection,
	})
}

func (c *retireDeviceCmd) one(ctx context.Context, s streams, api *client, id string) error {
	got, err := api.do(ctx, call{method: http.MethodGet, at: []string{"registrations", id, "retiring"}, next: "muster group except " + id + ", for a device that is only expected"})
	if err != nil {
		return err
	}
	var row plannedRow
	if err := json.Unmarshal(got.body, &row); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	to := s.Err
	if c.Plan {
		to = s.Out
	}
	row.Devices = 1
	if err := printRows(to, [][]string{row.line()}); err != nil || c.Plan {
		return err
	}
	if err := c.confirmed(s, id, fmt.Sprintf("device %s will be taken out of service", id)); err != nil {
		return err
	}
	if got, err = api.do(ctx, call{method: http.MethodPost, at: []string{"registrations", id, "retire"}, body: map[string]any{"deleteRecord": c.DeleteRecord}}); err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "keep the enrollment %s: deleting it may admit the device again\n", id)
	return c.output.one(s.Out, retirementTable, got.body)
}

// plannedRow is what is planned of some devices alike.
type plannedRow struct {
	Enrollment, Hub       string
	Certificates, Devices int64
	StaysOpen             []string
}

// of says what a campaign does.
func (r plannedRow) of(act string) []string {
	if act != "quarantine" {
		return r.line()
	}
	moves := "move at once"
	if len(r.StaysOpen) > 0 {
		moves = "come when they register"
	}
	return []string{plural(r.Devices, "device"), "on " + printable(cmp.Or(r.Hub, "no hub")), moves}
}

// line says it in words.
func (r plannedRow) line() []string {
	does := map[string]string{
		"disabled": "its enrollment is disabled", "was-disabled": "its enrollment is disabled already", "exception": "a disabled enrollment shuts it out", "": "its record is deleted",
	}[r.Enrollment]
	revoked := "-"
	if r.Certificates > 0 {
		revoked = plural(r.Certificates, "certificate") + " revoked"
	}
	open := "nothing stays open"
	if len(r.StaysOpen) > 0 {
		open = "stays open: " + strings.Join(r.StaysOpen, ", ")
	}
	return []string{plural(r.Devices, "device"), does, "on " + printable(cmp.Or(r.Hub, "no hub")), revoked, open}
}

func plural(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.FormatInt(n, 10) + " " + what
}

type retireStartCmd struct {
	output
	harm
	Watch bool   `help:"Follow the campaign until it is done."`
	Name  string `arg:"" help:"The campaign's name."`
}

// Run carries a plan out.
func (c *retireStartCmd) Run(ctx context.Context, s streams, api *client) error {
	return planning{output: c.output, harm: c.harm, watch: c.Watch}.start(ctx, s, api, c.Name)
}

type retireListCmd struct {
	listing
	Campaign string `placeholder:"NAME" help:"Retired by this campaign."`
	Pending  bool   `help:"Only those that wait for a hub."`
}

// Run lists retirements.
func (c *retireListCmd) Run(ctx context.Context, s streams, api *client) error {
	return c.print(ctx, api, s, retirementTable, "retirements", filters("campaign", c.Campaign, "pending", flagged(c.Pending)))
}

type retireShowCmd struct {
	output
	ID string `arg:"" help:"Registration id."`
}

// Run shows a retirement.
func (c *retireShowCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := api.do(ctx, call{method: http.MethodGet, at: []string{"retirements", c.ID}, next: "muster retire list"})
	if err != nil {
		return err
	}
	return c.one(s.Out, retirementTable, got.body)
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/passmuster/muster/internal/fault"
)

// quarantineCmd is `muster quarantine`: devices live on a hub of an operator's choosing.
type quarantineCmd struct {
	connection
	Start quarantineStartCmd `cmd:"" help:"Move a device to a hub, with a twin of its own, and keep it there until that is ended."`
	End   quarantineEndCmd   `cmd:"" help:"Have devices go back to where their entries put them."`
	List  quarantineListCmd  `cmd:"" help:"List devices in quarantine."`
	Show  quarantineShowCmd  `cmd:"" help:"Show the last quarantine of a device, and what its hubs have confirmed."`
}

var quarantineTable = table{
	{"ID", "registrationId", false}, {"STATE", "state", false}, {"HUB", "hub", false}, {"FROM", "from", false}, {"SINCE", "quarantinedDateTimeUtc", false}, {"WHY", "why", false},
	{"SHUT BY", "shut", true}, {"BY", "quarantinedBy", true}, {"CONFIRMED", "confirmedDateTimeUtc", true}, {"ENDED", "endedDateTimeUtc", true}, {"ENDED BY", "endedBy", true}, {"CAMPAIGN", "campaign", true},
}

type quarantineStartCmd struct {
	output
	harm
	Hub string `required:"" placeholder:"NAME" help:"The hub where the device is kept; best one of weight 0, so that no other comes to it."`
	expecting
	Twin       string   `type:"existingfile" placeholder:"FILE" help:"The initial twin that it gets there, JSON; that of the server's configuration unless given."`
	Why        string   `required:"" placeholder:"TEXT" help:"Why; it goes on record."`
	Plan       bool     `help:"Say what it would do, and stop."`
	ID         []string `arg:"" optional:"" help:"Registration ids."`
	File       string   `type:"existingfile" placeholder:"FILE" help:"A file with registration ids, one on a line; what follows # is a comment."`
	Group      string   `placeholder:"ID" help:"Devices that this group admits."`
	On         string   `placeholder:"NAME" help:"Devices on this hub."`
	Campaign   string   `placeholder:"NAME" help:"What the campaign of several devices is called (a name with the time unless given)."`
	MaxPerHour int      `placeholder:"N" help:"Move at most so many in an hour of the clock."`
	Watch      bool     `help:"Follow the campaign until it is done."`
}

// Run quarantines one device at once, or several by a plan.
func (c *quarantineStartCmd) Run(ctx context.Context, s streams, api *client) error {
	if len(c.ID) == 0 && c.File == "" && c.Group == "" && c.On == "" {
		return usage(fmt.Errorf("say who is meant: registration ids, --file FILE, --group ID or --on NAME"))
	}
	selection, alone, err := devices{ID: c.ID, File: c.File, Group: c.Group, Hub: c.On}.read()
	if err != nil {
		return err
	}
	body := map[string]any{"hub": c.Hub, "why": c.Why}
	if c.Twin != "" {
		twin, err := readTwin(c.Twin)
		if err != nil {
			return err
		}
		body["initialTwin"] = twin
	}
	if alone != "" {
		return c.one(ctx, s, api, alone, body)
	}
	p := planning{output: c.output, harm: c.harm, expecting: c.expecting, plan: c.Plan, watch: c.Watch}
	return p.run(ctx, s, api, map[string]any{
		"name": campaignName("quarantine", c.Campaign), "act": "quarantine", "quarantine": body, "maxPerHour": c.MaxPerHour, "select": selection,
	})
}

func (c *quarantineStartCmd) one(ctx context.Context, s streams, api *client, id string, body map[string]any) error {
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"registrations", id, "quarantine", "preview"}, body: body, next: "muster reg list, muster hub list"})
	if err != nil {
		return err
	}
	to := s.Err
	if c.Plan {
		to = s.Out
	}
	if err := printQuarantining(to, id, got.body); err != nil || c.Plan {
		return err
	}
	if err := c.confirmed(s, id, "that will be done to device "+id); err != nil {
		return err
	}
	if got, err = api.do(ctx, call{method: http.MethodPost, at: []string{"registrations", id, "quarantine"}, body: body}); err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "it stays there until: muster quarantine end %s\n", id)
	return c.output.one(s.Out, quarantineTable, got.body)
}

func readTwin(file string) (json.RawMessage, error) {
	raw, err := os.ReadFile(file)
	if err == nil && !json.Valid(raw) {
		err = fault.New(fault.Malformed, "json", "%s is not JSON", file)
	}
	return raw, err
}

// printQuarantining says what a quarantine would do.
func printQuarantining(w io.Writer, id string, body json.RawMessage) error {
	var p struct {
		Hub, From, Shut, Already string
		AtOnce, Elsewhere        bool
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	row := []string{printable(id)}
	if p.Already != "" {
		row = append(row, "is in quarantine on "+printable(p.Already)+" already")
	}
	if p.From != "" {
		row = append(row, "leaves "+printable(p.From))
	}
	if p.AtOnce {
		row = append(row, "lives on "+printable(p.Hub)+" at once")
	} else {
		row = append(row, "comes to "+printable(p.Hub)+" when it registers")
	}
	if p.Shut != "" {
		row = append(row, "which is refused: "+printable(p.Shut))
	}
	if p.Elsewhere {
		row = append(row, "hubs have to confirm")
	}
	return printRows(w, [][]string{row})
}

type quarantineEndCmd struct {
	output
	harm
	Why string   `required:"" placeholder:"TEXT" help:"Why; it goes on record."`
	ID  []string `arg:"" help:"Registration ids."`
}

// Run ends quarantines.
func (c *quarantineEndCmd) Run(ctx context.Context, s streams, api *client) error {
	if err := c.confirmed(s, "end", plural(int64(len(c.ID)), "device")+" will leave the hub of its quarantine, and go where its entry puts it"); err != nil {
		return err
	}
	for _, id := range c.ID {
		got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"registrations", id, "quarantine", "end"}, body: map[string]any{"why": c.Why}, next: "muster quarantine list"})
		if err != nil {
			return err
		}
		if err := c.one(s.Out, quarantineTable, got.body); err != nil {
			return err
		}
	}
	return nil
}

type quarantineListCmd struct {
	listing
	Hub      string `placeholder:"NAME" help:"On this hub."`
	Campaign string `placeholder:"NAME" help:"Begun by this campaign."`
	Pending  bool   `help:"Only those that wait for a hub."`
	Ended    bool   `help:"Those that have ended, instead of those that stand."`
}

// Run lists quarantines.
func (c *quarantineListCmd) Run(ctx context.Context, s streams, api *client) error {
	return c.print(ctx, api, s, quarantineTable, "quarantines", filters("hub", c.Hub, "campaign", c.Campaign, "pending", flagged(c.Pending), "ended", flagged(c.Ended)))
}

type quarantineShowCmd struct {
	output
	ID string `arg:"" help:"Registration id."`
}

// Run shows a quarantine, with a line for each of its hubs.
func (c *quarantineShowCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := api.do(ctx, call{method: http.MethodGet, at: []string{"quarantines", c.ID}, next: "muster quarantine list"})
	if err != nil {
		return err
	}
	if err := c.one(s.Out, quarantineTable, got.body); err != nil || c.Output != "table" && c.Output != "wide" {
		return err
	}
	var q struct {
		Hubs []struct{ Hub, Shall, State, Problem string }
	}
	if err := json.Unmarshal(got.body, &q); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	var rows [][]string
	for _, h := range q.Hubs {
		does := map[string]string{"have": "has the device", "remove": "has removed the device"}[h.Shall]
		if h.State == "pending" {
			does = map[string]string{"have": "is to have the device", "remove": "is to remove the device"}[h.Shall]
		}
		rows = append(rows, []string{printable(h.Hub), does, h.State, printable(h.Problem)})
	}
	return printRows(s.Out, rows)
}

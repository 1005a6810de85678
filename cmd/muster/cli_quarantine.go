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
	Hub  string `required:"" placeholder:"NAME" help:"The hub where the device is kept; best one of weight 0, so that no other comes to it."`
	Twin string `type:"existingfile" placeholder:"FILE" help:"The initial twin that it gets there, JSON; that of the server's configuration unless given."`
	Why  string `required:"" placeholder:"TEXT" help:"Why; it goes on record."`
	Plan bool   `help:"Say what it would do, and stop."`
	ID   string `arg:"" help:"Registration id."`
}

// Run quarantines a device.
func (c *quarantineStartCmd) Run(ctx context.Context, s streams, api *client) error {
	body := map[string]any{"hub": c.Hub, "why": c.Why}
	if c.Twin != "" {
		twin, err := readTwin(c.Twin)
		if err != nil {
			return err
		}
		body["initialTwin"] = twin
	}
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"registrations", c.ID, "quarantine", "preview"}, body: body, next: "muster reg list, muster hub list"})
	if err != nil {
		return err
	}
	to := s.Err
	if c.Plan {
		to = s.Out
	}
	if err := printQuarantining(to, c.ID, got.body); err != nil || c.Plan {
		return err
	}
	if err := c.confirmed(s, c.ID, "that will be done to device "+c.ID); err != nil {
		return err
	}
	if got, err = api.do(ctx, call{method: http.MethodPost, at: []string{"registrations", c.ID, "quarantine"}, body: body}); err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "it stays there until: muster quarantine end %s\n", c.ID)
	return c.one(s.Out, quarantineTable, got.body)
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
	Hub     string `placeholder:"NAME" help:"On this hub."`
	Pending bool   `help:"Only those that wait for a hub."`
	Ended   bool   `help:"Those that have ended, instead of those that stand."`
}

// Run lists quarantines.
func (c *quarantineListCmd) Run(ctx context.Context, s streams, api *client) error {
	return c.print(ctx, api, s, quarantineTable, "quarantines", filters("hub", c.Hub, "pending", flagged(c.Pending), "ended", flagged(c.Ended)))
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

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// rollCmd is `muster roll`: rotation, beyond what each device does by itself.
type rollCmd struct {
	connection
	Plan     rollPlanCmd     `cmd:"" help:"Rotation plans: who is moved, when, and how many in an hour."`
	Due      rollDueCmd      `cmd:"" help:"List the next moves, soonest first."`
	Now      rollNowCmd      `cmd:"" help:"Roll one thing now, whatever its plan says of windows and rates."`
	Campaign rollCampaignCmd `cmd:"" help:"Campaigns: move many devices now, in waves."`
	Stuck    rollStuckCmd    `cmd:"" help:"Show devices whose roll does not go on, and why."`
	Horizon  rollHorizonCmd  `cmd:"" help:"Show what ends in which week, and how many renewals to expect."`
	Calendar rollCalendarCmd `cmd:"" help:"Print when issuers, anchors and signing certificates end, as an iCalendar file."`
}

var dueTable = table{
	{"NAME", "name", false}, {"ROLE", "role", false}, {"AT", "at", false}, {"MOVE", "move", false}, {"REASON", "reason", false}, {"ENDS", "ends", false}, {"PLAN", "plan", false},
	{"PAUSED", "paused", true}, {"OPENS", "opens", true},
}

type rollDueCmd struct {
	output
	Within span   `default:"30d" placeholder:"30d" help:"Due within this time."`
	Role   string `enum:",device,enrollment,group,key,issuer,anchor" default:"" help:"device, enrollment, group, key, issuer or anchor."`
	Limit  int    `default:"50" help:"At most so many, 1 to 500."`
}

// Validate keeps the number in its bounds.
func (c *rollDueCmd) Validate() error {
	if c.Limit < 1 || c.Limit > pageSize {
		return errors.New("--limit lies between 1 and 500")
	}
	return nil
}

// Run lists what is due.
func (c *rollDueCmd) Run(ctx context.Context, s streams, api *client) error {
	query := filters("role", c.Role, "limit", strconv.Itoa(c.Limit), "before", time.Now().Add(time.Duration(c.Within)).UTC().Format(time.RFC3339))
	got, err := api.do(ctx, call{method: http.MethodGet, at: []string{"rotation", "due"}, query: query})
	if err != nil {
		return err
	}
	var list struct {
		Items []json.RawMessage
		More  bool
	}
	if err := json.Unmarshal(got.body, &list); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if list.More {
		fmt.Fprintln(s.Err, "there may be more: --limit N")
	}
	return c.many(s.Out, dueTable, list.Items, "")
}

type rollNowCmd struct {
	output
	ID         string `arg:"" optional:"" help:"A registration id: the device is told to renew now."`
	Enrollment string `placeholder:"ID" help:"Have an enrollment's slots looked at now."`
	Group      string `placeholder:"ID" help:"Have a group's slots looked at now."`
	Issuer     string `placeholder:"ID" help:"The issuer's next step: promote the one that is prepared."`
	Yes        bool   `help:"Do not ask before an issuer is promoted (needed where there is no terminal)."`
}

// Validate wants one thing.
func (c *rollNowCmd) Validate() error {
	named := 0
	for _, name := range []string{c.ID, c.Enrollment, c.Group, c.Issuer} {
		if name != "" {
			named++
		}
	}
	if named != 1 {
		return errors.New("name one thing: a registration id, --enrollment, --group or --issuer")
	}
	return nil
}

// Run rolls.
func (c *rollNowCmd) Run(ctx context.Context, s streams, api *client) error {
	if c.Issuer != "" {
		return c.issuer(ctx, s, api)
	}
	body := map[string]any{}
	for name, id := range map[string]string{"registration": c.ID, "enrollment": c.Enrollment, "group": c.Group} {
		if id != "" {
			body[name] = id
		}
	}
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"rotation", "now"}, body: body, next: "muster reg list"})
	if err != nil {
		return err
	}
	return c.one(s.Out, dueTable, got.body)
}

// issuerPlace is what says which issuers follow each other.
type issuerPlace struct{ ID, Role, Profile, State string }

// issuer takes an issuer's next step, which is a decision of its own door: of a prepared one,
// or of the active one beside it, to promote it.
func (c *rollNowCmd) issuer(ctx context.Context, s streams, api *client) error {
	items, _, err := listing{All: true}.fetch(ctx, api, "issuers", nil)
	if err != nil {
		return err
	}
	var named, prepared issuerPlace
	all := make([]issuerPlace, len(items))
	for n, item := range items {
		if err := json.Unmarshal(item, &all[n]); err != nil {
			return fmt.Errorf("reading the answer: %w", err)
		}
		if all[n].ID == c.Issuer {
			named = all[n]
		}
	}
	for _, i := range all {
		if i.State == "prepared" && i.Role == named.Role && i.Profile == named.Profile {
			prepared = i
		}
	}
	switch {
	case named.ID == "":
		return fault.New(fault.NotFound, "issuer-not-found", "there is no issuer %s: muster ca list", c.Issuer)
	case named.State != "active" && named.State != "prepared" || prepared.ID == "":
		return fault.New(fault.Conflict, "successor-missing", "issuer %s is %s, and none is prepared to follow it: muster ca create makes the next one", named.ID, named.State)
	}
	promote := caPromoteCmd{issuerAct: issuerAct{output: c.output, harm: harm{Yes: c.Yes}, ID: prepared.ID}}
	return promote.Run(ctx, s, api)
}

var (
	reasonTable = table{{"REASON", "reason", false}, {"DEVICES", "count", false}}
	stuckTable  = table{{"ID", "registrationId", false}, {"REASON", "reason", false}, {"SINCE", "since", false}, {"TOLD", "toldAt", false}, {"THUMBPRINT", "thumbprint", true}}
)

type rollStuckCmd struct {
	listing
	Reason string `arg:"" optional:"" help:"List the devices that are stuck for this reason (default: how many for which)."`
}

// Run shows who is stuck.
func (c *rollStuckCmd) Run(ctx context.Context, s streams, api *client) error {
	if c.Reason != "" {
		return c.print(ctx, api, s, stuckTable, "rotation/stuck", filters("reason", c.Reason))
	}
	got, err := api.do(ctx, call{method: http.MethodGet, at: []string{"rotation"}})
	if err != nil {
		return err
	}
	var r struct{ Stuck []json.RawMessage }
	if err := json.Unmarshal(got.body, &r); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if len(r.Stuck) == 0 {
		fmt.Fprintln(s.Err, "no device is stuck")
	}
	return c.many(s.Out, reasonTable, r.Stuck, "")
}

var horizonTable = table{
	{"WEEK", "week", false}, {"ROLE", "role", false}, {"ENDING", "ending", false}, {"SUCCEEDED", "succeeded", false}, {"RENEWALS", "renewals", false}, {"BEGINS", "begins", true},
}

type rollHorizonCmd struct {
	output
	Weeks int    `default:"12" help:"So many weeks, this one included, 1 to 156."`
	Role  string `enum:",device,enrollment,group,key,access,anchor,issuer,ocsp,server" default:"" help:"device, enrollment, group, key, access, anchor, issuer, ocsp or server."`
}

// Run shows the weeks, and on the other stream what they leave out.
func (c *rollHorizonCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := api.do(ctx, call{method: http.MethodGet, at: []string{"expiry"}, query: filters("weeks", strconv.Itoa(c.Weeks), "role", c.Role)})
	if err != nil {
		return err
	}
	if c.Output == "json" || c.Output == "yaml" {
		return c.one(s.Out, horizonTable, got.body)
	}
	var e struct {
		Surveyed time.Time
		Roles    []struct {
			Role                         string
			Total, Endless, Ended, Later int64
		}
		Weeks []json.RawMessage
	}
	if err := json.Unmarshal(got.body, &e); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if err := c.many(s.Out, horizonTable, e.Weeks, ""); err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "counted %s\n", e.Surveyed.Format(time.RFC3339))
	for _, r := range e.Roles {
		if r.Total > 0 {
			fmt.Fprintf(s.Err, "%s: %d, of which %d ended, %d end later, %d have no end\n", r.Role, r.Total, r.Ended, r.Later, r.Endless)
		}
	}
	return nil
}

type rollCalendarCmd struct{}

// Run prints the calendar.
func (rollCalendarCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := api.do(ctx, call{method: http.MethodGet, at: []string{"calendar.ics"}})
	if err != nil {
		return err
	}
	_, err = s.Out.Write(got.body)
	return err
}

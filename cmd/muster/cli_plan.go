package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/passmuster/muster/internal/fault"
)

// rollPlanCmd is `muster roll plan`: rotation plans.
type rollPlanCmd struct {
	List   planListCmd   `cmd:"" help:"List rotation plans."`
	Show   planShowCmd   `cmd:"" help:"Show one."`
	Create planCreateCmd `cmd:"" help:"Make one."`
	Apply  planApplyCmd  `cmd:"" help:"Create or replace one from a file."`
	Pause  planPauseCmd  `cmd:"" help:"Have one move nothing until it is resumed."`
	Resume planResumeCmd `cmd:"" help:"Let one go on."`
	Delete planDeleteCmd `cmd:"" help:"Delete one."`
}

var planTable = table{
	{"NAME", "name", false}, {"ROLE", "role", false}, {"PAUSED", "paused", false}, {"OPEN", "open", false}, {"OPENS", "opens", false}, {"PER HOUR", "maxPerHour", false}, {"MOVED", "moved", false},
	{"ENTRIES", "entries", true}, {"PROFILES", "profiles", true}, {"WINDOWS", "windows", true}, {"JITTER", "jitter", true}, {"PREPARE AT", "prepareAt", true}, {"OVERLAP", "overlap", true},
	{"EVERY", "every", true}, {"DEADLINE", "deadline", true}, {"AUTO", "auto", true}, {"PUBLISH", "publish", true}, {"UPDATED", "lastUpdatedDateTimeUtc", true}, {"ETAG", "etag", true},
}

type planListCmd struct{ listing }

// Run lists plans.
func (c *planListCmd) Run(ctx context.Context, s streams, api *client) error {
	return c.print(ctx, api, s, planTable, "plans", nil)
}

func getPlan(ctx context.Context, api *client, name string) (answer, error) {
	return api.do(ctx, call{method: http.MethodGet, at: []string{"plans", name}, next: "muster roll plan list"})
}

type planShowCmd struct {
	output
	Name string `arg:"" help:"Its name."`
}

// Run shows a plan.
func (c *planShowCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := getPlan(ctx, api, c.Name)
	if err != nil {
		return err
	}
	return c.one(s.Out, planTable, got.body)
}

// openSpan is when a window opens, for how long and on whose clock, as people write it:
// "0 2 * * 6 for 4h" or "0 2 * * 6 for 4h in Europe/Berlin".
type openSpan struct{ Opens, Length, Zone string }

// UnmarshalText reads a window for kong.
func (w *openSpan) UnmarshalText(text []byte) error {
	opens, rest, ok := strings.Cut(string(text), " for ")
	length, zone, _ := strings.Cut(rest, " in ")
	var open span
	if !ok || open.UnmarshalText([]byte(strings.TrimSpace(length))) != nil {
		return fmt.Errorf(`%q is not a window such as "0 2 * * 6 for 4h in Europe/Berlin"`, text)
	}
	*w = openSpan{strings.TrimSpace(opens), open.iso(), strings.TrimSpace(zone)}
	return nil
}

func windowBodies(windows []openSpan) (bodies []map[string]any) {
	for _, w := range windows {
		bodies = append(bodies, map[string]any{"opens": w.Opens, "length": w.Length, "zone": w.Zone})
	}
	return bodies
}

type planCreateCmd struct {
	output
	Name       string     `arg:"" help:"Its name."`
	Role       string     `required:"" enum:"devices,enrollments,groups,keys,access,issuers" help:"What it rolls: devices, enrollments, groups, keys, access or issuers."`
	Entry      []string   `placeholder:"ID" help:"Only of this enrollment or group, or this access policy: service/NAME, hub/NAME. Repeatable."`
	Profile    []string   `placeholder:"NAME" help:"Of devices and issuers: only under this issuing profile. Repeatable."`
	Window     []openSpan `sep:"none" placeholder:"CRON for TIME" help:"When anything may be moved: \"0 2 * * 6 for 4h in Europe/Berlin\" (default: always). Repeatable."`
	MaxPerHour int        `placeholder:"N" help:"At most so many moves in an hour of the clock (default: no bound)."`
	Jitter     *float64   `placeholder:"SHARE" help:"Spread what comes due together over this share of the life, 0 to 0.3."`
	PrepareAt  *float64   `placeholder:"SHARE" help:"After which share of the life a successor is due (default: two thirds); of devices the issuing profile says it."`
	Overlap    span       `placeholder:"7d" help:"How long the old one stands beside the new (default: 24h); of devices the issuing profile says it."`
	Every      span       `placeholder:"180d" help:"Of keys and access: roll at this age."`
	Deadline   span       `placeholder:"90d" help:"Of groups: wait for stragglers this long at most."`
	Auto       bool       `help:"Of issuers: make, publish and promote the next one on schedule."`
	Publish    span       `placeholder:"14d" help:"Of issuers: how long the next one is in the trust bundle before it signs."`
	Paused     bool       `help:"It moves nothing until it is resumed."`
}

// Run makes a plan.
func (c *planCreateCmd) Run(ctx context.Context, s streams, api *client) error {
	body := map[string]any{"role": c.Role, "paused": c.Paused, "auto": c.Auto, "maxPerHour": c.MaxPerHour}
	for name, list := range map[string][]string{"entries": c.Entry, "profiles": c.Profile} {
		if len(list) > 0 {
			body[name] = list
		}
	}
	if len(c.Window) > 0 {
		body["windows"] = windowBodies(c.Window)
	}
	for name, share := range map[string]*float64{"jitter": c.Jitter, "prepareAt": c.PrepareAt} {
		if share != nil {
			body[name] = *share
		}
	}
	for name, length := range map[string]span{"overlap": c.Overlap, "every": c.Every, "deadline": c.Deadline, "publish": c.Publish} {
		body[name] = length.iso()
	}
	return putPlan(ctx, s, api, c.output, c.Name, mustBeNew, body)
}

type planApplyCmd struct {
	output
	Name string `arg:"" optional:"" help:"Its name, if the file does not say it."`
	File string `short:"f" required:"" type:"existingfile" placeholder:"FILE" help:"The plan in YAML or JSON."`
}

// Run writes a plan.
func (c *planApplyCmd) Run(ctx context.Context, s streams, api *client) error {
	text, err := os.ReadFile(c.File)
	if err != nil {
		return err
	}
	body, err := planFile(text, c.File, c.Name)
	if err != nil {
		return err
	}
	name, match := fmt.Sprint(body["name"]), mustBeNew
	switch current, err := getPlan(ctx, api, name); {
	case err == nil:
		match = current.etag
	case !fault.Is(err, fault.NotFound):
		return err
	}
	return putPlan(ctx, s, api, c.output, name, match, body)
}

// planFile reads a plan from YAML, of which JSON is a part. What `muster roll plan show`
// adds to it is left out.
func planFile(text []byte, from, name string) (map[string]any, error) {
	var body map[string]any
	if err := yaml.Unmarshal(text, &body); err != nil || body == nil {
		return nil, fault.New(fault.Malformed, "plan-file", "%s is not a plan in YAML or JSON: %v", from, err)
	}
	for _, added := range []string{"etag", "createdDateTimeUtc", "lastUpdatedDateTimeUtc", "moved", "open", "opens", "warnings"} {
		delete(body, added)
	}
	said, ok := body["name"].(string)
	switch {
	case ok && name != "" && said != name:
		return nil, fault.New(fault.Malformed, "plan-file", "%s is about the plan %q, not %q", from, said, name)
	case !ok && name == "":
		return nil, fault.New(fault.Malformed, "plan-file", "%s does not say the name of the plan", from)
	case !ok:
		body["name"] = name
	}
	return body, nil
}

// putPlan writes a plan, and says what the server finds surprising about it.
func putPlan(ctx context.Context, s streams, api *client, o output, name, match string, body map[string]any) error {
	got, err := api.do(ctx, call{method: http.MethodPut, at: []string{"plans", name}, match: match, body: body})
	if err != nil {
		return err
	}
	var p struct{ Warnings []string }
	if err := json.Unmarshal(got.body, &p); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	for _, w := range p.Warnings {
		fmt.Fprintf(s.Err, "note: %s\n", printable(w))
	}
	return o.one(s.Out, planTable, got.body)
}

type planPauseCmd struct {
	output
	Name string `arg:"" help:"Its name."`
}

// Run pauses a plan.
func (c *planPauseCmd) Run(ctx context.Context, s streams, api *client) error {
	return actOnPlan(ctx, s, api, c.output, c.Name, "pause")
}

type planResumeCmd struct {
	output
	Name string `arg:"" help:"Its name."`
}

// Run lets a plan go on.
func (c *planResumeCmd) Run(ctx context.Context, s streams, api *client) error {
	return actOnPlan(ctx, s, api, c.output, c.Name, "resume")
}

func actOnPlan(ctx context.Context, s streams, api *client, o output, name, verb string) error {
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"plans", name, verb}, next: "muster roll plan list"})
	if err != nil {
		return err
	}
	return o.one(s.Out, planTable, got.body)
}

type planDeleteCmd struct {
	harm
	Name string `arg:"" help:"Its name."`
}

// Run deletes a plan.
func (c *planDeleteCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := getPlan(ctx, api, c.Name)
	if err != nil {
		return err
	}
	if err := c.confirmed(s, c.Name, fmt.Sprintf("plan %s will be deleted: what it held back is held back no more", c.Name)); err != nil {
		return err
	}
	if _, err := api.do(ctx, call{method: http.MethodDelete, at: []string{"plans", c.Name}, match: got.etag}); err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "plan %s deleted\n", c.Name)
	return nil
}

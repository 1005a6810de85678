package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// rollCampaignCmd is `muster roll campaign`.
type rollCampaignCmd struct {
	Create  campaignCreateCmd  `cmd:"" help:"Start one."`
	List    campaignListCmd    `cmd:"" help:"List campaigns."`
	Show    campaignShowCmd    `cmd:"" help:"Show how far one is."`
	Watch   campaignWatchCmd   `cmd:"" help:"Follow one until it ends or stops."`
	Devices campaignDevicesCmd `cmd:"" help:"List its devices, and why some failed."`
	Pause   campaignPauseCmd   `cmd:"" help:"Tell nobody any more until it is resumed."`
	Resume  campaignResumeCmd  `cmd:"" help:"Go on; failures are counted anew."`
	Abort   campaignAbortCmd   `cmd:"" help:"End one for good; its devices stay as they are."`
}

var (
	campaignTable = table{
		{"NAME", "name", false}, {"STATE", "state", false}, {"ACT", "act", false}, {"DEVICES", "devices", false}, {"WAVE", "wave", false}, {"REASON", "reason", false},
		{"CREATED", "createdDateTimeUtc", false}, {"BY", "createdBy", true}, {"UPDATED", "lastUpdatedDateTimeUtc", true}, {"ETAG", "etag", true},
	}
	campaignReport = append(campaignTable[:len(campaignTable):len(campaignTable)], table{
		{"DUE", "funnel.due", false}, {"TOLD", "funnel.told", false}, {"STAGED", "funnel.staged", false}, {"SEEN", "funnel.seen", false},
		{"RETIRED", "funnel.retired", false}, {"FAILED", "funnel.failed", false}, {"GONE", "funnel.gone", false}, {"FAILURES", "failures", false},
		{"WINDOW OPENS", "windowOpens", false}, {"LEFT THIS HOUR", "leftThisHour", false},
	}...)
	campaignDeviceTable = table{
		{"ID", "registrationId", false}, {"STATE", "state", false}, {"WAVE", "wave", false}, {"REASON", "reason", false}, {"TOLD", "toldAt", false},
		{"UPDATED", "lastUpdatedDateTimeUtc", true}, {"CERTIFICATE", "certificate", true},
	}
)

// selecting says which devices are meant.
type selecting struct {
	Everything    bool     `help:"All devices."`
	Group         string   `placeholder:"ID" help:"Devices that this group admits."`
	Enrollment    string   `placeholder:"ID" help:"The device of this enrollment."`
	Profile       string   `placeholder:"NAME" help:"Devices whose entry has this issuing profile."`
	Hub           string   `placeholder:"NAME" help:"Devices on this hub."`
	Issuer        string   `placeholder:"ID" help:"Devices whose last certificate is of this issuer."`
	ExpiresWithin span     `placeholder:"30d" help:"Devices whose certificates all end within this time."`
	Device        []string `placeholder:"ID" help:"This device. Repeatable, up to 1000."`
}

// body is the selection as the API has it.
func (f selecting) body(now time.Time) map[string]any {
	sel := map[string]any{}
	for name, value := range map[string]string{"group": f.Group, "enrollment": f.Enrollment, "profile": f.Profile, "hub": f.Hub, "issuer": f.Issuer} {
		if value != "" {
			sel[name] = value
		}
	}
	if f.Everything {
		sel["everything"] = true
	}
	if f.ExpiresWithin > 0 {
		sel["expiresBefore"] = now.Add(time.Duration(f.ExpiresWithin)).UTC().Format(time.RFC3339)
	}
	if len(f.Device) > 0 {
		sel["ids"] = f.Device
	}
	return sel
}

// canaries are a share, "5%", or a number of devices.
type canaries struct {
	share   float64
	devices int
}

// UnmarshalText reads canaries for kong.
func (c *canaries) UnmarshalText(text []byte) error {
	if digits, ok := strings.CutSuffix(string(text), "%"); ok {
		p, err := strconv.ParseFloat(digits, 64)
		if err != nil || !(p > 0 && p <= 50) {
			return fmt.Errorf("%q is not a share of at most half of the devices, such as 5%%", text)
		}
		*c = canaries{share: p / 100}
		return nil
	}
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 1 {
		return fmt.Errorf("%q is not a number of devices, nor a share such as 5%%", text)
	}
	*c = canaries{devices: n}
	return nil
}

// pacing is how a campaign goes about it.
type pacing struct {
	Canary       canaries `placeholder:"5%" help:"The first wave: a share of the devices, or their number."`
	Waves        int      `placeholder:"N" xor:"waves" help:"How many equal waves follow (1 unless given)."`
	WaveSize     []int    `placeholder:"N,…" xor:"waves" help:"Or how many devices are in each; the last takes who is left."`
	WaveAfter    float64  `placeholder:"0.9" help:"The share of a wave that must have been seen before the next begins."`
	Window       []string `sep:"none" placeholder:"CRON" help:"Tell devices only from then, the five fields of crontab. Repeatable."`
	OpenFor      span     `default:"1h" help:"How long each window stays open."`
	Zone         string   `placeholder:"AREA/CITY" help:"The windows' time zone (UTC unless given)."`
	MaxPerHour   int      `placeholder:"N" help:"Tell at most so many in an hour of the clock."`
	Jitter       span     `placeholder:"30m" help:"Spread devices told together over this time."`
	Patience     span     `placeholder:"1d" help:"How long a device is waited for."`
	MaxErrorRate float64  `placeholder:"0.1" help:"Pause when more than this share fails; 1 never does."`
	MinSample    int      `placeholder:"N" help:"How many devices are needed to judge (10 unless given)."`
}

// add completes a campaign's body.
func (p pacing) add(body map[string]any) {
	given := func(name string, there bool, value any) {
		if there {
			body[name] = value
		}
	}
	given("canary", p.Canary.share > 0, p.Canary.share)
	given("canaryDevices", p.Canary.devices > 0, p.Canary.devices)
	given("waves", p.Waves != 0, p.Waves)
	given("waveSizes", len(p.WaveSize) > 0, p.WaveSize)
	given("waveAfter", p.WaveAfter != 0, p.WaveAfter)
	given("maxPerHour", p.MaxPerHour != 0, p.MaxPerHour)
	given("jitter", p.Jitter > 0, p.Jitter.iso())
	given("patience", p.Patience > 0, p.Patience.iso())
	given("maxErrorRate", p.MaxErrorRate != 0, p.MaxErrorRate)
	given("minSample", p.MinSample != 0, p.MinSample)
	var windows []map[string]any
	for _, opens := range p.Window {
		w := map[string]any{"opens": opens, "length": p.OpenFor.iso()}
		if p.Zone != "" {
			w["zone"] = p.Zone
		}
		windows = append(windows, w)
	}
	given("windows", len(windows) > 0, windows)
}

// expecting is the bound that scripts put on what a campaign may reach.
type expecting struct {
	ExpectDevices int `placeholder:"N" help:"Refuse, or pause before anybody is told, if there are more."`
}

// launch previews a campaign, asks, and starts it.
func launch(ctx context.Context, s streams, api *client, h harm, e expecting, body map[string]any) (answer, error) {
	name, _ := body["name"].(string)
	if e.ExpectDevices > 0 {
		body["expectDevices"] = e.ExpectDevices
	}
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"campaigns", "preview"}, body: body, next: "muster roll campaign create --help"})
	if err != nil {
		return answer{}, err
	}
	var preview struct {
		Devices int
		Whole   bool
	}
	if err := json.Unmarshal(got.body, &preview); err != nil {
		return answer{}, fmt.Errorf("reading the answer: %w", err)
	}
	switch {
	case preview.Devices == 0 && preview.Whole:
		return answer{}, fault.New(fault.NotFound, "campaign-of-nobody", "no device fits")
	case e.ExpectDevices > 0 && preview.Devices > e.ExpectDevices:
		return answer{}, fault.New(fault.Conflict, "more-devices-than-expected", "there are %d devices, more than the %d expected", preview.Devices, e.ExpectDevices)
	}
	many := strconv.Itoa(preview.Devices)
	if !preview.Whole {
		many = "at least " + many
	}
	does := "get a new certificate"
	if body["act"] == "reprovision" {
		does = "register again"
	}
	if err := h.confirmed(s, name, fmt.Sprintf("%s devices will be told to %s", many, does)); err != nil {
		return answer{}, err
	}
	got, err = api.do(ctx, call{method: http.MethodPost, at: []string{"campaigns"}, body: body})
	if err == nil {
		fmt.Fprintf(s.Err, "campaign %s started with %s devices: muster roll campaign watch %s\n", name, many, name)
	}
	return got, err
}

type campaignCreateCmd struct {
	output
	harm
	expecting
	selecting
	pacing
	Name string `arg:"" help:"What it is called; a name is used once."`
	Act  string `enum:"renew,reprovision" default:"renew" help:"renew: get a new certificate; reprovision: register again."`
}

// Run starts a campaign.
func (c *campaignCreateCmd) Run(ctx context.Context, s streams, api *client) error {
	body := map[string]any{"name": c.Name, "act": c.Act, "select": c.body(time.Now())}
	c.add(body)
	got, err := launch(ctx, s, api, c.harm, c.expecting, body)
	if err != nil {
		return err
	}
	return c.one(s.Out, campaignTable, got.body)
}

type campaignListCmd struct{ listing }

// Run lists campaigns.
func (c *campaignListCmd) Run(ctx context.Context, s streams, api *client) error {
	return c.print(ctx, api, s, campaignTable, "campaigns", nil)
}

func getCampaign(ctx context.Context, api *client, name string) (answer, error) {
	return api.do(ctx, call{method: http.MethodGet, at: []string{"campaigns", name}, next: "muster roll campaign list"})
}

type campaignShowCmd struct {
	output
	Name string `arg:"" help:"Its name."`
}

// Run shows a campaign.
func (c *campaignShowCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := getCampaign(ctx, api, c.Name)
	if err != nil {
		return err
	}
	return c.one(s.Out, campaignReport, got.body)
}

type campaignWatchCmd struct {
	Name  string        `arg:"" help:"Its name."`
	Until string        `enum:"running,done" default:"done" help:"running: only until its devices are gathered."`
	Every time.Duration `default:"1s" help:"How often to look."`
}

// Validate keeps a watch from asking without end.
func (c *campaignWatchCmd) Validate() error {
	if c.Every < 100*time.Millisecond {
		return fmt.Errorf("--every is at least 100ms")
	}
	return nil
}

// Run prints a line whenever a campaign has moved.
func (c *campaignWatchCmd) Run(ctx context.Context, s streams, api *client) error {
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	for last := ""; ; {
		got, err := getCampaign(ctx, api, c.Name)
		if err != nil {
			return err
		}
		line, state, err := watched(got.body)
		if err != nil {
			return err
		}
		if line != last {
			fmt.Fprintln(s.Out, line)
			last = line
		}
		switch state {
		case c.Until, "done":
			return nil
		case "paused", "aborted":
			return quietExit{exitPartly}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// watched is a campaign in one line.
func watched(raw json.RawMessage) (line, state string, err error) {
	var c struct {
		State, Reason string
		Wave, Devices int64
		Funnel        map[string]int64
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return "", "", fmt.Errorf("reading the answer: %w", err)
	}
	parts := []string{c.State}
	if c.Reason != "" {
		parts = append(parts, "("+printable(c.Reason)+")")
	}
	if c.Wave > 0 {
		parts = append(parts, fmt.Sprintf("wave %d", c.Wave))
	}
	for _, name := range []string{"due", "told", "staged", "seen", "retired", "failed", "gone"} {
		if n := c.Funnel[name]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d (%.0f%%)", name, n, math.Round(100*float64(n)/float64(max(1, c.Devices)))))
		}
	}
	return strings.Join(parts, "  "), c.State, nil
}

type campaignDevicesCmd struct {
	listing
	Name  string `arg:"" help:"Its name."`
	State string `enum:",due,told,staged,seen,retired,failed,gone" default:"" help:"due, told, staged, seen, retired, failed or gone."`
}

// Run lists the devices of a campaign.
func (c *campaignDevicesCmd) Run(ctx context.Context, s streams, api *client) error {
	if _, err := escaped([]string{c.Name}); err != nil {
		return err
	}
	return c.print(ctx, api, s, campaignDeviceTable, "campaigns/"+c.Name+"/devices", filters("state", c.State))
}

// steering is what an operator's act on a campaign takes.
type steering struct {
	output
	Name   string `arg:"" help:"Its name."`
	Reason string `placeholder:"TEXT" help:"Why; it goes on record."`
}

// act moves the campaign as it was read.
func (c *steering) act(ctx context.Context, s streams, api *client, verb, match string) error {
	if match == "" {
		got, err := getCampaign(ctx, api, c.Name)
		if err != nil {
			return err
		}
		match = got.etag
	}
	body := map[string]any{}
	if c.Reason != "" {
		body["reason"] = c.Reason
	}
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"campaigns", c.Name, verb}, match: match, body: body, next: "muster roll campaign show " + c.Name})
	if err != nil {
		return err
	}
	return c.one(s.Out, campaignTable, got.body)
}

type campaignPauseCmd struct{ steering }

// Run pauses a campaign.
func (c *campaignPauseCmd) Run(ctx context.Context, s streams, api *client) error {
	return c.act(ctx, s, api, "pause", "")
}

type campaignResumeCmd struct{ steering }

// Run resumes a campaign.
func (c *campaignResumeCmd) Run(ctx context.Context, s streams, api *client) error {
	return c.act(ctx, s, api, "resume", "")
}

type campaignAbortCmd struct {
	steering
	harm
}

// Run aborts a campaign.
func (c *campaignAbortCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := getCampaign(ctx, api, c.Name)
	if err != nil {
		return err
	}
	if err := c.confirmed(s, c.Name, fmt.Sprintf("campaign %s will end for good; who was told may still come, and stays as it is", c.Name)); err != nil {
		return err
	}
	return c.act(ctx, s, api, "abort", got.etag)
}

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// planning carries out a campaign that ends something: it is gathered, shown, and resumed as it
// was shown.
type planning struct {
	output
	harm
	expecting
	plan, watch bool
}

// campaignName is the one given, or one with the time.
func campaignName(act, given string) string {
	return cmp.Or(given, act+"-"+time.Now().UTC().Format("20060102T150405Z"))
}

// run has the devices gathered, and goes on from there.
func (p planning) run(ctx context.Context, s streams, api *client, body map[string]any) error {
	name, _ := body["name"].(string)
	if !p.plan && !p.Yes && !isTerminal(s.In) {
		return fault.New(fault.Malformed, "needs-yes", "nobody can be asked here: add --plan, and then muster retire start %s --yes; or --yes", name)
	}
	if body["maxPerHour"] == 0 {
		delete(body, "maxPerHour")
	}
	if p.ExpectDevices > 0 {
		body["expectDevices"] = p.ExpectDevices
	}
	if _, err := api.do(ctx, call{method: http.MethodPost, at: []string{"campaigns"}, body: body}); err != nil {
		return err
	}
	if err := gathered(ctx, api, name); err != nil {
		return err
	}
	if !p.plan {
		return p.start(ctx, s, api, name)
	}
	_, err := p.show(ctx, s.Out, api, name)
	if err == nil {
		fmt.Fprintf(s.Err, "nothing has happened; to carry it out: muster retire start %s; to drop it: muster roll campaign abort %s\n", name, name)
	}
	return err
}

// gathered waits until a campaign has its devices.
func gathered(ctx context.Context, api *client, name string) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		got, err := getCampaign(ctx, api, name)
		if err != nil {
			return err
		}
		if _, state, err := watched(got.body); err != nil || state != "gathering" {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// show prints the plan, and gives the version that it is of.
func (p planning) show(ctx context.Context, w io.Writer, api *client, name string) (etag string, err error) {
	got, err := getCampaign(ctx, api, name)
	if err != nil {
		return "", err
	}
	var c struct {
		Act, Reason string
		Failures    map[string]int64
	}
	var plan struct{ Items []plannedRow }
	rows, err := api.do(ctx, call{method: http.MethodGet, at: []string{"campaigns", name, "plan"}})
	if err == nil {
		err = json.Unmarshal(rows.body, &plan)
	}
	if err == nil {
		err = json.Unmarshal(got.body, &c)
	}
	if err != nil {
		return "", err
	}
	var lines [][]string
	for _, row := range plan.Items {
		lines = append(lines, row.of(c.Act))
	}
	for _, why := range slices.Sorted(maps.Keys(c.Failures)) {
		lines = append(lines, []string{plural(c.Failures[why], "device"), "left out: " + printable(why)})
	}
	if err := printRows(w, lines); err != nil {
		return "", err
	}
	switch {
	case len(plan.Items) == 0:
		return "", fault.New(fault.NotFound, "campaign-of-nobody", "no device fits")
	case c.Reason == "more-devices-than-expected":
		return "", fault.New(fault.Conflict, c.Reason, "there are more devices than expected: muster roll campaign devices %s", name)
	}
	return got.etag, nil
}

// start asks, and has the plan carried out as it was shown.
func (p planning) start(ctx context.Context, s streams, api *client, name string) error {
	etag, err := p.show(ctx, s.Err, api, name)
	if err != nil {
		return err
	}
	if err := p.confirmed(s, name, "that will be done to these devices"); err != nil {
		fmt.Fprintf(s.Err, "the plan waits: muster retire start %s, or muster roll campaign abort %s\n", name, name)
		return err
	}
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"campaigns", name, "resume"}, match: etag, body: map[string]any{}, next: "muster roll campaign show " + name})
	if err != nil {
		return err
	}
	if p.watch {
		return (&campaignWatchCmd{Name: name, Until: "done", Every: time.Second}).Run(ctx, s, api)
	}
	fmt.Fprintf(s.Err, "it is carried out: muster roll campaign watch %s\n", name)
	return p.one(s.Out, campaignTable, got.body)
}

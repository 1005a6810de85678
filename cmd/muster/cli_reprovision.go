package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

type regReprovisionCmd struct {
	output
	harm
	expecting
	Group      string `placeholder:"ID" help:"All devices that this group admits."`
	Hub        string `placeholder:"NAME" help:"All devices on this hub."`
	Everything bool   `help:"All devices."`
	Campaign   string `placeholder:"NAME" help:"What the campaign of several devices is called (a name with the time unless given)."`
	ID         string `arg:"" optional:"" help:"Registration id of the one device."`
}

// Validate wants one device or a filter.
func (c *regReprovisionCmd) Validate() error {
	if filter := c.Group != "" || c.Hub != "" || c.Everything; filter == (c.ID != "") {
		return fault.New(fault.Malformed, "reprovision-whom", "say who is meant: one registration id, or --group ID, --hub NAME, --everything")
	}
	return nil
}

// Run tells one device, or starts a campaign of one wave.
func (c *regReprovisionCmd) Run(ctx context.Context, s streams, api *client) error {
	if c.ID != "" {
		got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"registrations", c.ID, "reprovision"}, next: "muster explain " + c.ID})
		if err != nil {
			return err
		}
		fmt.Fprintf(s.Err, "%s was told to register again\n", c.ID)
		return c.one(s.Out, registrationTable, got.body)
	}
	now := time.Now()
	name := c.Campaign
	if name == "" {
		name = "reprovision-" + now.UTC().Format("20060102T150405Z")
	}
	body := map[string]any{"name": name, "act": "reprovision", "select": selecting{Everything: c.Everything, Group: c.Group, Hub: c.Hub}.body(now)}
	got, err := launch(ctx, s, api, c.harm, c.expecting, body)
	if err != nil {
		return err
	}
	return c.one(s.Out, campaignTable, got.body)
}

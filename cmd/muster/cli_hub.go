package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/passmuster/muster/internal/fault"
)

// hubCmd is `muster hub`: the linked hubs that devices are assigned to.
type hubCmd struct {
	connection
	List   hubListCmd   `cmd:"" help:"List linked hubs."`
	Show   hubShowCmd   `cmd:"" help:"Show one."`
	Link   hubLinkCmd   `cmd:"" help:"Link one."`
	Update hubUpdateCmd `cmd:"" help:"Change one's weight or location."`
	Test   hubTestCmd   `cmd:"" help:"Say whether one can be worked with, and what rests on it."`
	Drain  hubDrainCmd  `cmd:"" help:"Let one keep its devices and take no new ones."`
	Unlink hubUnlinkCmd `cmd:"" help:"Unlink one that no entry names and no device lives on."`
}

var (
	hubTable = table{
		{"NAME", "name", false}, {"DRIVER", "driver", false}, {"WEIGHT", "weight", false}, {"DRAINING", "draining", false}, {"LOCATION", "location", false},
		{"UPDATED", "lastUpdatedDateTimeUtc", true}, {"ETAG", "etag", true},
	}
	hubTestTable = table{{"NAME", "name", false}, {"DRIVER", "driver", false}, {"OK", "ok", false}, {"ENROLLMENTS", "enrollments", false}, {"DEVICES", "devices", false}, {"DETAIL", "detail", false}}
)

type hubListCmd struct{ listing }

// Run lists hubs.
func (c *hubListCmd) Run(ctx context.Context, s streams, api *client) error {
	return c.print(ctx, api, s, hubTable, "hubs", nil)
}

func getHub(ctx context.Context, api *client, name string) (answer, error) {
	return api.do(ctx, call{method: http.MethodGet, at: []string{"hubs", name}, next: "muster hub list"})
}

type hubShowCmd struct {
	output
	Name string `arg:"" help:"Its host name."`
}

// Run shows a hub.
func (c *hubShowCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := getHub(ctx, api, c.Name)
	if err != nil {
		return err
	}
	return c.one(s.Out, hubTable, got.body)
}

// hubFlags are what a hub is made of; what is not given is not sent.
type hubFlags struct {
	Weight   *int    `placeholder:"N" help:"Its share of hashed allocation, 0 to 1000 (link: 1)."`
	Location *string `placeholder:"TEXT" help:"Where it is, for geoLatency allocation; an empty one says nothing."`
}

func (f hubFlags) body() map[string]any {
	body := map[string]any{}
	if f.Weight != nil {
		body["weight"] = *f.Weight
	}
	if f.Location != nil {
		body["location"] = *f.Location
	}
	return body
}

type hubLinkCmd struct {
	output
	hubFlags
	Name string `arg:"" help:"Its host name, as devices are told."`
}

// Run links a hub.
func (c *hubLinkCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := api.do(ctx, call{method: http.MethodPut, at: []string{"hubs", c.Name}, match: mustBeNew, body: c.body()})
	if alreadyThere(err) {
		return &apiError{fault: fault.New(fault.Conflict, "exists", "hub %s is linked already", c.Name), next: "muster hub update " + c.Name}
	}
	if err != nil {
		return err
	}
	return c.one(s.Out, hubTable, got.body)
}

type hubUpdateCmd struct {
	output
	hubFlags
	Name string `arg:"" help:"Its host name."`
}

// Run changes a hub.
func (c *hubUpdateCmd) Run(ctx context.Context, s streams, api *client) error {
	patch := c.body()
	if len(patch) == 0 {
		return fault.New(fault.Malformed, "nothing-to-change", "say what to change: --weight N or --location TEXT")
	}
	return patchHub(ctx, s, api, c.output, c.Name, patch)
}

func patchHub(ctx context.Context, s streams, api *client, o output, name string, patch map[string]any) error {
	got, err := getHub(ctx, api, name)
	if err != nil {
		return err
	}
	if got, err = api.do(ctx, call{method: http.MethodPatch, at: []string{"hubs", name}, match: got.etag, body: patch}); err != nil {
		return err
	}
	return o.one(s.Out, hubTable, got.body)
}

type hubTestCmd struct {
	output
	Name string `arg:"" help:"Its host name."`
}

// Run tests a hub.
func (c *hubTestCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"hubs", c.Name, "test"}, next: "muster hub list"})
	if err != nil {
		return err
	}
	return c.one(s.Out, hubTestTable, got.body)
}

type hubDrainCmd struct {
	output
	harm
	Name string `arg:"" help:"Its host name."`
	Undo bool   `help:"Let it take new devices again."`
}

// Run drains a hub, or lets it take devices again.
func (c *hubDrainCmd) Run(ctx context.Context, s streams, api *client) error {
	if !c.Undo {
		if err := c.confirmed(s, c.Name, fmt.Sprintf("hub %s will take no new devices", c.Name)); err != nil {
			return err
		}
	}
	return patchHub(ctx, s, api, c.output, c.Name, map[string]any{"draining": !c.Undo})
}

type hubUnlinkCmd struct {
	harm
	Name string `arg:"" help:"Its host name."`
}

// Run unlinks a hub.
func (c *hubUnlinkCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := getHub(ctx, api, c.Name)
	if err != nil {
		return err
	}
	if err := c.confirmed(s, c.Name, fmt.Sprintf("hub %s will be unlinked", c.Name)); err != nil {
		return err
	}
	if _, err := api.do(ctx, call{method: http.MethodDelete, at: []string{"hubs", c.Name}, match: got.etag, next: "muster hub drain " + c.Name}); err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "hub %s unlinked\n", c.Name)
	return nil
}

package main

import (
	"context"
	"encoding/json"
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
	Update hubUpdateCmd `cmd:"" help:"Change one's weight, rate, location, address or driver."`
	Key    hubKeyCmd    `cmd:"" help:"Give one that lives elsewhere a new key, and print it."`
	Test   hubTestCmd   `cmd:"" help:"Say whether one can be worked with, and what rests on it."`
	Check  hubCheckCmd  `cmd:"" help:"Look up what one holds, and compare it with what it shall."`
	Drift  hubDriftCmd  `cmd:"" help:"List the devices that one holds otherwise, as last checked."`
	Repair hubRepairCmd `cmd:"" help:"Have one told again of what its last check has listed."`
	Drain  hubDrainCmd  `cmd:"" help:"Let one keep its devices and take no new ones."`
	Unlink hubUnlinkCmd `cmd:"" help:"Unlink one that no entry names and no device lives on."`
}

var (
	hubTable = table{
		{"NAME", "name", false}, {"DRIVER", "driver", false}, {"WEIGHT", "weight", false}, {"DRAINING", "draining", false}, {"LOCATION", "location", false},
		{"ENDPOINT", "endpoint", true}, {"CIRCUIT", "circuit", true}, {"RATE", "ratePerMinute", true}, {"AHEAD", "ahead", true}, {"AHEAD SINCE", "aheadSinceDateTimeUtc", true}, {"ANSWERED", "answeredDateTimeUtc", true},
		{"PROBLEM", "problem", true}, {"NEXT TRY", "nextTryDateTimeUtc", true}, {"CHECKED", "checkedDateTimeUtc", true}, {"DRIFT", "drift", true}, {"UPDATED", "lastUpdatedDateTimeUtc", true}, {"ETAG", "etag", true},
	}
	// hubMade shows a key that nobody will be shown again.
	hubMade      = table{{"NAME", "name", false}, {"ENDPOINT", "endpoint", false}, {"KEY", "key", false}}
	hubElsewhere = append(table{{"NAME", "name", false}, {"ENDPOINT", "endpoint", false}}, hubTable[1:5]...)
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
	URL      string  `name:"to" placeholder:"URL" help:"Where a hub that lives elsewhere is told of its devices: https, or mqtts of a broker."`
	URLFile  string  `name:"to-file" type:"existingfile" placeholder:"FILE" help:"A file with the address, where it is a secret; of an Azure IoT Hub its connection string."`
	Rate     *int    `placeholder:"N" help:"Calls a minute that a hub which lives elsewhere gets at most; 0: as its driver has it."`
	Weight   *int    `placeholder:"N" help:"Its share of hashed allocation, 0 to 1000 (link: 1)."`
	Location *string `placeholder:"TEXT" help:"Where it is, for geoLatency allocation; an empty one says nothing."`
	Driver   string  `placeholder:"DRIVER" help:"registry, the built-in hub; azure, an Azure IoT Hub; mosquitto, a broker; or webhook, one that is told by signed POSTs."`
}

func (f hubFlags) body() (map[string]any, error) {
	body := map[string]any{}
	if f.Driver != "" {
		body["driver"] = f.Driver
	}
	if f.Weight != nil {
		body["weight"] = *f.Weight
	}
	if f.Rate != nil {
		body["rate"] = *f.Rate
	}
	if f.Location != nil {
		body["location"] = *f.Location
	}
	address, err := subscriberAddress{URL: f.URL, URLFile: f.URLFile}.text()
	if address != "" {
		body["url"] = address
	}
	return body, err
}

type hubLinkCmd struct {
	output
	hubFlags
	Name string `arg:"" help:"Its host name, as devices are told."`
}

// Run links a hub.
func (c *hubLinkCmd) Run(ctx context.Context, s streams, api *client) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	got, err := api.do(ctx, call{method: http.MethodPut, at: []string{"hubs", c.Name}, match: mustBeNew, body: body})
	if alreadyThere(err) {
		return &apiError{fault: fault.New(fault.Conflict, "exists", "hub %s is linked already", c.Name), next: "muster hub update " + c.Name}
	}
	if err != nil {
		return err
	}
	return showHub(s, c.output, got.body)
}

// showHub shows a hub that was written: of one that lives elsewhere where it is called, and a key
// that was made.
func showHub(s streams, o output, body json.RawMessage) error {
	made, err := decode(body)
	switch {
	case err != nil:
		return err
	case made["key"] != nil:
		return o.one(s.Out, hubMade, body)
	case made["endpoint"] != nil:
		return o.one(s.Out, hubElsewhere, body)
	}
	return o.one(s.Out, hubTable, body)
}

type hubUpdateCmd struct {
	output
	hubFlags
	Name string `arg:"" help:"Its host name."`
}

// Run changes a hub.
func (c *hubUpdateCmd) Run(ctx context.Context, s streams, api *client) error {
	patch, err := c.body()
	if err != nil {
		return err
	}
	if len(patch) == 0 {
		return fault.New(fault.Malformed, "nothing-to-change", "say what to change: --weight N, --rate N, --location TEXT, --to URL or --driver DRIVER")
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
	return showHub(s, o, got.body)
}

type hubKeyCmd struct {
	output
	harm
	Name string `arg:"" help:"Its host name."`
}

// Run rolls a hub's key.
func (c *hubKeyCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := getHub(ctx, api, c.Name)
	if err != nil {
		return err
	}
	if err := c.confirmed(s, c.Name, fmt.Sprintf("what hub %s is told will be signed with another key", c.Name)); err != nil {
		return err
	}
	if got, err = api.do(ctx, call{method: http.MethodPost, at: []string{"hubs", c.Name, "key"}, match: got.etag}); err != nil {
		return err
	}
	return c.one(s.Out, hubMade, got.body)
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
	Name    string `arg:"" help:"Its host name."`
	Abandon bool   `help:"Give up what the hub was still to remove: it will not answer any more."`
}

// Run unlinks a hub.
func (c *hubUnlinkCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := getHub(ctx, api, c.Name)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("hub %s will be unlinked", c.Name)
	if c.Abandon {
		what += ", and what it was still to remove may be there for good"
	}
	if err := c.confirmed(s, c.Name, what); err != nil {
		return err
	}
	if _, err := api.do(ctx, call{method: http.MethodDelete, at: []string{"hubs", c.Name}, query: filters("abandon", flagged(c.Abandon)), match: got.etag, next: "muster hub drain " + c.Name}); err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "hub %s unlinked\n", c.Name)
	return nil
}

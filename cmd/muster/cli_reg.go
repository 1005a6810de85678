package main

import (
	"context"
	"fmt"
	"net/http"
)

// regCmd is `muster reg`: the records of devices that have registered.
type regCmd struct {
	connection
	List        regListCmd        `cmd:"" help:"List registrations."`
	Show        regShowCmd        `cmd:"" help:"Show one."`
	Reprovision regReprovisionCmd `cmd:"" help:"Tell a device, or many, to register again."`
	Pending     regPendingCmd     `cmd:"" help:"Show the certificates that wait for devices, made from their requests on record; or write them into files."`
	Resign      regResignCmd      `cmd:"" help:"Sign a device's request on record again, due or not."`
	Hold        regHoldCmd        `cmd:"" help:"Refuse one device everywhere, and have its hub disable it, until it is released."`
	Release     regReleaseCmd     `cmd:"" help:"End a hold."`
	Delete      regDeleteCmd      `cmd:"" help:"Delete one's record, or many by a plan. A hub that lives elsewhere is told to remove the device; on the built-in one it stays, unless --from-hub."`
}

var registrationTable = table{
	{"ID", "registrationId", false}, {"STATUS", "status", false}, {"HUB", "assignedHub", false}, {"DEVICE", "deviceId", false}, {"OWNER", "owner.id", false},
	{"CERTIFICATE", "certificate.serial", false}, {"UPDATED", "lastUpdatedDateTimeUtc", false},
	{"SUBSTATUS", "substatus", true}, {"BY", "mechanism", true}, {"ATTESTED BY", "attestedBy", true}, {"ERROR", "errorMessage", true}, {"ETAG", "etag", true},
	{"RENEWS FROM", "renewal.from", true}, {"RENEWS BY", "renewal.by", true},
	{"HELD", "heldAt", true}, {"QUARANTINED", "quarantinedAt", true}, {"DUE", "dueAt", true}, {"TOLD", "roll.toldAt", true}, {"STUCK", "roll.stuck", true},
}

type regListCmd struct {
	listing
	Q        string `help:"Ids that begin like this."`
	Status   string `enum:",unassigned,assigning,assigned,failed" default:"" help:"unassigned, assigning, assigned or failed."`
	Hub      string `help:"On this hub."`
	Group    string `help:"Admitted by this group."`
	Orphaned bool   `help:"Without an owner: the entry that admitted the device was deleted."`
	Held     bool   `help:"Refused everywhere until they are released."`
}

// Run lists registrations.
func (c *regListCmd) Run(ctx context.Context, s streams, api *client) error {
	return c.print(ctx, api, s, registrationTable, "registrations", filters("q", c.Q, "status", c.Status, "hub", c.Hub, "group", c.Group, "orphaned", flagged(c.Orphaned), "held", flagged(c.Held)))
}

func getRegistration(ctx context.Context, api *client, id string) (answer, error) {
	return api.do(ctx, call{method: http.MethodGet, at: []string{"registrations", id}, next: "muster explain " + id})
}

type regShowCmd struct {
	output
	ID string `arg:"" help:"Registration id."`
}

// Run shows a registration.
func (c *regShowCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := getRegistration(ctx, api, c.ID)
	if err != nil {
		return err
	}
	return showRegistration(s, c.output, got)
}

func showRegistration(s streams, o output, got answer) error {
	if err := o.one(s.Out, registrationTable, got.body); err != nil || o.Output != "table" && o.Output != "wide" {
		return err
	}
	return printSlots(s.Out, got.body)
}

type regDeleteCmd struct {
	output
	harm
	expecting
	devices
	FromHub  bool   `help:"Remove the device from the built-in hub, too."`
	Plan     bool   `help:"Of several: show the plan, and stop."`
	Campaign string `placeholder:"NAME" help:"What the campaign of several records is called (a name with the time unless given)."`
	Watch    bool   `help:"Follow the campaign until it is done."`
}

// Run deletes one record at once, or several by a plan.
func (c *regDeleteCmd) Run(ctx context.Context, s streams, api *client) error {
	selection, alone, err := c.read()
	if err != nil {
		return err
	}
	if alone != "" {
		return c.one(ctx, s, api, alone)
	}
	p := planning{output: c.output, harm: c.harm, expecting: c.expecting, plan: c.Plan, watch: c.Watch}
	return p.run(ctx, s, api, map[string]any{"name": campaignName("delete", c.Campaign), "act": "delete", "fromHub": c.FromHub, "select": selection})
}

func (c *regDeleteCmd) one(ctx context.Context, s streams, api *client, id string) error {
	got, err := getRegistration(ctx, api, id)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("the record of registration %s will be deleted; %s, and while an entry admits it, it can register anew: muster retire ends that, too", id, c.becomes())
	if err := c.confirmed(s, id, what); err != nil {
		return err
	}
	if _, err := api.do(ctx, call{method: http.MethodDelete, at: []string{"registrations", id}, query: filters("fromHub", flagged(c.FromHub)), match: got.etag}); err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "registration %s deleted; %s\n", id, c.becomes())
	return nil
}

// becomes says what becomes of the device at its hub.
func (c *regDeleteCmd) becomes() string {
	if c.FromHub {
		return "its hub removes the device"
	}
	return "a hub that lives elsewhere is told to remove the device, the built-in one keeps it"
}

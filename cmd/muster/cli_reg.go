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
	Delete      regDeleteCmd      `cmd:"" help:"Delete one's record; its device stays on the hub until it is deleted through the hub's registry API."`
}

var registrationTable = table{
	{"ID", "registrationId", false}, {"STATUS", "status", false}, {"HUB", "assignedHub", false}, {"DEVICE", "deviceId", false}, {"OWNER", "owner.id", false},
	{"CERTIFICATE", "certificate.serial", false}, {"UPDATED", "lastUpdatedDateTimeUtc", false},
	{"SUBSTATUS", "substatus", true}, {"BY", "mechanism", true}, {"ATTESTED BY", "attestedBy", true}, {"ERROR", "errorMessage", true}, {"ETAG", "etag", true},
	{"RENEWS FROM", "renewal.from", true}, {"RENEWS BY", "renewal.by", true},
	{"HELD", "heldAt", true}, {"DUE", "dueAt", true}, {"TOLD", "roll.toldAt", true}, {"STUCK", "roll.stuck", true},
}

type regListCmd struct {
	listing
	Q      string `help:"Ids that begin like this."`
	Status string `enum:",unassigned,assigning,assigned,failed" default:"" help:"unassigned, assigning, assigned or failed."`
	Hub    string `help:"On this hub."`
	Group  string `help:"Admitted by this group."`
}

// Run lists registrations.
func (c *regListCmd) Run(ctx context.Context, s streams, api *client) error {
	return c.print(ctx, api, s, registrationTable, "registrations", filters("q", c.Q, "status", c.Status, "hub", c.Hub, "group", c.Group))
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
	harm
	ID string `arg:"" help:"Registration id."`
}

// Run deletes a registration.
func (c *regDeleteCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := getRegistration(ctx, api, c.ID)
	if err != nil {
		return err
	}
	if err := c.confirmed(s, c.ID, fmt.Sprintf("the record of registration %s will be deleted; the hub keeps its device until that is deleted through the hub's registry API, and while an entry admits it, it can register anew", c.ID)); err != nil {
		return err
	}
	if _, err := api.do(ctx, call{method: http.MethodDelete, at: []string{"registrations", c.ID}, match: got.etag}); err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "registration %s deleted\n", c.ID)
	return nil
}

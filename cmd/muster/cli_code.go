package main

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

var codeTable = table{
	{"NAME", "name", false}, {"DEVICE", "registrationId", false}, {"STATUS", "status", false}, {"ENTRY", "owner.kind", false}, {"OF", "owner.id", false},
	{"EXPIRES", "expires", false}, {"MADE BY", "createdBy", true}, {"MADE", "createdDateTimeUtc", true}, {"USED", "usedAt", true},
}

type enrollCodeCmd struct {
	output
	ID      string `arg:"" help:"Registration id of the one device it is for."`
	Group   string `placeholder:"ID" help:"Make the device a member of this group (default: it has an enrollment of its own)."`
	Expires *span  `placeholder:"24h" help:"How long it is good for, 1 minute to 90 days; default 24h."`
}

// Run makes a one-time code. It alone goes to the output, so that it can be piped to the
// device; the rest is talk.
func (c *enrollCodeCmd) Run(ctx context.Context, s streams, api *client) error {
	body := map[string]any{"registrationId": c.ID}
	if c.Group != "" {
		body["group"] = c.Group
	}
	if c.Expires != nil {
		body["lifetime"] = fmt.Sprintf("PT%dS", time.Duration(*c.Expires)/time.Second)
	}
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"codes"}, body: body, next: "muster enroll create " + shellWord(c.ID)})
	if err != nil {
		return err
	}
	if c.Output != "table" {
		return c.one(s.Out, codeTable, got.body)
	}
	r, err := decode(got.body)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "shown this once; it enrolls %s over EST once, until %s; user name %s, the code is the password\n", value(r, "registrationId"), value(r, "expires"), value(r, "registrationId"))
	_, err = fmt.Fprintln(s.Out, value(r, "code"))
	return err
}

type enrollCodesCmd struct {
	listing
	Device string `placeholder:"ID" help:"Of this registration id."`
}

// Run lists one-time codes.
func (c *enrollCodesCmd) Run(ctx context.Context, s streams, api *client) error {
	return c.print(ctx, api, s, codeTable, "codes", filters("registrationId", c.Device))
}

type enrollRevokeCodeCmd struct {
	harm
	Name string `arg:"" help:"Its name, as muster enroll codes has it."`
}

// Run revokes a code that was not used.
func (c *enrollRevokeCodeCmd) Run(ctx context.Context, s streams, api *client) error {
	if err := c.confirmed(s, c.Name, fmt.Sprintf("one-time code %s will be good for nothing", printable(c.Name))); err != nil {
		return err
	}
	if _, err := api.do(ctx, call{method: http.MethodDelete, at: []string{"codes", c.Name}, next: "muster enroll codes"}); err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "one-time code %s revoked\n", printable(c.Name))
	return nil
}

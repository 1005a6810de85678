package main

import (
	"context"
	"fmt"
	"net/http"
)

type regHoldCmd struct {
	output
	ID string `arg:"" help:"Registration id."`
}

// Run holds a registration.
func (c *regHoldCmd) Run(ctx context.Context, s streams, api *client) error {
	if err := setHeld(ctx, s, api, c.output, c.ID, "hold"); err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "%s is refused everywhere until: muster reg release %s\n", c.ID, c.ID)
	return nil
}

type regReleaseCmd struct {
	output
	ID string `arg:"" help:"Registration id."`
}

// Run releases a registration.
func (c *regReleaseCmd) Run(ctx context.Context, s streams, api *client) error {
	return setHeld(ctx, s, api, c.output, c.ID, "release")
}

func setHeld(ctx context.Context, s streams, api *client, o output, id, act string) error {
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"registrations", id, act}, next: "muster reg list"})
	if err != nil {
		return err
	}
	return showRegistration(s, o, got)
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// keySlotTable is where the symmetric keys of an entry stand.
var keySlotTable = table{
	{"SLOT", "slot", false}, {"STATE", "state", false}, {"SINCE", "since", false}, {"SEEN", "seenAt", false}, {"RETIRE", "retireAt", false},
	{"DEVICES", "devices", false}, {"UNKNOWN", "unknown", false},
}

type entryKeysCmd struct {
	output
	ID string `arg:"" help:"Its id."`
}

// Run lists both keys, without the keys themselves.
func (c *entryKeysCmd) Run(ctx context.Context, s streams, api *client, k entryKind) error {
	got, err := api.do(ctx, call{method: http.MethodGet, at: []string{k.resource, c.ID, "keys"}, next: k.command + " list"})
	if err != nil {
		return err
	}
	var list struct{ Items []json.RawMessage }
	if err := json.Unmarshal(got.body, &list); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	return c.many(s.Out, keySlotTable, list.Items, "")
}

// keySlotFlag names a slot.
type keySlotFlag struct {
	Slot string `required:"" enum:"primary,secondary" help:"primary or secondary."`
}

type entryRegenerateCmd struct {
	output
	harm
	keySlotFlag
	ID    string `arg:"" help:"Its id."`
	Force bool   `help:"Even while devices came last with the former key."`
}

// Run makes a key anew.
func (c *entryRegenerateCmd) Run(ctx context.Context, s streams, api *client, k entryKind) error {
	got, err := k.get(ctx, api, c.ID)
	if err != nil {
		return err
	}
	if err := c.confirmed(s, c.ID, fmt.Sprintf("the %s key of %s %s will be refused, and another takes its place", c.Slot, k.noun, c.ID)); err != nil {
		return err
	}
	got, err = api.do(ctx, call{method: http.MethodPost, at: []string{k.resource, c.ID, "keys", c.Slot, "regenerate"}, match: got.etag, body: map[string]any{"force": c.Force}})
	if err != nil {
		return err
	}
	return k.tell(s, c.output, got)
}

type entrySwitchCmd struct {
	output
	keySlotFlag
	ID string `arg:"" help:"Its id."`
}

// Run takes the staged key for the one in use.
func (c *entrySwitchCmd) Run(ctx context.Context, s streams, api *client, k entryKind) error {
	got, err := k.get(ctx, api, c.ID)
	if err != nil {
		return err
	}
	got, err = api.do(ctx, call{method: http.MethodPost, at: []string{k.resource, c.ID, "keys", c.Slot, "switch"}, match: got.etag})
	if err != nil {
		return err
	}
	return k.tell(s, c.output, got)
}

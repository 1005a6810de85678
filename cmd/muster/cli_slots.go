package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/passmuster/muster/internal/fault"
)

// slotCmds are the commands about the two slots of an entry, and what rolls in them.
type slotCmds struct {
	Slots   entrySlotsCmd   `cmd:"" help:"Show where its credentials stand in their roll, and how many devices hang on each."`
	Stage   entryStageCmd   `cmd:"" help:"Put the next credential into the empty slot, beside the one in use."`
	Promote entryPromoteCmd `cmd:"" help:"Make what is staged the active one, although no device was seen using it."`
	Retire  entryRetireCmd  `cmd:"" help:"Take a credential out of its slot early."`
}

var slotTable = table{
	{"SLOT", "slot", false}, {"STATE", "state", false}, {"SUBJECT", "subjectName", false}, {"CA", "caReference", false}, {"EXPIRES", "notAfterUtc", false},
	{"SEEN", "seenAt", false}, {"RETIRES", "retireAt", false}, {"DEVICES", "devices", false}, {"LOCKED OUT", "lockedOut", false}, {"PROBLEM", "problem", false},
	{"SINCE", "since", true}, {"THUMBPRINT", "sha256Thumbprint", true},
}

// slotShown is a slot as the commands ask about it.
type slotShown struct {
	Slot, State        string
	Devices, LockedOut int64
}

// slots reads the slots of an entry.
func (k entryKind) slots(ctx context.Context, api *client, id string) (items []json.RawMessage, shown []slotShown, err error) {
	got, err := api.do(ctx, call{method: http.MethodGet, at: []string{k.resource, id, "slots"}, next: k.command + " list"})
	if err != nil {
		return nil, nil, err
	}
	var list struct{ Items []json.RawMessage }
	if err := json.Unmarshal(got.body, &list); err != nil {
		return nil, nil, fmt.Errorf("reading the answer: %w", err)
	}
	shown = make([]slotShown, len(list.Items))
	for i, item := range list.Items {
		if err := json.Unmarshal(item, &shown[i]); err != nil {
			return nil, nil, fmt.Errorf("reading the answer: %w", err)
		}
	}
	return list.Items, shown, nil
}

type entrySlotsCmd struct {
	output
	ID string `arg:"" help:"Its id."`
}

// Run shows the slots.
func (c *entrySlotsCmd) Run(ctx context.Context, s streams, api *client, k entryKind) error {
	items, _, err := k.slots(ctx, api, c.ID)
	if err != nil {
		return err
	}
	return c.many(s.Out, slotTable, items, "")
}

type entryStageCmd struct {
	output
	ID          string `arg:"" help:"Its id."`
	Certificate string `type:"existingfile" placeholder:"FILE" xor:"next" required:"" help:"The next certificate: of the device, or of a group the CA's."`
	Anchor      string `placeholder:"NAME" xor:"next" required:"" help:"Of a group: the next trust anchor, which has proved possession."`
	SameKey     bool   `help:"It may have the key of the certificate that it follows."`
}

// Run stages a credential.
func (c *entryStageCmd) Run(ctx context.Context, s streams, api *client, k entryKind) error {
	body := map[string]any{"sameKey": c.SameKey}
	if c.Anchor != "" {
		body["caReference"] = c.Anchor
	} else {
		text, err := certificateText(c.Certificate)
		if err != nil {
			return err
		}
		body["certificate"] = text
	}
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{k.resource, c.ID, "stage"}, body: body, next: k.command + " list"})
	if err != nil {
		return err
	}
	return k.tell(s, c.output, got)
}

type entryPromoteCmd struct {
	output
	ID string `arg:"" help:"Its id."`
}

// Run promotes what is staged.
func (c *entryPromoteCmd) Run(ctx context.Context, s streams, api *client, k entryKind) error {
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{k.resource, c.ID, "promote"}, next: k.command + " list"})
	if err != nil {
		return err
	}
	return k.tell(s, c.output, got)
}

type entryRetireCmd struct {
	output
	harm
	ID    string `arg:"" help:"Its id."`
	Slot  string `enum:",primary,secondary" default:"" help:"primary or secondary (default: the one that is retiring)."`
	Force bool   `help:"Even when the other one was not seen in use, or devices are locked out."`
}

// Run says who hangs on the slot, and empties it.
func (c *entryRetireCmd) Run(ctx context.Context, s streams, api *client, k entryKind) error {
	was, err := k.get(ctx, api, c.ID)
	if err != nil {
		return err
	}
	_, shown, err := k.slots(ctx, api, c.ID)
	if err != nil {
		return err
	}
	for _, slot := range shown {
		if c.Slot == slot.Slot || c.Slot == "" && slot.State == "retiring" {
			c.Slot = slot.Slot
			what := fmt.Sprintf("the %s slot of %s will admit nobody any more; %d devices hang on it, and %d of them will be refused", slot.Slot, c.ID, slot.Devices, slot.LockedOut)
			if err := c.confirmed(s, c.ID, what); err != nil {
				return err
			}
			break
		}
	}
	body := map[string]any{"force": c.Force}
	if c.Slot != "" {
		body["slot"] = c.Slot
	}
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{k.resource, c.ID, "retire"}, match: was.etag, body: body})
	if refused := new(apiError); errors.As(err, &refused) && refused.fault.Kind == fault.Conflict {
		refused.next = k.command + " slots " + c.ID
		if k.resource == "groups" && refused.fault.Rule == "devices-locked-out" {
			refused.next = k.command + " stragglers " + c.ID + " --slot " + c.Slot
		}
	}
	if err != nil {
		return err
	}
	return k.tell(s, c.output, got)
}

type groupStragglersCmd struct {
	listing
	ID   string `arg:"" help:"Group id."`
	Slot string `enum:",primary,secondary" default:"" help:"primary or secondary (default: the one that is retiring)."`
}

var stragglerTable = table{{"DEVICE", "registrationId", false}, {"STATUS", "status", false}, {"HUB", "assignedHub", false}, {"LAST SEEN", "lastSeen", false}, {"LOCKED OUT", "lockedOut", false}}

// Run lists the devices that hang on a slot.
func (c *groupStragglersCmd) Run(ctx context.Context, s streams, api *client, k entryKind) error {
	return c.print(ctx, api, s, stragglerTable, k.resource+"/"+c.ID+"/stragglers", filters("slot", c.Slot))
}

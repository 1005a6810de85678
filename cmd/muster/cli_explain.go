package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// explainCmd asks the code that decides what it would decide now (scenario E6): exit 0
// admitted, 6 refused, 3 when nothing is known to decide by.
type explainCmd struct {
	connection
	output
	ID          string `arg:"" help:"Registration id."`
	Certificate string `type:"existingfile" placeholder:"FILE" help:"The chain the device would show, leaf first (default: what is on record)."`
}

// explanation is what is read of the API's answer.
type explanation struct {
	RegistrationID string
	Basis          string
	Admitted       bool
	RefusedBy      *struct{ Rule, Object string }
	Detail         string
	AssignedHub    string
	Steps          []struct{ Rule, Object, Verdict, Detail string }
	LastRefusal    *struct {
		Rule, Door, Address, Last string
		Count                     int64
	}
}

// Run prints the decision step by step.
func (c *explainCmd) Run(ctx context.Context, s streams, api *client) error {
	a := call{method: http.MethodGet, at: []string{"explain", c.ID}}
	if c.Certificate != "" {
		text, err := certificateText(c.Certificate)
		if err != nil {
			return err
		}
		a.method, a.body = http.MethodPost, map[string]any{"certificates": text}
	}
	got, err := api.do(ctx, a)
	if err != nil {
		return err
	}
	var x explanation
	if err := json.Unmarshal(got.body, &x); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if c.Output == "table" || c.Output == "wide" {
		x.print(s.Out)
	} else if err := c.one(s.Out, table{{"ID", "registrationId", false}}, got.body); err != nil {
		return err
	}
	switch {
	case x.RefusedBy != nil:
		return quietExit{exitRefused}
	case !x.Admitted:
		return quietExit{exitNotFound}
	}
	return nil
}

var marks = map[string]string{"pass": "✓", "refuse": "✗", "note": "·"}

func (x explanation) print(w io.Writer) {
	fmt.Fprintf(w, "if %s registered now, showing %s:\n", x.RegistrationID, printable(x.Basis))
	for _, step := range x.Steps {
		fmt.Fprintf(w, "  %s %s", marks[step.Verdict], step.Rule)
		if step.Object != "" {
			fmt.Fprintf(w, " (%s)", printable(step.Object))
		}
		fmt.Fprintf(w, ": %s\n", printable(step.Detail))
	}
	switch {
	case x.RefusedBy != nil:
		fmt.Fprintf(w, "✗ refused by %s", x.RefusedBy.Rule)
		if x.RefusedBy.Object != "" {
			fmt.Fprintf(w, " (%s)", printable(x.RefusedBy.Object))
		}
		fmt.Fprintf(w, ": %s\n", printable(x.Detail))
	case x.Admitted && x.AssignedHub != "":
		fmt.Fprintf(w, "✓ admitted, assigned to %s\n", printable(x.AssignedHub))
	case x.Admitted:
		fmt.Fprintln(w, "✓ admitted, but no hub takes it")
	default:
		fmt.Fprintln(w, "· nothing is known of this device: --certificate FILE says what it would show")
	}
	if r := x.LastRefusal; r != nil {
		fmt.Fprintf(w, "refused so far: %d, last %s at %s from %s by %s\n", r.Count, r.Last, printable(r.Door), printable(r.Address), r.Rule)
	}
}

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/passmuster/muster/verify"
)

// explainCmd asks the code that decides what it would decide now (scenario E6): exit 0
// admitted, 6 refused, 3 when nothing is known to decide by.
type explainCmd struct {
	connection
	output
	ID          string `arg:"" optional:"" help:"Registration id (default: whose certificate it is)."`
	Certificate string `type:"existingfile" placeholder:"FILE" help:"The chain the device would show, leaf first (default: what is on record)."`
	Serial      string `placeholder:"HEX" help:"Or the serial of a certificate that was issued here."`
}

// explanation is what is read of the API's answer.
type explanation struct {
	RegistrationID string
	Basis          string
	Admitted       bool
	RefusedBy      *struct{ Rule, Object string }
	Detail         string
	AssignedHub    string
	Steps          []explainedStep
	LastRefusal    *struct {
		Rule, Door, Address, Last string
		Count                     int64
		Steps                     []explainedStep
	}
	Tripwires []struct {
		Kind, Object, LastDateTimeUtc string
		Count                         int64
	}
}

type explainedStep struct{ Rule, Object, Verdict, Detail string }

// shown is what the device is said to show, and whose it is; text "": what is on record.
func (c *explainCmd) shown(ctx context.Context, api *client) (id, text string, err error) {
	switch {
	case c.Certificate != "" && c.Serial != "" || c.ID == "" && c.Certificate == "" && c.Serial == "":
		return "", "", usage(fmt.Errorf("give a registration id, --certificate FILE or --serial HEX"))
	case c.Serial != "":
		got, err := api.do(ctx, call{method: http.MethodGet, at: []string{"certificates", c.Serial}, next: "muster find " + c.Serial})
		if err != nil {
			return "", "", err
		}
		var x struct{ RegistrationID, Pem string }
		if err := json.Unmarshal(got.body, &x); err != nil {
			return "", "", fmt.Errorf("reading the answer: %w", err)
		}
		return cmp.Or(c.ID, x.RegistrationID), x.Pem, nil
	case c.Certificate != "":
		if text, err = certificateText(c.Certificate); err != nil || c.ID != "" {
			return c.ID, text, err
		}
		certs, err := verify.ParseCertificates([]byte(text))
		if err != nil {
			return "", "", err
		}
		return certs[0].Subject.CommonName, text, nil
	}
	return c.ID, "", nil
}

// Run prints the decision step by step.
func (c *explainCmd) Run(ctx context.Context, s streams, api *client) error {
	id, text, err := c.shown(ctx, api)
	if err != nil {
		return err
	}
	a := call{method: http.MethodGet, at: []string{"explain", id}}
	if text != "" {
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
		x.print(s.Out, c.Output == "wide")
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

// print is the decision; wide adds that of the last real refusal.
func (x explanation) print(w io.Writer, wide bool) {
	fmt.Fprintf(w, "if %s registered now, showing %s:\n", x.RegistrationID, printable(x.Basis))
	printSteps(w, x.Steps)
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
		if wide {
			printSteps(w, r.Steps)
		}
	}
	for _, t := range x.Tripwires {
		fmt.Fprintf(w, "! looks like two: %s (%s), seen so far: %d, last %s\n", t.Kind, printable(t.Object), t.Count, t.LastDateTimeUtc)
	}
}

func printSteps(w io.Writer, steps []explainedStep) {
	for _, step := range steps {
		fmt.Fprintf(w, "  %s %s", marks[step.Verdict], step.Rule)
		if step.Object != "" {
			fmt.Fprintf(w, " (%s)", printable(step.Object))
		}
		fmt.Fprintf(w, ": %s\n", printable(step.Detail))
	}
}

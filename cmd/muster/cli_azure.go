package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/passmuster/muster/internal/fault"
)

// bringCmd is `muster import`: what another service holds, brought over.
type bringCmd struct {
	connection
	Azure azureCmd `cmd:"" help:"Bring over what the Azure CLI prints of a provisioning service."`
}

// azureCmd makes hubs, trust anchors, groups and enrollments from what `az iot dps` prints
// of them. Each stands for itself; running it again makes no doubles.
type azureCmd struct {
	Files        []string `arg:"" name:"file" type:"existingfile" help:"What az iot dps enrollment list, enrollment-group list, certificate list, linked-hub list, or a show of one, printed (JSON); with --show-keys, symmetric keys are in it."`
	Certificates string   `type:"existingdir" placeholder:"DIR" help:"Folder with certificates that Azure shows only the thumbprint of, PEM or DER."`
	Profile      string   `placeholder:"NAME" help:"Profile by which certificates are issued (default: none are, as in Azure)."`
	DryRun       bool     `help:"Say what would be done, and do nothing."`
	Output       string   `short:"o" enum:"table,ndjson" default:"table" help:"table or ndjson."`
}

// brought is what came of one object.
type brought struct {
	Kind   string `json:"kind"` // hub, anchor, group, enrollment
	Name   string `json:"name"`
	Result string `json:"result"` // created, would-create, exists, left
	Rule   string `json:"rule,omitempty"`
	Detail string `json:"detail,omitempty"`
}

const (
	resultWould = "would-create"
	resultLeft  = "left"
)

// Run brings everything over, hubs and anchors first: others name them.
func (c *azureCmd) Run(ctx context.Context, s streams, api *client) error {
	shelf, err := readShelf(c.Certificates)
	if err != nil {
		return err
	}
	var all []azureObject
	for _, file := range c.Files {
		found, err := readAzure(file)
		if err != nil {
			return err
		}
		all = append(all, found...)
	}
	slices.SortStableFunc(all, func(a, b azureObject) int { return a.order() - b.order() })
	counts := map[string]int{}
	for _, object := range all {
		b, err := c.bring(ctx, api, object, shelf)
		if err != nil {
			return err
		}
		counts[b.Result]++
		if err := c.print(s.Out, b); err != nil {
			return err
		}
	}
	fmt.Fprintf(s.Err, "%d created, %d would be, %d exist, %d left\n", counts[resultCreated], counts[resultWould], counts[resultExists], counts[resultLeft])
	switch {
	case counts[resultLeft] == 0:
		return nil
	case counts[resultLeft] == len(all):
		return quietExit{exitFailed}
	}
	return quietExit{exitPartly}
}

// bring makes one object. Its errors are those after which no other could do better.
func (c *azureCmd) bring(ctx context.Context, api *client, object azureObject, shelf shelf) (brought, error) {
	out := brought{Kind: object.kind, Name: object.name, Result: resultCreated}
	made, err := object.translate(shelf, c.Profile)
	if err != nil {
		out.Result, out.Detail = resultLeft, detailOf(err)
		return out, nil
	}
	out.Detail = made.note
	// Whether it exists is asked in a dry run, and of anchors, whose POST would say so of
	// the same bytes alone.
	if c.DryRun || object.kind == kindAnchor {
		_, err := api.do(ctx, call{method: http.MethodGet, at: made.at})
		switch {
		case err == nil:
			out.Result, out.Detail = resultExists, ""
			return out, nil
		case !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Malformed):
			return out, err
		case c.DryRun:
			out.Result = resultWould
			return out, nil
		}
	}
	a := call{method: http.MethodPut, at: made.at, match: mustBeNew, body: made.body}
	if object.kind == kindAnchor {
		a = call{method: http.MethodPost, at: made.at[:1], body: made.body}
	}
	_, err = api.do(ctx, a)
	switch kind := fault.KindOf(err); {
	case err == nil:
	case alreadyThere(err):
		out.Result, out.Detail = resultExists, ""
	case kind == fault.Malformed || kind == fault.Disallowed || kind == fault.NotFound || kind == fault.TooLarge:
		out.Result, out.Rule, out.Detail = resultLeft, fault.RuleOf(err), detailOf(err)
		if out.Rule == "anchor-not-verified" || out.Rule == "anchor-unknown" {
			out.Detail += "; prove the anchor it refers to, then run this again"
		}
	default:
		return out, err
	}
	return out, nil
}

func (c *azureCmd) print(w io.Writer, b brought) error {
	if c.Output == "ndjson" {
		return json.NewEncoder(w).Encode(b)
	}
	why := b.Detail
	if b.Rule != "" {
		why += " (rule " + b.Rule + ")"
	}
	_, err := fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", b.Kind, printable(b.Name), b.Result, printable(why))
	return err
}

package main

import (
	"context"
	"net/http"

	"github.com/passmuster/muster/internal/fault"
)

// caUpstreamCmd is `muster ca upstream`: CAs elsewhere that sign for issuers of ours.
type caUpstreamCmd struct {
	List caUpstreamListCmd `cmd:"" help:"List the CAs elsewhere that muster.yaml names."`
	Add  caUpstreamAddCmd  `cmd:"" help:"Make an issuer that one signs for."`
}

// caIntentCmd is `muster ca intent`: requests to those CAs.
type caIntentCmd struct {
	List    caIntentListCmd    `cmd:"" help:"List requests that are open or orphaned, oldest first."`
	Resolve caIntentResolveCmd `cmd:"" help:"Say what became of an orphaned one."`
}

var (
	upstreamTable = table{{"NAME", "name", false}, {"ISSUERS", "issuers", false}}
	intentTable   = table{
		{"ID", "id", false}, {"STATE", "state", false}, {"DEVICE", "registrationId", false}, {"CREATED", "createdDateTimeUtc", false}, {"SERIAL", "serial", false}, {"DETAIL", "detail", false},
		{"ISSUER", "issuer", true}, {"SETTLED", "settledDateTimeUtc", true},
	}
)

type caUpstreamListCmd struct{ listing }

// Run lists upstreams.
func (c *caUpstreamListCmd) Run(ctx context.Context, s streams, api *client) error {
	return c.print(ctx, api, s, upstreamTable, "upstreams", nil)
}

type caUpstreamAddCmd struct {
	output
	Upstream string `arg:"" help:"Its name in muster.yaml."`
	Profile  string `placeholder:"NAME" help:"The profile it signs for; all that have no issuer of their own unless given."`
	Name     string `placeholder:"TEXT" help:"Name of the issuer; the common name of its certificate unless given."`
}

// Run makes an issuer.
func (c *caUpstreamAddCmd) Run(ctx context.Context, s streams, api *client) error {
	body := map[string]any{}
	if c.Profile != "" {
		body["profile"] = c.Profile
	}
	if c.Name != "" {
		body["name"] = c.Name
	}
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"upstreams", c.Upstream, "adopt"}, body: body, next: "muster ca upstream list"})
	if err != nil {
		return err
	}
	return c.one(s.Out, issuerTable, got.body)
}

type caIntentListCmd struct {
	listing
	Issuer string `placeholder:"ID" help:"Of this issuer."`
	State  string `enum:",open,issued,refused,orphaned,revoked" default:"" help:"open, issued, refused, orphaned or revoked."`
}

// Run lists intents.
func (c *caIntentListCmd) Run(ctx context.Context, s streams, api *client) error {
	return c.print(ctx, api, s, intentTable, "intents", filters("issuer", c.Issuer, "state", c.State))
}

type caIntentResolveCmd struct {
	output
	ID        string `arg:"" help:"The intent's id."`
	Serial    string `placeholder:"HEX" help:"Its certificate was found there: revoke it."`
	NotSigned bool   `help:"It was found out that there is no certificate."`
	Note      string `required:"" placeholder:"TEXT" help:"How that was found out; it goes on record."`
}

// Validate wants one of the two outcomes.
func (c *caIntentResolveCmd) Validate() error {
	if (c.Serial == "") != c.NotSigned {
		return fault.New(fault.Malformed, "intent-outcome", "say what was found: --serial HEX or --not-signed")
	}
	return nil
}

// Run settles an orphan.
func (c *caIntentResolveCmd) Run(ctx context.Context, s streams, api *client) error {
	body := map[string]any{"note": c.Note}
	if c.Serial != "" {
		body["serial"] = c.Serial
	}
	got, err := api.do(ctx, call{method: http.MethodPost, at: []string{"intents", c.ID, "resolve"}, body: body, next: "muster ca intent list"})
	if err != nil {
		return err
	}
	return c.one(s.Out, intentTable, got.body)
}

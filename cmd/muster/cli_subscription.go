package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/passmuster/muster/internal/fault"
)

// subscriptionCmd is `muster subscription`: who is told of what is written into the ledger.
type subscriptionCmd struct {
	connection
	List   subscriptionListCmd   `cmd:"" help:"List subscriptions."`
	Show   subscriptionShowCmd   `cmd:"" help:"Show one, and how far behind it is."`
	Create subscriptionCreateCmd `cmd:"" help:"Post what is written into the ledger from now on to an address; prints the key that signs it."`
	Update subscriptionUpdateCmd `cmd:"" help:"Change one's address or actions, stop it or let it go on."`
	Key    subscriptionKeyCmd    `cmd:"" help:"Give one a new key, and print it."`
	Test   subscriptionTestCmd   `cmd:"" help:"Send one a test and say whether it was taken."`
	Delete subscriptionDeleteCmd `cmd:"" help:"End one."`
}

var subscriptionTable = table{
	{"NAME", "name", false}, {"ENDPOINT", "endpoint", false}, {"ACTIONS", "actions", false}, {"ENABLED", "enabled", false}, {"BEHIND", "behind", false},
	{"DELIVERED", "deliveredDateTimeUtc", false}, {"PROBLEM", "problem", false}, {"NEXT TRY", "nextTryDateTimeUtc", true}, {"UPDATED", "lastUpdatedDateTimeUtc", true}, {"ETAG", "etag", true},
}

// subscriptionMade shows a key that nobody will be shown again.
var subscriptionMade = table{{"NAME", "name", false}, {"ENDPOINT", "endpoint", false}, {"KEY", "key", false}}

type subscriptionListCmd struct{ listing }

// Run lists subscriptions.
func (c *subscriptionListCmd) Run(ctx context.Context, s streams, api *client) error {
	return c.print(ctx, api, s, subscriptionTable, "subscriptions", nil)
}

func getSubscription(ctx context.Context, api *client, name string) (answer, error) {
	return api.do(ctx, call{method: http.MethodGet, at: []string{"subscriptions", name}, next: "muster subscription list"})
}

type subscriptionShowCmd struct {
	output
	Name string `arg:"" help:"Its name."`
}

// Run shows a subscription.
func (c *subscriptionShowCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := getSubscription(ctx, api, c.Name)
	if err != nil {
		return err
	}
	return c.one(s.Out, subscriptionTable, got.body)
}

// subscriberAddress is where to, as a flag or in a file: it may be a secret.
type subscriberAddress struct {
	URL     string `name:"to" placeholder:"URL" help:"Where events are posted to, https."`
	URLFile string `name:"to-file" type:"existingfile" placeholder:"FILE" help:"A file with the address, where it is a secret."`
}

func (a subscriberAddress) text() (string, error) {
	if a.URLFile == "" {
		return a.URL, nil
	}
	text, err := os.ReadFile(a.URLFile)
	return strings.TrimSpace(string(text)), err
}

type subscriptionCreateCmd struct {
	output
	subscriberAddress
	Name   string   `arg:"" help:"Its name."`
	Action []string `placeholder:"BEGINNING" help:"Only actions of the ledger that begin so, such as issuer. or roll.stuck. Repeatable."`
}

// Run subscribes somebody.
func (c *subscriptionCreateCmd) Run(ctx context.Context, s streams, api *client) error {
	address, err := c.text()
	if err != nil {
		return err
	}
	body := map[string]any{"url": address}
	if len(c.Action) > 0 {
		body["actions"] = c.Action
	}
	got, err := api.do(ctx, call{method: http.MethodPut, at: []string{"subscriptions", c.Name}, match: mustBeNew, body: body})
	if alreadyThere(err) {
		return &apiError{fault: fault.New(fault.Conflict, "exists", "subscription %s exists already", c.Name), next: "muster subscription update " + c.Name}
	}
	if err != nil {
		return err
	}
	return c.one(s.Out, subscriptionMade, got.body)
}

type subscriptionUpdateCmd struct {
	output
	subscriberAddress
	Name    string   `arg:"" help:"Its name."`
	Action  []string `placeholder:"BEGINNING" help:"Only actions that begin so; an empty one means all. Repeatable."`
	Disable bool     `xor:"enabled" help:"Stop it; nothing is lost, it goes on where it was."`
	Enable  bool     `xor:"enabled" help:"Let it go on."`
}

// Run changes a subscription.
func (c *subscriptionUpdateCmd) Run(ctx context.Context, s streams, api *client) error {
	patch := map[string]any{}
	address, err := c.text()
	if err != nil {
		return err
	}
	if address != "" {
		patch["url"] = address
	}
	if len(c.Action) == 1 && c.Action[0] == "" {
		patch["actions"] = nil
	} else if len(c.Action) > 0 {
		patch["actions"] = c.Action
	}
	if c.Disable || c.Enable {
		patch["enabled"] = c.Enable
	}
	if len(patch) == 0 {
		return fault.New(fault.Malformed, "nothing-to-change", "say what to change: --to URL, --action BEGINNING, --disable or --enable")
	}
	got, err := getSubscription(ctx, api, c.Name)
	if err != nil {
		return err
	}
	if got, err = api.do(ctx, call{method: http.MethodPatch, at: []string{"subscriptions", c.Name}, match: got.etag, body: patch}); err != nil {
		return err
	}
	return c.one(s.Out, subscriptionTable, got.body)
}

type subscriptionKeyCmd struct {
	output
	harm
	Name string `arg:"" help:"Its name."`
}

// Run rolls a subscription's key.
func (c *subscriptionKeyCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := getSubscription(ctx, api, c.Name)
	if err != nil {
		return err
	}
	if err := c.confirmed(s, c.Name, fmt.Sprintf("events to %s will be signed with another key", c.Name)); err != nil {
		return err
	}
	if got, err = api.do(ctx, call{method: http.MethodPost, at: []string{"subscriptions", c.Name, "key"}, match: got.etag}); err != nil {
		return err
	}
	return c.one(s.Out, subscriptionMade, got.body)
}

type subscriptionTestCmd struct {
	Name string `arg:"" help:"Its name."`
}

// Run tests a subscription.
func (c *subscriptionTestCmd) Run(ctx context.Context, s streams, api *client) error {
	if _, err := api.do(ctx, call{method: http.MethodPost, at: []string{"subscriptions", c.Name, "test"}, next: "muster subscription show " + c.Name}); err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "%s took a test\n", c.Name)
	return nil
}

type subscriptionDeleteCmd struct {
	harm
	Name string `arg:"" help:"Its name."`
}

// Run ends a subscription.
func (c *subscriptionDeleteCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := getSubscription(ctx, api, c.Name)
	if err != nil {
		return err
	}
	if err := c.confirmed(s, c.Name, fmt.Sprintf("%s will be told of nothing more", c.Name)); err != nil {
		return err
	}
	if _, err := api.do(ctx, call{method: http.MethodDelete, at: []string{"subscriptions", c.Name}, match: got.etag}); err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "subscription %s deleted\n", c.Name)
	return nil
}

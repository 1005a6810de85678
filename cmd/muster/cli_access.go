package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/passmuster/muster/internal/fault"
)

// accessCmd is `muster access`: the shared access policies that Azure's service and hub
// clients sign in with.
type accessCmd struct {
	connection
	List             accessListCmd       `cmd:"" help:"List shared access policies."`
	Create           accessCreateCmd     `cmd:"" help:"Make one, with two new keys."`
	Rotate           accessRotateCmd     `cmd:"" help:"Replace one of its keys; tokens signed with the old one are refused at once."`
	Delete           accessDeleteCmd     `cmd:"" help:"Delete one; its tokens are refused at once."`
	ConnectionString accessConnectionCmd `cmd:"" help:"Print the connection string for Azure's clients; that is put on record."`
}

var accessTable = table{
	{"NAME", "name", false}, {"PLANE", "plane", false}, {"RIGHTS", "rights", false}, {"UPDATED", "lastUpdatedDateTimeUtc", true}, {"ETAG", "etag", true},
	{"PRIMARY-SINCE", "primaryKeySince", true}, {"PRIMARY-USED", "primaryKeyUsedAt", true},
	{"SECONDARY-SINCE", "secondaryKeySince", true}, {"SECONDARY-USED", "secondaryKeyUsedAt", true},
}

type accessListCmd struct{ listing }

// Run lists policies.
func (c *accessListCmd) Run(ctx context.Context, s streams, api *client) error {
	return c.print(ctx, api, s, accessTable, "access", nil)
}

// policyName names a policy: names are of one plane.
type policyName struct {
	Name  string `arg:"" help:"Its name."`
	Plane string `enum:"service,hub" default:"service" help:"service (provisioning) or hub (device registry)."`
}

func (n policyName) at(more ...string) []string {
	return append([]string{"access", n.Plane, n.Name}, more...)
}

func (n policyName) get(ctx context.Context, api *client) (answer, error) {
	return api.do(ctx, call{method: http.MethodGet, at: n.at(), next: "muster access list"})
}

type accessCreateCmd struct {
	output
	policyName
	Right []string `required:"" placeholder:"RIGHT" help:"What it grants, by Azure's names, such as EnrollmentRead. Repeatable."`
}

// Run makes a policy.
func (c *accessCreateCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := api.do(ctx, call{method: http.MethodPut, at: c.at(), match: mustBeNew, body: map[string]any{"rights": c.Right}})
	if alreadyThere(err) {
		return &apiError{fault: fault.New(fault.Conflict, "exists", "access policy %s exists already", c.Name), next: "muster access list"}
	}
	if err != nil {
		return err
	}
	return c.one(s.Out, accessTable, got.body)
}

type accessRotateCmd struct {
	output
	harm
	policyName
	Key   string `required:"" enum:"primary,secondary" help:"primary or secondary: the key to be replaced."`
	Force bool   `help:"Even when the key was used within the last day."`
}

// Run replaces a key.
func (c *accessRotateCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := c.get(ctx, api)
	if err != nil {
		return err
	}
	if err := c.confirmed(s, c.Name, fmt.Sprintf("clients that use the %s key of %s will be refused", c.Key, c.Name)); err != nil {
		return err
	}
	if got, err = api.do(ctx, call{method: http.MethodPost, at: c.at("rotate"), match: got.etag, body: map[string]any{"slot": c.Key, "force": c.Force}}); err != nil {
		return err
	}
	return c.one(s.Out, accessTable, got.body)
}

type accessDeleteCmd struct {
	harm
	policyName
}

// Run deletes a policy.
func (c *accessDeleteCmd) Run(ctx context.Context, s streams, api *client) error {
	got, err := c.get(ctx, api)
	if err != nil {
		return err
	}
	if err := c.confirmed(s, c.Name, fmt.Sprintf("clients that use access policy %s will be refused", c.Name)); err != nil {
		return err
	}
	if _, err := api.do(ctx, call{method: http.MethodDelete, at: c.at(), match: got.etag}); err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "access policy %s deleted\n", c.Name)
	return nil
}

type accessConnectionCmd struct {
	policyName
	Key      string `enum:"primary,secondary" default:"primary" help:"primary or secondary."`
	HostName string `name:"host-name" placeholder:"NAME" help:"The device listener's host name, as in its TLS certificate (default: that of MUSTER_DEVICE_URL). A connection string has no port."`
}

// Run prints a connection string.
func (c *accessConnectionCmd) Run(ctx context.Context, s streams, api *client) error {
	host, err := c.host()
	if err != nil {
		return err
	}
	got, err := api.do(ctx, call{method: http.MethodPost, at: c.at("keys"), next: "muster access list"})
	if err != nil {
		return err
	}
	var keys struct{ Name, PrimaryKey, SecondaryKey string }
	if err := json.Unmarshal(got.body, &keys); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	key := keys.PrimaryKey
	if c.Key == "secondary" {
		key = keys.SecondaryKey
	}
	_, err = fmt.Fprintf(s.Out, "HostName=%s;SharedAccessKeyName=%s;SharedAccessKey=%s\n", host, keys.Name, key)
	return err
}

// host is the name that clients connect to.
func (c *accessConnectionCmd) host() (string, error) {
	if c.HostName != "" {
		if strings.ContainsAny(c.HostName, ":/; ") {
			return "", fault.New(fault.Malformed, "host-name", "%q is not a bare host name: a connection string has no port", c.HostName)
		}
		return c.HostName, nil
	}
	address := os.Getenv("MUSTER_DEVICE_URL")
	if address == "" {
		if raw, err := os.ReadFile(devEnvFile); err == nil {
			address = readEnvFile(raw)["MUSTER_DEVICE_URL"]
		}
	}
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return "", fault.New(fault.Malformed, "host-name", "say which host name clients connect to: --host-name NAME or MUSTER_DEVICE_URL")
	}
	return u.Hostname(), nil
}

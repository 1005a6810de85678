package mosquitto

import (
	"cmp"
	"context"
	"encoding/json"
	"math"
	"slices"
	"strings"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

// refusedRole denies everything, before any other role of a client is looked at: the broker
// admits whoever has a certificate, and the plugin's *disabled* is about passwords alone.
const refusedRole = "muster-refused"

// refusedFirst is the priority of that role.
const refusedFirst = math.MaxInt32 / 2

// refusals are the refused role's. A wildcard does not match topics that begin with $.
func refusals() (list []acl) {
	for _, kind := range []string{"publishClientSend", "publishClientReceive", "subscribePattern"} {
		for _, topic := range []string{"#", "$CONTROL/#", "$SYS/#", "$share/#"} {
			list = append(list, acl{Type: kind, Topic: topic})
		}
	}
	return list
}

func sameACLs(a, b []acl) bool {
	sorted := func(list []acl) []acl {
		return slices.SortedFunc(slices.Values(list), func(x, y acl) int {
			return cmp.Or(strings.Compare(x.Type, y.Type), strings.Compare(x.Topic, y.Topic))
		})
	}
	return slices.Equal(sorted(a), sorted(b))
}

// client is a client as the plugin has it.
type client struct {
	Username    string   `json:"username"`
	Description string   `json:"textdescription"`
	Disabled    bool     `json:"disabled"`
	Roles       []ranked `json:"roles"`
	Groups      []ranked `json:"groups"`
}

// record is what Muster keeps with a client; it stays when the device has gone, for the generation.
type record struct {
	Generation  int64                    `json:"generation"`
	Present     bool                     `json:"present"`
	IoTEdge     bool                     `json:"iotEdge,omitempty"`
	Type        provisioning.HubAuthType `json:"type,omitempty"`
	Thumbprints [2]string                `json:"thumbprints,omitzero"`
}

// described is a client's description: the name says whose client it is.
type described struct {
	Muster *record `json:"muster"`
}

func (c client) record() (r record, ours bool) {
	var d described
	if json.Unmarshal([]byte(c.Description), &d) != nil || d.Muster == nil {
		return r, false
	}
	return *d.Muster, true
}

func (c client) ours() bool {
	_, ours := c.record()
	return ours
}

func (c client) has(role string) bool {
	return slices.ContainsFunc(c.Roles, func(r ranked) bool { return r.Role == role })
}

// admitted says that the client may do what devices may.
func (c client) admitted(role string) bool {
	return !c.Disabled && c.has(role) && !c.has(refusedRole)
}

// change is what has to be said of one device, and what it comes to.
type change struct {
	commands []command
	late     bool  // the broker has something later
	refused  error // the device is shut out, and was to be let in
}

// plan compares what is wanted with what the broker has. Where the broker's CRL file is not as
// it shall be, nobody is let in.
func (c *control) plan(ctx context.Context, want []provisioning.HubIdentity, role string, listed bool) ([]change, error) {
	ask := []command{{Command: "getRole", Role: refusedRole}}
	for _, w := range want {
		ask = append(ask, command{Command: "getClient", Username: w.DeviceID})
	}
	said, err := c.ask(ctx, ask)
	if err != nil {
		return nil, err
	}
	if err := c.keepRefusedRole(ctx, said[0]); err != nil {
		return nil, err
	}
	plans := make([]change, len(want))
	for i, w := range want {
		r := said[i+1]
		switch r.Error {
		case "":
			plans[i] = changeOf(w, &r.Data.Client, role, listed)
		case "Client not found":
			plans[i] = changeOf(w, nil, role, listed)
		default:
			return nil, firstProblem(said[i+1 : i+2])
		}
	}
	return plans, nil
}

// keepRefusedRole makes the role, or sets it right.
func (c *control) keepRefusedRole(ctx context.Context, is response) error {
	set := command{Command: "modifyRole", Role: refusedRole, ACLs: refusals()}
	switch {
	case is.Error == "" && sameACLs(is.Data.Role.ACLs, refusals()):
		return nil
	case is.Error == "Role not found":
		set.Command = "createRole"
	case is.Error != "":
		return firstProblem([]response{is})
	}
	said, err := c.ask(ctx, []command{set})
	if err == nil && said[0].Error != "Role already exists" { // another process made it
		err = firstProblem(said)
	}
	return err
}

func changeOf(w provisioning.HubIdentity, has *client, role string, listed bool) (out change) {
	refuse := func(why string) error { return fault.New(fault.Conflict, provisioning.RuleHubRefused, "%s", why) }
	is := record{Generation: w.Generation, Present: w.Present, IoTEdge: w.IoTEdge, Type: w.Auth.Type, Thumbprints: w.Auth.Thumbprints}
	admit := w.Present && w.Enabled
	switch {
	case !admit:
	case w.Auth.Type != provisioning.HubSelfSigned:
		out.refused = refuse("a Mosquitto broker knows devices by their certificates, and this one has symmetric keys")
	case !strings.EqualFold(w.DeviceID, w.RegistrationID.String()):
		out.refused = refuse("a Mosquitto broker knows devices by their certificate's CN, and that is not this one's device id")
	}
	var was record
	if has != nil {
		var ours bool
		if was, ours = has.record(); !ours {
			out.refused = refuse("the broker has a client of this name that Muster did not make")
			return out
		}
		if was.Generation > w.Generation {
			return change{late: true}
		}
	}
	if out.refused != nil {
		admit = false
	}
	if admit && !listed {
		return out // it is answered that the list could not be kept
	}
	out.commands = commandsOf(w.DeviceID, is, was, has, role, admit)
	return out
}

// commandsOf brings a client from what it has to what it shall be. A change drops its
// connection; a device that is shut out is dropped each time that it is said.
func commandsOf(name string, is, was record, has *client, role string, admit bool) (list []command) {
	text, err := json.Marshal(described{&is})
	if err != nil {
		panic("internal error: " + err.Error()) // numbers and words
	}
	set := command{Command: "createClient", Username: name, Description: string(text), Roles: rolesOf(is, has, role, admit)}
	if has != nil {
		set.Command = "modifyClient"
		if !is.Present {
			set.Groups = []ranked{}
		}
	}
	if has == nil || is != was || admit != has.admitted(role) || !admit && !has.has(refusedRole) {
		list = append(list, set)
	}
	switch {
	case !admit:
		list = append(list, command{Command: "disableClient", Username: name})
	case has != nil && has.Disabled:
		list = append(list, command{Command: "enableClient", Username: name})
	}
	return list
}

// rolesOf keeps the roles that others gave a device, while it is one.
func rolesOf(is record, has *client, role string, admit bool) []ranked {
	list := []ranked{}
	if has != nil && is.Present {
		list = slices.DeleteFunc(slices.Clone(has.Roles), func(r ranked) bool { return r.Role == role || r.Role == refusedRole })
	}
	if admit {
		return append(list, ranked{Role: role})
	}
	return append(list, ranked{Role: refusedRole, Priority: refusedFirst})
}

// listPage is how many clients are listed at a time.
const listPage = 500

// clients lists all clients of the broker, a page at a time, by name. One that comes or goes
// meanwhile may be missed, or be there twice.
func (c *control) clients(ctx context.Context, each func([]client) error) error {
	for from := 0; ; from += listPage {
		said, err := c.ask(ctx, []command{{Command: "listClients", Verbose: true, Count: listPage, Offset: from}})
		if err == nil {
			err = firstProblem(said)
		}
		if err != nil {
			return err
		}
		page := said[0].Data.Clients
		if err := each(page); err != nil || len(page) < listPage {
			return err
		}
	}
}

// Package mosquitto is the driver of Mosquitto brokers (docs/reference/hub-mosquitto.md).
// Devices connect with mutual TLS and their certificate's CN as the user name, and rights come
// from the broker's dynamic-security plugin, which is spoken to over MQTT.
//
// A device is shut out in three steps, as none of them does alone (ADR 0035): what is revoked
// goes into the broker's CRL file, the broker reads that by a signal, and then the plugin takes
// the device's rights and drops its connection. The engine is told that it took when all three
// have. The file and the process are the server's configuration to name, never the link's.
package mosquitto

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"

	"github.com/passmuster/muster/internal/callout"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

// Name is what hubs are linked by.
const Name = "mosquitto"

const (
	batch = 50
	// atOnce is how many devices go into one message: the plugin writes its whole file for each
	// command, so with many clients some get further than none.
	atOnce = 8
)

// Options say whom the driver may call, and what is here of the brokers.
type Options struct {
	Callout callout.Options
	Local   bool              // a broker on this host may be called without TLS
	Brokers map[string]Broker // by the name of the hub
	// CRLs publishes what is due, and returns the lists of all that this server issued, in PEM.
	CRLs func(context.Context) ([]byte, error)
}

// Broker is what the configuration says of one. With CRLFile it has PIDFile, too.
type Broker struct {
	CRLFile, PIDFile string
	Roots            *x509.CertPool                   // vouch for the broker; nil: Options.Callout.Roots
	Certificate      func() (*tls.Certificate, error) // shown to the broker, as it is on disk by then; nil: none
}

// Driver is a provisioning.HubDriver.
type Driver struct {
	options Options
	files   map[string]*files
}

// New makes a Driver.
func New(o Options) *Driver {
	d := &Driver{options: o, files: map[string]*files{}}
	for hub, b := range o.Brokers {
		if b.CRLFile != "" {
			d.files[hub] = &files{crl: b.CRLFile, pid: b.PIDFile, lists: o.CRLs}
		}
	}
	return d
}

// Traits are those of messages with many commands, by a client of the broker's own.
func (*Driver) Traits() provisioning.HubTraits { return provisioning.HubTraits{Batch: batch} }

// Apply makes it so. What a broker cannot tell apart is shut out rather than let in.
//
// Errors: [provisioning.RuleHubRefused]; Unavailable "hub-unreachable" and "hub-unavailable".
func (d *Driver) Apply(ctx context.Context, to provisioning.HubAccess, want []provisioning.HubIdentity) []error {
	answers := make([]error, len(want))
	if err := d.apply(ctx, to, want, answers); err != nil {
		for i := range answers {
			answers[i] = err
		}
	}
	return answers
}

func (d *Driver) apply(ctx context.Context, to provisioning.HubAccess, want []provisioning.HubIdentity, answers []error) error {
	c, role, err := d.connect(ctx, to)
	if err != nil {
		return err
	}
	defer c.close()
	// The list comes first: who is dropped below comes back at once.
	listed := d.keepFiles(ctx, to.Hub)
	plans, err := c.plan(ctx, want, role, listed == nil)
	if err != nil {
		return err
	}
	for from := 0; from < len(plans); from += atOnce {
		if err := c.carryOut(ctx, plans[from:min(from+atOnce, len(plans))], answers[from:], listed); err != nil {
			for i := from; i < len(answers); i++ {
				answers[i] = err
			}
			break // those before it took
		}
	}
	return nil
}

// carryOut has the broker make some changes, in one message.
func (c *control) carryOut(ctx context.Context, plans []change, answers []error, listed error) error {
	var all []command
	for _, p := range plans {
		all = append(all, p.commands...)
	}
	said, err := c.ask(ctx, all)
	if err != nil {
		return err
	}
	for i, p := range plans {
		took := firstProblem(said[:len(p.commands)])
		said = said[len(p.commands):]
		switch {
		case took != nil:
			answers[i] = took
		case p.refused != nil:
			answers[i] = p.refused
		case !p.late:
			answers[i] = listed
		}
	}
	return nil
}

// Test asks the broker as Apply does. It fails, too, when a broker is open to more than is
// wanted here: to whoever has a certificate, or to a device that has another client's name.
func (d *Driver) Test(ctx context.Context, to provisioning.HubAccess) error {
	c, role, err := d.connect(ctx, to)
	if err != nil {
		return err
	}
	defer c.close()
	said, err := c.ask(ctx, []command{{Command: "getDefaultACLAccess"}, {Command: "getRole", Role: role}})
	if err != nil {
		return err
	}
	if err := firstProblem(said); err != nil {
		return err
	}
	for _, acl := range said[0].Data.ACLs {
		if acl.Allow && (acl.Type == "publishClientSend" || acl.Type == "subscribe") {
			return unavailable("the broker's default access lets every client %s: take that away (setDefaultACLAccess)", acl.Type)
		}
	}
	err = c.clients(ctx, func(page []client) error {
		for _, has := range page {
			if !has.ours() && CouldBeDevice(has.Username) {
				return unavailable("the broker has a client %q, whose rights a device of that name would have: give it a name with another character, such as ~", has.Username)
			}
		}
		return nil
	})
	if f := d.files[to.Hub]; err == nil && f != nil {
		err = f.check()
	}
	return err
}

// Remark says what the driver cannot do at a hub.
func (d *Driver) Remark(to provisioning.HubAccess) string {
	if d.files[to.Hub] != nil {
		return "its CRL file and process are kept from here"
	}
	return "its CRL file is not kept from here: a device that is shut out is dropped and may do nothing, but can connect again"
}

// Devices reads what the broker holds of Muster's devices.
func (d *Driver) Devices(ctx context.Context, to provisioning.HubAccess, each func([]provisioning.HubFound) error) error {
	c, role, err := d.connect(ctx, to)
	if err != nil {
		return err
	}
	defer c.close()
	return c.clients(ctx, func(page []client) error {
		var found []provisioning.HubFound
		for _, has := range page {
			if record, ours := has.record(); ours && record.Present {
				found = append(found, provisioning.HubFound{
					DeviceID: has.Username, Enabled: has.admitted(role), IoTEdge: record.IoTEdge,
					Auth: provisioning.HubAuth{Type: record.Type, Thumbprints: record.Thumbprints},
				})
			}
		}
		return each(found)
	})
}

// KeepFiles keeps the CRL files of all brokers as published, and has them read: a list that is
// past its end has a broker refuse everybody, and so does one that does not know the newest shard.
func (d *Driver) KeepFiles(ctx context.Context) error {
	var all []error
	for hub := range d.files {
		if err := d.keepFiles(ctx, hub); err != nil {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

func (d *Driver) keepFiles(ctx context.Context, hub string) error {
	f := d.files[hub]
	if f == nil {
		return nil
	}
	if err := f.keep(ctx); err != nil {
		return fault.New(fault.Unavailable, "hub-unavailable", "the broker's CRL file could not be kept: %v", err).About("hub " + hub)
	}
	return nil
}

func unavailable(format string, args ...any) *fault.Error {
	return fault.New(fault.Unavailable, "hub-unavailable", format, args...)
}

var _ interface {
	provisioning.HubDriver
	provisioning.HubReader
	provisioning.HubRemarker
} = (*Driver)(nil)

// Package azure is the driver of Azure IoT Hubs: it keeps their identity registry as it shall be
// over its REST API (docs/reference/hub-azure.md). The hub of another Muster has the same API.
//
//   - A device is written over what was read just before, by its ETag, with all of its
//     authentication: who is overtaken reads again.
//   - The generation stands in the status reason. What comes late is known by it, for as long as the
//     hub has the device.
//   - Many devices go in one bulk. What a bulk did that was not taken whole is not guessed: each
//     device is read, and told alone where need be.
//
// The engine's sweep calls it, outside any transaction; whom it may call is package callout's
// to say. No error holds what the hub is linked by.
package azure

import (
	"context"
	"crypto/rand"
	"net/http"
	"time"

	"github.com/passmuster/muster/internal/callout"
	"github.com/passmuster/muster/provisioning"
)

// Name is what hubs are linked by.
const Name = "azure"

// maxBulk is how many devices a hub takes in one call.
const maxBulk = 100

// Driver is a provisioning.HubDriver and a provisioning.HubReader.
type Driver struct{ http *http.Client }

// New makes a Driver.
func New(o callout.Options) *Driver { return &Driver{http: o.Client()} }

// Traits are those of bulks, authenticated by the key of a shared access policy.
func (*Driver) Traits() provisioning.HubTraits { return provisioning.HubTraits{Batch: maxBulk} }

// Endpoint is the origin of the hub that a connection string names.
func (*Driver) Endpoint(address string) (string, error) {
	c, err := parseConnection(address)
	if err != nil {
		return "", err
	}
	return c.origin(), nil
}

// Test has the hub delete a device that nobody has: it is there, knows the policy, and lets it
// write.
//
// Errors: Unavailable "hub-unreachable" and "hub-unavailable".
func (d *Driver) Test(ctx context.Context, to provisioning.HubAccess) error {
	h, err := d.open(to)
	if err != nil {
		return err
	}
	got, err := h.ask(ctx, http.MethodDelete, devicePath("muster-test-"+rand.Text()), nil, "If-Match", `"muster"`)
	if err != nil {
		return err
	}
	if got.noDevice() || got.status == http.StatusPreconditionFailed {
		return nil
	}
	return got.unavailable()
}

// hub is one linked hub.
type hub struct {
	connection
	http *http.Client
	now  func() time.Time
}

func (d *Driver) open(to provisioning.HubAccess) (hub, error) {
	c, err := parseConnection(to.URL)
	return hub{connection: c, http: d.http, now: time.Now}, err
}

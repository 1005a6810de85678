package provisioning

import (
	"context"

	"github.com/passmuster/muster/verify"
)

// HubDriver makes linked hubs of one kind agree with what is wanted of their devices. The
// built-in hub needs none: its devices are read from the tables that say what is wanted.
type HubDriver interface {
	// Traits are the same for all its hubs.
	Traits() HubTraits
	// Endpoint reads the address that a hub is linked by, and returns what may be shown of it:
	// the rest may be a secret. Malformed, at "/url", when no hub could be worked with by it.
	Endpoint(address string) (string, error)
	// Apply makes it so: it creates, updates, disables or removes each device, no more of them
	// than one call takes. It may be called again with the same identity, and by several
	// processes: the hub goes by the generation, and leaves alone what it has a later one of.
	//
	// It answers for each in turn, nil when the hub confirmed. Rule [RuleHubRefused] says that
	// the hub refuses this one device; any other error, that it cannot be worked with now.
	// RetryAfter of an error is heeded.
	Apply(ctx context.Context, to HubAccess, want []HubIdentity) []error
	// Test returns nil when the hub answers and takes what it is sent. It changes nothing there.
	Test(ctx context.Context, to HubAccess) error
}

// HubTraits are what all hubs of a driver have in common.
type HubTraits struct {
	Batch     int  // devices that one call takes, at least 1
	Signed    bool // what it is sent is signed with HubAccess.Key, which Muster makes
	PerMinute int  // calls that a hub takes unless its operator says otherwise; 0: as many as it answers
}

// HubReader is a driver that can also be asked what a hub holds.
type HubReader interface {
	// Devices gives each page of a hub's devices to a function, whose error ends it.
	Devices(ctx context.Context, to HubAccess, each func([]HubFound) error) error
}

// HubFound is a device as a hub holds it. An Auth without a type says nothing of how it proves
// itself, nor of its kind: a hub may not keep that. Keys that a hub does not show are zero.
type HubFound struct {
	DeviceID string
	Enabled  bool
	Auth     HubAuth
	IoTEdge  bool
}

// HubRemarker is a driver that has more to say of a hub that was found fit.
type HubRemarker interface{ Remark(to HubAccess) string }

// RuleHubRefused is the rule of a driver's error that is about one device.
const RuleHubRefused = "hub-refused"

// HubAccess is how a linked hub is reached.
type HubAccess struct {
	IDScope string
	Hub     string
	URL     string        // may hold a secret
	Key     verify.Secret // signs what is sent
}

// HubIdentity is what a hub shall know of one device, as things stand: never what has changed.
type HubIdentity struct {
	Hub            string
	DeviceID       string // as first written
	RegistrationID verify.RegistrationID
	// Generation grows with everything that is said of the device on this hub. What comes
	// late, behind one that is larger, is out of date.
	Generation int64
	Present    bool // else it is to be removed, and what follows is empty
	Enabled    bool
	Auth       HubAuth // a symmetric key that is zero is not known here, and stays as it is
	IoTEdge    bool
}

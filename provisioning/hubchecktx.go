package provisioning

import (
	"slices"
	"time"

	"github.com/passmuster/muster/verify"
)

// HubDriftKind is how what a hub holds of a device differs from what it was told and confirmed.
type HubDriftKind string

// The kinds. A device has the first that it is of.
const (
	DriftEnabled     HubDriftKind = "enabled-there"      // and disabled here: the hub lets in what Muster shuts out
	DriftCredentials HubDriftKind = "credentials-differ" // certificates or keys
	DriftUnknown     HubDriftKind = "unknown-there"      // it is not ours
	DriftMissing     HubDriftKind = "missing-there"
	DriftDisabled    HubDriftKind = "disabled-there" // and enabled here
	DriftDeviceKind  HubDriftKind = "kind-differs"   // it is an edge device, or is not
)

// HubDriftKinds are all kinds, the most dangerous first.
var HubDriftKinds = []HubDriftKind{DriftEnabled, DriftCredentials, DriftUnknown, DriftMissing, DriftDisabled, DriftDeviceKind}

// Grade is a kind's place among them.
func (k HubDriftKind) Grade() int { return slices.Index(HubDriftKinds, k) }

// HubCheck is one look at what a hub holds, and what was made of it.
type HubCheck struct {
	ID        string // in the order of time
	Hub       string
	Actor     string
	Requested time.Time
	Taken     time.Time // a process is at it, until then; zero: none is
	Began     time.Time // devices that were told since are not judged
	Ended     time.Time // zero: not yet
	Problem   string    // the hub could not be read; "": it could
	Held      int64     // devices that the hub holds
	Untold    int64     // of those and ours, that it is still to be told of: that is no drift
	Unnamed   int64     // that it holds under ids which none of ours can have: they are not listed
	Drift     map[HubDriftKind]int64
	Repair    HubRepair
}

// Good says that the hub was read to its end.
func (c HubCheck) Good() bool { return !c.Ended.IsZero() && c.Problem == "" }

// Drifted counts the devices that the hub holds otherwise.
func (c HubCheck) Drifted() (n int64) {
	for _, of := range c.Drift {
		n += of
	}
	return n
}

// Repairing says that a repair is not done.
func (c HubCheck) Repairing() bool { return !c.Repair.At.IsZero() && c.Repair.Done.IsZero() }

// HubRepair has the hub told again of the devices that a check has listed.
type HubRepair struct {
	At      time.Time // zero: nobody asked for it
	By      string
	Removes bool   // what is not ours, too
	Cursor  string // the last device
	Devices int64  // so far
	Done    time.Time
}

// HubDrift is one device that a hub holds otherwise.
type HubDrift struct {
	Kind HubDriftKind
	HubPlace
	Spelled      string
	Registration verify.RegistrationID // zero: it is not ours
	Generation   int64                 // of its identity then: one that is larger has been told since
}

// Key is its place in the list, for a cursor.
func (d HubDrift) Key() string { return string(rune('a'+d.Kind.Grade())) + "/" + d.Device.String() }

// HubCheckTx is what provisioning reads and writes of checks.
type HubCheckTx interface {
	// InsertHubCheck is a Conflict, rule "hub-check-exists", while another of the hub is open.
	InsertHubCheck(HubCheck) error
	HubCheck(id string) (HubCheck, error)
	// HubChecks lists those of a hub, newest first.
	HubChecks(hub string) ([]HubCheck, error)
	// OpenHubChecks lists those that are not ended; HubRepairs those that are being repaired.
	OpenHubChecks() ([]HubCheck, error)
	HubRepairs() ([]HubCheck, error)
	// MoveHubCheck writes how far one is, unless somebody has since it was read: then Conflict,
	// rule "hub-check-moved".
	MoveHubCheck(was, is HubCheck) error
	// DeleteHubChecks deletes those of a hub before one that ended and are not being repaired;
	// with failed those alone that failed.
	DeleteHubChecks(hub, before string, failed bool) error
	// PutHubDrifts writes what a check found; what it has of a device and kind already stays.
	PutHubDrifts(check string, list []HubDrift) error
	// HubDrifts lists by Key.
	HubDrifts(check, after string, limit int) ([]HubDrift, error)
	// ForgetHubDrifts is for a check that begins again.
	ForgetHubDrifts(check string) error
}

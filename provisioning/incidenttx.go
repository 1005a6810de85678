package provisioning

import (
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// DisallowScope is how far a disallowance reaches.
type DisallowScope string

// The scopes. Each refuses what it names wherever it stands in a chain (INV-D3).
const (
	DisallowCertificate DisallowScope = "certificate" // this certificate
	DisallowKey         DisallowScope = "key"         // every certificate and request with its key
	DisallowBelow       DisallowScope = "below"       // a CA, its key, and everything they signed
)

// EntryAct is what becomes of an entry that holds what is compromised.
type EntryAct string

// The acts.
const (
	SlotEmptied  EntryAct = "slot-emptied" // its other slot is clean: the entry stays as it is
	EntryShut    EntryAct = "disabled"     // it has no other, or none that is clean
	EntryWasShut EntryAct = "was-disabled" // and stays so
)

// EntryEffect is what a disallowance does to one entry.
type EntryEffect struct {
	Owner Owner
	Act   EntryAct
	Slot  rotation.Slot // of what is compromised
}

// Incident is one act against what is compromised, and how far it is carried out. What it
// names is refused from the commit that began it; the rest is that everybody else knows.
type Incident struct {
	ID          string
	Scope       DisallowScope
	Reason      ca.Reason
	Subject     string    // the certificate's, for people
	Certificate []byte    // DER
	Since       time.Time // certificates of ours issued on its word from then on fall, too; zero: none do
	Actor       string
	Created     time.Time
	Entries     []EntryEffect
	Issuers     []ca.IssuerID // of ours that fell by it, and those below that had fallen before
	Revoked     int64         // certificates of ours, so far
	Devices     int64         // registrations that rest on it, so far
	Cursor      string        // the last registration that was looked at
	Passed      time.Time     // when all had been; zero: not yet
	Done        time.Time     // when every hub had confirmed; zero: not yet
	LiftedAt    time.Time
	LiftedBy    string
}

// IncidentDevice is the receipt of one device.
type IncidentDevice struct {
	Registration verify.RegistrationID
	HubPlace
	Awaited   bool // hubs that live elsewhere are to confirm what stood when it was found
	Found     time.Time
	Confirmed time.Time // zero: not yet
	Problem   string    // of the last try to tell its hub
}

// IncidentHub counts the devices of one hub. Problem is of one that has not confirmed.
type IncidentHub struct {
	Hub              string
	Devices, Pending int64
	Problem          string
	HubWait          // until all that is pending is told; zero when nothing is
}

// RestsOn is what registrations are found by: one digest or two, of certificates or keys, the
// name of a CA whose pinned leaves count; zero: none; and issuers of ours whose leaves they hold.
type RestsOn struct {
	Digests [][32]byte
	Below   [32]byte
	Issuers []ca.IssuerID
}

// RestingDevice is a registration as it was found to rest on what is named.
type RestingDevice struct {
	Registration verify.RegistrationID
	HubPlace
	Version int64
	Closer  bool // it has to be looked at more closely: nothing but a name says so
}

// HubCount is a number of devices on one hub; a preview says how long it takes to tell it of them.
type HubCount struct {
	Hub     string
	Devices int64
	HubWait
}

// IncidentTx is what is read and written of disallowances and what came of them.
type IncidentTx interface {
	// KnownCertificate finds the DER of a certificate wherever one is on record: issued here, in
	// an entry, an anchor, a chain that a device came with, or an earlier incident.
	KnownCertificate(verify.Thumbprint) ([]byte, error)
	// WithKey lists the DER of other certificates with the key of one: links of chains that devices
	// came with, and certificates of ours.
	WithKey(of verify.Link, limit int) ([][]byte, error)
	// GoodWithKey lists certificates of ours with a key that are not revoked and end after now.
	GoodWithKey(key verify.KeyHash, now time.Time) ([]ca.Certificate, error)
	// AttestingWith lists registrations that attest with a key, by id: their ids and leaves. It
	// reads all of them.
	AttestingWith(key verify.KeyHash, limit int) ([]Registration, error)
	// HeldCAsNamed lists the DER of CAs in anchors and entries that have a subject (verify.NameHash).
	HeldCAsNamed(subject [32]byte) ([][]byte, error)
	// DisallowedCAs lists what is disallowed of CAs, by id. PinnedLeaf is the DER of a leaf that an
	// entry holds; nil: none does.
	DisallowedCAs() ([]Disallowance, error)
	PinnedLeaf(verify.Thumbprint) ([]byte, error)
	// EntriesSignedBy lists the entries that hold something signed under a name, by id;
	// CountEntriesSignedBy counts them.
	EntriesSignedBy(name [32]byte, kind Kind, limit int) ([]Owner, error)
	CountEntriesSignedBy(name [32]byte, kind Kind) (int64, error)
	// RestingOn lists the registrations that may rest on what is named, behind one; CountRestingOn
	// counts them by hub. Both read all registrations.
	RestingOn(on RestsOn, after string, limit int) ([]RestingDevice, error)
	CountRestingOn(on RestsOn) ([]HubCount, error)
	// CountNewRestingOn counts those that were made after a time, of what the ledger has behind seq.
	CountNewRestingOn(on RestsOn, seq int64, since time.Time) (int64, error)
	// CountInUse counts the certificates in the slots of devices that issuers of ours signed.
	CountInUse(issuers []ca.IssuerID) (int64, error)
	// OfRevokedIssuers says which of some certificates an issuer of ours signed that is revoked.
	OfRevokedIssuers([]verify.Thumbprint) ([]verify.Thumbprint, error)
	// CountIssuedSince counts certificates of ours that are good, were issued from a time on, and
	// belong to such registrations, by the CRL that they are to be on.
	CountIssuedSince(on RestsOn, since time.Time) ([]ShardCount, error)

	InsertIncident(Incident) error
	Incident(id string) (Incident, error)
	// Incidents lists them, newest first, before one.
	Incidents(before string, limit int) ([]Incident, error)
	// IncidentInForce is the id of the incident that disallows a certificate with a scope, "" when
	// none does.
	IncidentInForce(scope DisallowScope, certificate []byte) (string, error)
	// OpenIncidents lists those that are not done.
	OpenIncidents() ([]Incident, error)
	// MoveIncident writes how far one is, unless somebody has since its cursor was read: then
	// Conflict, rule "incident-moved".
	MoveIncident(was, is Incident) error
	// LiftDisallowances lifts what an incident names.
	LiftDisallowances(incident string, at time.Time) error

	PutIncidentDevice(incident string, d IncidentDevice) error
	// SettleIncidentDevice writes the receipt of a device that nobody has to be told of; Conflict,
	// rule "incident-moved", where its registration is not as it was found.
	SettleIncidentDevice(incident string, d RestingDevice, now time.Time) error
	CountIncidentDevices(incident string) (int64, error)
	IncidentDevices(incident string, after string, limit int, pending bool) ([]IncidentDevice, error)
	// ConfirmedDevices lists pending receipts whose hubs have confirmed; ConfirmIncidentDevice
	// writes that of one.
	ConfirmedDevices(incident string, after verify.RegistrationID, limit int) ([]verify.RegistrationID, error)
	// CountPendingReceipts counts them over all incidents.
	CountPendingReceipts() (int64, error)
	ConfirmIncidentDevice(incident string, id verify.RegistrationID, now time.Time) error
	IncidentHubs(incident string) ([]IncidentHub, error)
}

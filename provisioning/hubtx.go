package provisioning

import (
	"time"

	"github.com/passmuster/muster/verify"
)

// HubLink is how a hub that lives elsewhere is reached, and how it does: when it does not
// answer it is not tried before NextTry, whatever the number of devices. Circuit says in a word
// how it does.
type HubLink struct {
	Hub       string
	SealedURL []byte
	SealedKey []byte // signs what is sent
	Tries     int    // failures in a row
	NextTry   time.Time
	Answered  time.Time // when it last did; zero: not yet
	Problem   string    // of the last try; "": it answered
	Paced     time.Time // of a hub that has a rate: its calls are given out up to here
	Trial     time.Time // a process tries one that failed, until then at most
}

// HubPlace is one device on one hub.
type HubPlace struct {
	Hub    string
	Device verify.RegistrationID // the device id
}

// HubIdentityRecord is how far a hub that lives elsewhere is in step about one device. What the
// hub shall know of it is not in it: that follows from the registration.
type HubIdentityRecord struct {
	HubPlace
	Spelled      string                // the device id as first written
	Registration verify.RegistrationID // whose device it is, or was: one that lives elsewhere by now is to be removed; zero: nobody's, and to be removed
	Generation   int64
	Applied      int64     // the last generation that the hub confirmed; 0: none
	AsOf         time.Time // that was what stood then
	Told         time.Time // when it confirmed that
	Since        time.Time // ahead for so long, while Generation > Applied
	Tries        int       // failures in a row
	NextTry      time.Time
	Problem      string
}

// HubEntry is an entry that was changed in what its devices' hubs know of, keys or kind of
// device. Its devices are gone through, page by page.
type HubEntry struct {
	Owner
	Cursor string // the last device that was looked at
}

// HubIdentityTx is what provisioning reads and writes of hubs that live elsewhere.
type HubIdentityTx interface {
	HubLink(hub string) (HubLink, error)
	// HubLinks lists all by name.
	HubLinks() ([]HubLink, error)
	InsertHubLink(HubLink) error
	// UpdateHubLink writes how the hub is reached; it is tried at once.
	UpdateHubLink(HubLink) error
	// DeleteHubLink removes it, if there is one.
	DeleteHubLink(hub string) error
	// MoveHubLink writes how the hub does, unless somebody has since it was read: then
	// Conflict, rule "hub-moved".
	MoveHubLink(was, is HubLink) error
	// PaceHubLink writes Paced, and nothing else, in the same way.
	PaceHubLink(was, is HubLink) error

	HubIdentity(HubPlace) (HubIdentityRecord, error)
	// HubIdentities lists a hub's by device id.
	HubIdentities(hub string, after verify.RegistrationID, limit int) ([]HubIdentityRecord, error)
	// TakeHubIdentities lists devices that the hub is to be told of at now, gives each a
	// generation of its own for that, and leaves them to the caller until a time. What another
	// transaction is taking is left out.
	TakeHubIdentities(hub string, now, until time.Time, limit int) ([]HubIdentityRecord, error)
	// CountHubAhead counts the devices that a hub is to be told of, and says since when.
	CountHubAhead(hub string) (n int64, oldest time.Time, err error)
	// PutHubIdentity makes a device ahead: the one that is there becomes the registration's, and
	// keeps its spelling.
	PutHubIdentity(HubIdentityRecord) error
	// StepHubIdentity makes a device ahead, if it is on a hub that lives elsewhere; on any other
	// it does nothing.
	StepHubIdentity(at HubPlace, now time.Time) error
	// StepHubIdentities is the same wherever a registration is, or is still to leave; it counts them.
	StepHubIdentities(id verify.RegistrationID, now time.Time) (int64, error)
	// HastenHubIdentity has a device that is ahead, and waits for longer than to a time, tried
	// at once; HastenHubIdentities all that a registration has, wherever.
	HastenHubIdentity(at HubPlace, than time.Time) error
	HastenHubIdentities(verify.RegistrationID) error
	// ConfirmHubIdentity writes that the hub has confirmed a generation at now, and of what time.
	ConfirmHubIdentity(at HubPlace, generation int64, asOf, now time.Time) error
	// LeaveHubIdentity writes tries, next try and problem of a device as it was taken, unless
	// it was made ahead or hastened since.
	LeaveHubIdentity(was, is HubIdentityRecord) error
	DeleteHubIdentity(HubPlace) error
	// AbandonHubIdentities deletes, and counts, those of devices that are to leave a hub.
	AbandonHubIdentities(hub string) (int64, error)
	// CountHubIdentities counts those of a registration, wherever.
	CountHubIdentities(verify.RegistrationID) (int64, error)

	// Barred says that a certificate or key that attested a registration is disallowed.
	Barred(Registration) (bool, error)

	// PutHubEntry has an entry's devices gone through, from the first, if any hub lives elsewhere.
	PutHubEntry(Owner) error
	NextHubEntry() (HubEntry, error)
	// StepHubEntry makes a page of an entry's devices ahead; Conflict, rule "hub-entry-moved",
	// when another process did.
	StepHubEntry(x HubEntry, now time.Time, limit int) (more bool, err error)
}

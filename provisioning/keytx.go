package provisioning

import (
	"time"

	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// KeyTx is what the roll of symmetric keys, and of the keys of shared access policies,
// reads and writes.
type KeyTx interface {
	// WakeEntry makes an entry due at a time. Who decided about the entry before finds that its
	// due date has changed, also of one that was due. It is no change of trust: nobody is
	// admitted or refused by it.
	WakeEntry(o Owner, at time.Time) error
	// KeyEntriesDue has it look at every entry that attests with symmetric keys: a plan for
	// them was written.
	KeyEntriesDue(at time.Time) error
	// DueKeyEntries are the entries with symmetric keys whose time has come, the longest due
	// first.
	DueKeyEntries(now time.Time, limit int) ([]Enrollment, error)
	// NextLook writes when an entry is due next, zero for never; fault.Conflict, rule
	// "entry-moved", when it is not due at was any more.
	NextLook(o Owner, was, next time.Time) error
	// KeyDevices counts, up to limit, the devices of an entry that were attested last by a
	// key, and with unknown those of which that is not on record.
	KeyDevices(o Owner, key verify.KeyHash, unknown bool, limit int) (int64, error)

	// AccessKeyUsed notes that a key of a policy admitted somebody, if that key came at since
	// and is not known to have been used later. No version moves.
	AccessKeyUsed(plane Plane, name string, slot rotation.Slot, since, used time.Time) error
}

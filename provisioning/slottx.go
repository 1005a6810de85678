package provisioning

import (
	"time"

	"github.com/passmuster/muster/verify"
)

// DueEntry is an entry whose slots are to be looked at, as it was when it was claimed.
type DueEntry struct {
	Owner
	Version int64
	DueAt   time.Time
}

// Hang asks which devices hang on a slot of an entry: those it owns that were last attested
// from outside by the certificate in it, or by a chain that contains it. A chain that
// contains But too does not need the slot. Zero: there is no other slot.
type Hang struct {
	Owner   Owner
	On, But verify.Thumbprint
}

// SlotTx is what provisioning reads and writes of the slots of entries as they roll.
type SlotTx interface {
	// DueEntries lists the entries that are due at now and hold no keys, oldest first.
	DueEntries(now time.Time, limit int) ([]Enrollment, error)
	// ClaimEntries is DueEntries in an Update: on PostgreSQL others who claim at the same
	// time are not shown the same ones.
	ClaimEntries(now time.Time, limit int) ([]DueEntry, error)
	// WakeEntry makes an entry due at a time. It is no change of trust: nobody is admitted
	// or refused by it.
	WakeEntry(o Owner, at time.Time) error
	// TwoSlotsDue makes every entry of a kind due that has two certificates or references: a
	// plan for them was written, or the clock was wrong.
	TwoSlotsDue(k Kind, at time.Time) error
	// DateEntry says when an entry is due next, over one of that version.
	DateEntry(o Owner, due time.Time, was int64) error
	// MoveEntry writes where an entry's credentials stand in its roll, its version and when
	// it is due next. The credentials themselves are those on record, so that it is no change
	// of trust.
	MoveEntry(e Enrollment, was int64) error

	// HangsAny says whether any device hangs on the slot.
	HangsAny(Hang) (bool, error)
	// HangCount counts the devices that hang on the slot, and those of them without a
	// certificate of ours that is good at now: they would be locked out.
	HangCount(h Hang, now time.Time) (devices, locked int64, err error)
	// Hanging lists the devices that hang on the slot by id.
	Hanging(h Hang, after verify.RegistrationID, limit int) ([]Registration, error)
}

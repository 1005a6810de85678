package provisioning

import (
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// Roll is what the planner did about one certificate of a device, and why it cannot do more.
type Roll struct {
	ID     verify.RegistrationID
	Ref    rotation.Ref // the certificate; another in the pair's front: this is history
	ToldAt time.Time    // when the device was told that a successor is due; zero: it was not
	Stuck  string       // the rule word of why the roll does not go on; "": it does
	Since  time.Time    // stuck for this reason
	Tries  int64        // how often the device was told, or its request signed again in vain
}

// isAbout says that the row is about what a pair holds now, and is no history.
func (r Roll) isAbout(p rotation.Pair) bool {
	slot, held := p.Find(r.Ref)
	return held && p.Cell(slot).State != rotation.Retiring
}

// RollingPair is what the planner reads of a registration: its pair, and the entry that
// owns it.
type RollingPair struct {
	ID       verify.RegistrationID
	Owner    Owner
	State    State
	Hub      string
	DeviceID string
	Updated  time.Time
	Version  int64
	Pair     rotation.Pair
	DueAt    time.Time
	Enabled  bool   // the owner is; false of an orphan
	Profile  string // the owner's
	Roll     Roll   // zero: none
}

// IsMarked says that something left the pair, or the device's entry, and that what is good of
// it is still to be superseded: the due date is no later than the last change. Any other lies
// ahead of the change that set it, but for 1, which rows of before there were due dates have.
func (p RollingPair) IsMarked() bool {
	return !p.DueAt.After(p.Updated) && p.DueAt.UnixMicro() > 1
}

// RollTx is what the planner reads and writes of registrations.
type RollTx interface {
	// ClaimPairs lists what is due at now, the oldest first. No other transaction claims or
	// changes it before this one ends; what another has claimed is left out.
	ClaimPairs(now time.Time, limit int) ([]RollingPair, error)
	// Pairs lists registrations by id, due or not.
	Pairs(after string, limit int) ([]RollingPair, error)
	// CountDue counts registrations that are due at now, but no further than to limit.
	CountDue(now time.Time, limit int) (int64, error)
	// PutPair writes a pair, its due date, and Updated over a registration of Version-1; a
	// lost race is fault.Conflict, rule "registration-moved".
	PutPair(RollingPair) error

	// MakeDue has the planner look at a registration at a time, if it does not do so sooner. A
	// mark stays. Its version does, too, in this and the next three.
	MakeDue(id verify.RegistrationID, at time.Time) error
	// MarkLeft marks a registration, if there is one, as due at a time: a certificate that may
	// be of ours has left its device's entry.
	MarkLeft(id verify.RegistrationID, at time.Time) error
	// PostponeRegistration puts off a registration that is due at was, unless it is marked; due
	// at another time by now is fault.Conflict, rule "registration-moved".
	PostponeRegistration(id verify.RegistrationID, was, until time.Time) error
	// PutDue writes the due date of a registration that this transaction has claimed, and takes
	// a mark away: whoever claimed it has done what it asks for.
	PutDue(id verify.RegistrationID, due time.Time) error

	// GoodCertificates lists the certificates of a device that are not revoked and end after
	// now, without their DER.
	GoodCertificates(id verify.RegistrationID, now time.Time) ([]ca.Certificate, error)

	Roll(verify.RegistrationID) (Roll, error)
	PutRoll(Roll) error
	// DeleteRoll removes the row, if there is one.
	DeleteRoll(verify.RegistrationID) error

	// ClockRecord is the zero value before the first PutClockRecord.
	ClockRecord() (rotation.ClockRecord, error)
	// PutClockRecord writes over a record that was read; fault.Conflict, rule "clock-moved",
	// when another process was first.
	PutClockRecord(next, was rotation.ClockRecord) error
}

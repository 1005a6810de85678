package provisioning

import (
	"time"

	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// HorizonTx is what is read to see renewals and ends coming, and how an operator makes
// something due.
type HorizonTx interface {
	// NextRegistrations lists registrations that are due at a time or before, soonest first.
	NextRegistrations(by time.Time, limit int) ([]Registration, error)
	// NextEntries is the same of entries.
	NextEntries(by time.Time, limit int) ([]Enrollment, error)
	// CountAllDue counts registrations and entries due at a time or before, each up to limit.
	CountAllDue(by time.Time, limit int) (int64, error)
	// MakeEntryDue has the planner look at an entry at a time; nothing else of it changes.
	MakeEntryDue(o Owner, at time.Time) error

	// StuckDevices lists rolls that do not go on, for one reason, by registration id.
	StuckDevices(reason string, after verify.RegistrationID, limit int) ([]StuckDevice, error)
	// StuckReasons counts them by reason.
	StuckReasons() ([]ReasonCount, error)

	// SurveyedDevices lists the certificates of a page of registrations, by id; of all
	// registrations, those without a certificate too.
	SurveyedDevices(after verify.RegistrationID, limit int) ([]SurveyedDevice, error)
	// Survey is the last one put; fault.NotFound before the first.
	Survey() (Survey, error)
	PutSurvey(Survey) error
}

// ReasonCount is how many rolls do not go on for a reason.
type ReasonCount struct {
	Reason string
	Count  int64
}

// StuckDevice is a roll that does not go on.
type StuckDevice struct {
	ID     verify.RegistrationID
	Ref    rotation.Ref // the certificate that wants a successor
	Reason string       // a rule word
	Since  time.Time
	ToldAt time.Time // zero: the device was not told
	Tries  int64
}

// SurveyedDevice is what a survey reads of a registration: its pair, and the issuing profile
// of its entry.
type SurveyedDevice struct {
	ID      verify.RegistrationID
	Pair    rotation.Pair // of each cell State, NotBefore and NotAfter alone
	Profile string
}

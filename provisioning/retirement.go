package provisioning

import (
	"context"
	"time"

	"github.com/passmuster/muster/verify"
)

// EntryFate is what keeps a retired device out, whatever groups would admit it (invariant 4).
type EntryFate string

// The fates of its individual enrollment.
const (
	FateDisabled    EntryFate = "disabled"
	FateWasDisabled EntryFate = "was-disabled"
	FateException   EntryFate = "exception" // there was none: a disabled one is made, with keys that nobody knows
)

// What a retirement leaves open.
const (
	OpenOutsideCertificate = "outside-certificate" // the device has a certificate that is not ours to revoke
	OpenHubDevice          = "hub-device-kept"     // the built-in hub has a device of this name that is no registration's
)

// RetirePlan is what retiring a device does, and what it leaves open.
type RetirePlan struct {
	Entry        EntryFate
	Owner        Owner // that owns its registration; zero: nobody, or there is none
	HubPlace           // that it is removed from; zero: none
	Elsewhere    bool  // that hub, or one that it was to leave, has to confirm
	Certificates int64 // of ours that are revoked, as cessationOfOperation
	Open         []string
}

// Retirement is a device that was taken out of service, and the receipt of its hubs. It is
// kept when the device comes back.
type Retirement struct {
	ID      verify.RegistrationID
	Spelled string
	RetirePlan
	Deleted   bool // its registration's record was, too
	Actor     string
	Campaign  string // that it was part of; "": none
	At        time.Time
	Awaited   int64     // hubs that live elsewhere and have not confirmed
	Confirmed time.Time // when the last one had; zero: not yet
	Returned  bool      // it has registered since
}

// RetirementFilter narrows a list of retirements, by id.
type RetirementFilter struct {
	After    verify.RegistrationID
	Limit    int
	Campaign string
	Pending  bool // hubs have not confirmed
}

// RetirementTx is what is read and written of retirements.
type RetirementTx interface {
	Retirement(verify.RegistrationID) (Retirement, error)
	Retirements(RetirementFilter) ([]Retirement, error)
	// PutRetirement writes over an earlier one of the device.
	PutRetirement(Retirement) error
	// ConfirmRetirement counts one of the hubs that a device's retirement waits for, if it does.
	ConfirmRetirement(id verify.RegistrationID, now time.Time) error
	// CountPendingRetirements counts those that wait for a hub.
	CountPendingRetirements() (int64, error)
}

// Retirement reads one.
func (e *Engine) Retirement(ctx context.Context, id verify.RegistrationID) (r Retirement, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		r, err = tx.Retirement(id)
		return err
	})
	return r, err
}

// Retirements lists them by id.
func (e *Engine) Retirements(ctx context.Context, f RetirementFilter) (list []Retirement, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		list, err = tx.Retirements(f)
		return err
	})
	return list, err
}

// PendingRetirements counts those that wait for a hub.
func (e *Engine) PendingRetirements(ctx context.Context) (n int64, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		n, err = tx.CountPendingRetirements()
		return err
	})
	return n, err
}

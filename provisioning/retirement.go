package provisioning

import (
	"cmp"
	"context"
	"slices"
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
	Confirmed time.Time // when no hub was waited for any more; zero: not yet, or it is not written yet
	Awaited   int64     // hubs that live elsewhere and have not confirmed: read, not written
	Returned  bool      // it has registered since: read, not written
}

// RetirementState says how far a retirement is.
type RetirementState string

// The states of a retirement.
const (
	RetirementPending  RetirementState = "pending"
	RetirementDone     RetirementState = "done"
	RetirementReturned RetirementState = "returned"
)

// State says whether the device has registered since, or hubs have not confirmed.
func (r Retirement) State() RetirementState {
	switch {
	case r.Returned:
		return RetirementReturned
	case r.Awaited > 0:
		return RetirementPending
	}
	return RetirementDone
}

// after is the receipt of a device that was retired before and has not come back: what was done then
// stays on it.
func (r Retirement) after(was Retirement) Retirement {
	if was.ID.IsZero() || was.Returned {
		return r
	}
	if was.HubPlace == (HubPlace{}) {
		was.HubPlace = r.HubPlace
	}
	was.Elsewhere = was.Elsewhere || r.Elsewhere
	was.Certificates += r.Certificates
	was.Open = slices.Compact(slices.Sorted(slices.Values(slices.Concat(was.Open, r.Open))))
	r.RetirePlan = was.RetirePlan
	r.Deleted = r.Deleted || was.Deleted
	r.Campaign = cmp.Or(r.Campaign, was.Campaign)
	return r
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
	// ConfirmedRetirements lists those that wait for no hub any more; ConfirmRetirement writes
	// that of one, if it still holds.
	ConfirmedRetirements(limit int) ([]verify.RegistrationID, error)
	ConfirmRetirement(id verify.RegistrationID, now time.Time) error
	// CountPendingRetirements counts those that wait for a hub.
	CountPendingRetirements() (int64, error)
}

// confirmRetirements notes which retirements wait for no hub any more: the last one has removed the
// device, or was given up, or has another device in its place.
func (e *Engine) confirmRetirements(ctx context.Context, jobs Store) (more bool, err error) {
	var page []verify.RegistrationID
	err = jobs.View(ctx, func(tx Tx) error {
		page, err = tx.ConfirmedRetirements(confirmPage)
		return err
	})
	if err != nil || len(page) == 0 {
		return false, err
	}
	now := e.now()
	err = jobs.Update(ctx, func(tx Tx) error {
		for _, id := range page {
			if err := tx.ConfirmRetirement(id, now); err != nil {
				return err
			}
		}
		return nil
	})
	return err == nil && len(page) == confirmPage, err
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

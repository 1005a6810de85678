package provisioning

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// Quarantine is a device that lives on a hub of an operator's choosing, whatever its entry says,
// until that is ended. Of each device the last one is on record, with the receipt of its hubs.
type Quarantine struct {
	ID        verify.RegistrationID
	Spelled   string
	Hub       string   // where it lives
	Twin      []byte   // that it gets there, as an initial twin; nil: an empty one
	From      HubPlace // that it was taken off; zero: none
	Shut      string   // the rule word of what refuses it anyway, so that it came to no hub; "": nothing did
	Why       string
	Actor     string
	Campaign  string // that it was part of; "": none
	At        time.Time
	EndedBy   string
	EndedAt   time.Time // zero: it stands
	Confirmed time.Time // when every hub had confirmed its beginning, or its end; zero: not yet
}

// Stands says that it has not been ended.
func (q Quarantine) Stands() bool { return !q.At.IsZero() && q.EndedAt.IsZero() }

// QuarantineState says how far a quarantine is.
type QuarantineState string

// The states of a quarantine.
const (
	QuarantinePending QuarantineState = "pending"
	QuarantineDone    QuarantineState = "done"
	QuarantineEnding  QuarantineState = "ending"
	QuarantineEnded   QuarantineState = "ended"
)

// State says whether it stands, and whether its hubs have confirmed that.
func (q Quarantine) State() QuarantineState {
	waits := q.Confirmed.IsZero()
	switch {
	case q.Stands() && waits:
		return QuarantinePending
	case q.Stands():
		return QuarantineDone
	case waits:
		return QuarantineEnding
	}
	return QuarantineEnded
}

// QuarantineHop is one hub of a quarantined device.
type QuarantineHop struct {
	Hub     string
	Removes bool   // it is to remove the device, else to have it
	Pending bool   // it has not confirmed that
	Problem string // of the last try
}

// QuarantineReport is a quarantine and how far its hubs are.
type QuarantineReport struct {
	Quarantine
	Hops []QuarantineHop
}

// QuarantineFilter narrows a list of quarantines, by id. Those that stand are listed, or those
// that have ended.
type QuarantineFilter struct {
	After    verify.RegistrationID
	Limit    int
	Hub      string
	Campaign string
	Ended    bool
	Pending  bool // hubs have not confirmed
}

// QuarantineTx is what is read and written of quarantines.
type QuarantineTx interface {
	Quarantine(verify.RegistrationID) (Quarantine, error)
	Quarantines(QuarantineFilter) ([]Quarantine, error)
	// PutQuarantine writes over an earlier one of the device.
	PutQuarantine(Quarantine) error
	// CountQuarantines counts those that stand, by hub.
	CountQuarantines() ([]HubCount, error)
	// QuarantinesOn counts those that stand on one hub.
	QuarantinesOn(hub string) (int64, error)
	// CountPendingQuarantines counts those that wait for a hub.
	CountPendingQuarantines() (int64, error)
	// ConfirmQuarantines writes the time to those whose hubs have all confirmed.
	ConfirmQuarantines(now time.Time) error
	// HubIdentitiesOf lists those of a registration, wherever.
	HubIdentitiesOf(verify.RegistrationID) ([]HubIdentityRecord, error)
}

// QuarantineOf reads the last quarantine of a device.
func (e *Engine) QuarantineOf(ctx context.Context, id verify.RegistrationID) (r QuarantineReport, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		if r.Quarantine, err = tx.Quarantine(id); err != nil {
			return err
		}
		r.Hops, err = r.hops(tx)
		return err
	})
	return r, err
}

// hops are the hubs that a quarantine is about, those first that remove the device.
func (q Quarantine) hops(tx Tx) (list []QuarantineHop, err error) {
	reg, err := tx.Registration(q.ID)
	if err != nil && !fault.Is(err, fault.NotFound) { // its record may have been deleted since
		return nil, err
	}
	told, err := tx.HubIdentitiesOf(q.ID)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{"": true}
	for _, rec := range told {
		known[rec.Hub] = true
		list = append(list, QuarantineHop{Hub: rec.Hub, Removes: rec.Hub != reg.Hub, Pending: rec.Hub != reg.Hub || rec.Generation > rec.Applied, Problem: rec.Problem})
	}
	for _, hub := range []string{q.From.Hub, q.Hub} {
		if known[hub] || hub == q.Hub && hub != reg.Hub && q.Stands() {
			continue // the one that it comes to when it registers
		}
		list = append(list, QuarantineHop{Hub: hub, Removes: hub != reg.Hub})
	}
	slices.SortFunc(list, func(a, b QuarantineHop) int {
		if a.Removes != b.Removes {
			return map[bool]int{true: -1, false: 1}[a.Removes]
		}
		return strings.Compare(a.Hub, b.Hub)
	})
	return list, nil
}

// Quarantines lists them by id.
func (e *Engine) Quarantines(ctx context.Context, f QuarantineFilter) (list []Quarantine, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		list, err = tx.Quarantines(f)
		return err
	})
	return list, err
}

// Quarantined counts the quarantines that stand, by hub.
func (e *Engine) Quarantined(ctx context.Context) (hubs []HubCount, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		hubs, err = tx.CountQuarantines()
		return err
	})
	return hubs, err
}

// PendingQuarantines counts those that wait for a hub.
func (e *Engine) PendingQuarantines(ctx context.Context) (n int64, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		n, err = tx.CountPendingQuarantines()
		return err
	})
	return n, err
}

// SweepQuarantines completes the receipts of those whose hubs have all confirmed. It follows from
// what hubs are still to be told, so nothing has to be counted.
func (e *Engine) SweepQuarantines(ctx context.Context, jobs Store) error {
	now, waiting := e.now(), int64(0)
	err := jobs.View(ctx, func(tx Tx) (err error) {
		waiting, err = tx.CountPendingQuarantines()
		return err
	})
	if err != nil || waiting == 0 {
		return err
	}
	return jobs.Update(ctx, func(tx Tx) error { return tx.ConfirmQuarantines(now) })
}

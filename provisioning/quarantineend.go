package provisioning

import (
	"context"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/verify"
)

// EndQuarantine takes a device off the hub of its quarantine, twin and all. When it registers again
// its entry decides, as for a device that comes for the first time. One that has ended stays so.
//
// Errors: NotFound "quarantine-not-found"; Malformed "quarantine-why".
func (e *Engine) EndQuarantine(ctx context.Context, actor string, id verify.RegistrationID, why string) (q Quarantine, err error) {
	if err := checkWhy(why); err != nil {
		return q, err
	}
	w := e.hubWriting(actor, 0)
	err = e.store.UpdateTrust(ctx, func(tx Tx) error {
		if q, err = tx.Quarantine(id); err != nil || !q.Stands() {
			return err
		}
		reg, err := tx.Registration(id)
		if err != nil {
			return err
		}
		reg.QuarantinedAt = time.Time{}
		if err := first(w.leave(tx, reg, true), w.ended(tx, &q, why)); err != nil {
			return err
		}
		return w.unassign(tx, reg)
	})
	return q, err
}

// ended writes that a quarantine has ended, for an operator or with its registration's record.
func (w hubWriting) ended(tx Tx, q *Quarantine, why string) error {
	q.EndedAt, q.EndedBy = w.at, w.actor
	return first(w.receipt(tx, q), tx.Append(audit.Event{At: w.at, Actor: w.actor, Action: audit.QuarantineEnded, Subject: "registration:" + q.ID.String(),
		Body: audit.Body(map[string]any{"hub": q.Hub, "why": why})}))
}

// endWithRecord ends the quarantine of a registration whose record is deleted, if there is one.
func (w hubWriting) endWithRecord(tx Tx, reg Registration) error {
	if reg.QuarantinedAt.IsZero() {
		return nil
	}
	q, err := tx.Quarantine(reg.ID)
	if err != nil {
		return err
	}
	return w.ended(tx, &q, "its registration's record was deleted")
}

package provisioning

import (
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// hinderedAgain bounds how often what is hindered is looked at: as long as it has been so
// already, within these.
const (
	minHinderedAgain = 24 * time.Hour
	maxHinderedAgain = 30 * 24 * time.Hour
)

// note brings the row about a registration's certificate up to date: tells the device once,
// says once for each reason that the roll is stuck, and forgets what is over. again is when
// to look at a hindered one once more, zero: no sooner than its pair says.
func (w *rollPages) note(l *rollLook, held bool) (again time.Time, err error) {
	was, row := l.Roll, l.Roll
	if row.Ref != l.next.Ref {
		row = Roll{ID: l.ID, Ref: l.next.Ref}
	}
	late := l.next.Move == rotation.Remind
	if !late && !was.ToldAt.IsZero() {
		if err := adviseInTwin(w.tx, l.registration(), nil, w.now); err != nil {
			return again, err
		}
	}
	reason := ""
	switch {
	case late && l.hindered != "":
		reason = l.hindered
	case l.acts && l.resigned(w.now) && was.Ref == l.next.Ref && was.Stuck != hubUnconfirmed:
		reason = was.Stuck // why it was not signed again, until it is
	case late && l.Pair.Stuck(l.rule, w.now):
		reason = string(l.next.Reason)
	}
	if reason == "" && l.waits.State != rotation.Empty && w.now.Sub(l.waits.RetireAt) > hubPatience {
		reason = hubUnconfirmed
	}
	if late && l.acts && !held && row.ToldAt.IsZero() {
		if err := remind(w.tx, jobRotation, l.registration(), l.front(), string(l.next.Reason), w.now); err != nil {
			return again, err
		}
		row.ToldAt, row.Tries = w.now, row.Tries+1
	}
	if row.Stuck != reason {
		row.Stuck, row.Since = reason, w.now
		if reason != "" {
			if err := w.tell(l, audit.RollStuck, l.next.Ref, reason); err != nil {
				return again, err
			}
		}
	}
	if reason != "" && reason == l.hindered {
		again = w.now.Add(min(maxHinderedAgain, max(minHinderedAgain, w.now.Sub(row.Since))))
	}
	switch {
	case row == was:
		return again, nil
	case row.ToldAt.IsZero() && row.Stuck == "":
		if was == (Roll{}) {
			return again, nil
		}
		return again, w.tx.DeleteRoll(l.ID)
	}
	return again, w.tx.PutRoll(row)
}

// remind tells a device that a successor of a certificate is due, or that it does not use the
// one it has: in the ledger, whose subscribers hear it, and in its twin's desired properties.
func remind(tx Tx, actor string, reg Registration, cell rotation.Cell, reason string, now time.Time) error {
	by := cell.NotAfter.UTC()
	return first(adviseInTwin(tx, reg, map[string]any{"by": by.Format(time.RFC3339), "reason": reason}, now),
		tx.Append(audit.Event{At: now, Actor: actor, Action: audit.RollTold, Subject: "registration:" + reg.ID.String(),
			Body: audit.Body(map[string]any{"ref": verify.Thumbprint(cell.Ref).String(), "reason": reason, "by": by})}))
}

// adviseInTwin tells a device in its twin to renew; nil takes that back.
func adviseInTwin(tx Tx, reg Registration, renew any, now time.Time) error {
	if reg.State != Assigned {
		return nil
	}
	_, err := sayInTwin(tx, reg, map[string]any{string(policies.ActRenew): renew}, maxTwinDesired, now)
	return err
}

// registration is what the planner knows of it.
func (p RollingPair) registration() Registration {
	return Registration{ID: p.ID, State: p.State, Hub: p.Hub, DeviceID: p.DeviceID, Pair: p.Pair}
}

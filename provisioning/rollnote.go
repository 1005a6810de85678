package provisioning

import (
	"encoding/json"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
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
		if err := w.untell(l); err != nil {
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
		if err := w.remind(l); err != nil {
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

// remind tells a device that a successor is due, or that it does not use the one it has:
// in the ledger, whose subscribers hear it, and in its twin's desired properties.
func (w *rollPages) remind(l *rollLook) error {
	by := l.front().NotAfter
	err := w.tx.Append(audit.Event{At: w.now, Actor: jobRotation, Action: audit.RollTold, Subject: "registration:" + l.ID.String(),
		Body: audit.Body(map[string]any{"ref": verify.Thumbprint(l.next.Ref).String(), "reason": string(l.next.Reason), "by": by})})
	if err != nil {
		return err
	}
	return w.advise(l, map[string]any{"by": by.UTC().Format(time.RFC3339), "reason": string(l.next.Reason),
		"campaign": nil, "at": nil}) // of a campaign that said it before
}

// untell takes the advice to renew back.
func (w *rollPages) untell(l *rollLook) error {
	twin, err := w.tx.Twin(l.ID)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	var desired struct {
		Muster struct{ Renew json.RawMessage }
	}
	if err != nil || json.Unmarshal(twin.Desired, &desired) != nil || desired.Muster.Renew == nil {
		return err
	}
	return w.advise(l, nil)
}

// advise writes muster.renew among the desired properties of the device's twin; nil removes
// it. The other properties stay.
func (w *rollPages) advise(l *rollLook, renew map[string]any) error {
	if l.Hub == "" || l.State != Assigned {
		return nil
	}
	device, err := verify.ParseRegistrationID(l.DeviceID)
	if err != nil {
		return err
	}
	// Maps of strings, whatever the values: they encode.
	patch, err := json.Marshal(map[string]any{"muster": map[string]any{"renew": renew}})
	if err != nil {
		return err
	}
	_, err = w.changeTwin(w.tx, jobRotation, TwinDraft{Hub: l.Hub, ID: device, Desired: patch}, Precondition{}, w.now)
	if rule := fault.RuleOf(err); rule == "twin-size" || rule == "twin-part" {
		return nil // a twin that is full takes no advice; the ledger has it
	}
	return err
}

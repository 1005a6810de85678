package provisioning

import (
	"context"
	"slices"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// rollPage is how many registrations one transaction looks at: devices wait for it.
const rollPage = 64

// SweepRegistrations looks at one page of the registrations that are due: it retires what
// has had its overlap, revokes what has left its pair, tells devices that are late, and says
// of each when to look again, all in one transaction. What needs a signature is handed on
// after it. more says that more is due.
//
// It may run in any number of processes at once: each move is made once (INV-S4).
func (e *Engine) SweepRegistrations(ctx context.Context, jobs Store) (more bool, err error) {
	now := e.now()
	going, replan, err := e.steady(ctx, jobs, now)
	if err != nil || !going {
		return false, err
	}
	if replan {
		more, err := e.replan(ctx, jobs, now)
		return more || err == nil, err
	}
	due, err := dueNow(ctx, jobs, now, 1)
	if err != nil || due == 0 {
		return false, err
	}
	page := &rollPages{}
	err = jobs.Update(ctx, func(tx Tx) error {
		page = &rollPages{Engine: e, tx: tx, now: now}
		return page.work()
	})
	if moved(err) {
		return true, nil
	}
	if err == nil && len(page.prepare) > 0 {
		err = e.resignPage(ctx, jobs, page.prepare)
	}
	return err == nil && page.full, err
}

// dueNow counts registrations that are due, but no further than to limit.
func dueNow(ctx context.Context, jobs Store, now time.Time, limit int) (n int64, err error) {
	err = jobs.View(ctx, func(tx Tx) error {
		n, err = tx.CountDue(now, limit)
		return err
	})
	return n, err
}

// rollRules are the rules by which certificates of devices roll, by issuing profile.
type rollRules map[string]policies.RotationPolicy

func readRules(tx Tx) (rollRules, error) {
	list, err := tx.Profiles()
	rules := make(rollRules, len(list))
	for _, p := range list {
		rules[p.Name] = p.Renewal
	}
	return rules, err
}

// of is the rule of the profile that issues to a device, the one that Register goes by.
func (r rollRules) of(p RollingPair) policies.RotationPolicy {
	if rule, there := r[p.Profile]; there && !p.Owner.IsZero() {
		return rule
	}
	return policies.DefaultRotationPolicy()
}

// rollPages is one page at work, in one transaction.
type rollPages struct {
	*Engine
	tx      Tx
	now     time.Time
	rules   rollRules
	gate    rollGate
	distant map[string]bool         // hubs that live elsewhere
	full    bool                    // there may be more
	prepare []verify.RegistrationID // whose requests are to be signed again
}

func (w *rollPages) work() (err error) {
	if w.rules, err = readRules(w.tx); err != nil {
		return err
	}
	plans, err := w.tx.Plans()
	if err != nil {
		return err
	}
	links, err := w.tx.HubLinks()
	if err != nil {
		return err
	}
	w.distant = make(map[string]bool, len(links))
	for _, l := range links {
		w.distant[l.Hub] = true
	}
	list, err := w.tx.ClaimPairs(w.now, rollPage)
	if err != nil {
		return err
	}
	w.full = len(list) == rollPage
	w.gate = newRollGate(plans, w.now)
	looks := make([]rollLook, len(list))
	for i, p := range list {
		waits, err := w.waitsForHub(p)
		if err != nil {
			return err
		}
		looks[i] = w.look(p, waits)
	}
	if err := w.gate.reserve(w.tx); err != nil {
		return err
	}
	for i := range looks {
		if err := w.settle(&looks[i]); err != nil {
			return err
		}
	}
	return nil
}

// rollLook is what is to be done about one registration.
type rollLook struct {
	RollingPair
	rule     policies.RotationPolicy
	gone     []rotation.Decision // taken out of the pair
	waits    rotation.Cell       // its overlap is over, and the hub has not confirmed that; empty: none
	leftover bool                // certificates may have left the pair before
	next     rotation.Decision   // what it needs then
	hindered string              // the rule word of why it cannot go on; "": nothing
	acts     bool                // the device is to be told, or its request signed again
	pass     rollPass
}

// look decides, from values alone.
func (w *rollPages) look(p RollingPair, waits bool) rollLook {
	l := rollLook{RollingPair: p, rule: w.rules.of(p)}
	l.leftover = p.IsMarked()
	// What waits for its hub keeps its slot; the rest of the pair waits for nobody.
	for rest := l.Pair; ; {
		next := rest.Next(l.rule, w.now)
		if l.waits.State == rotation.Empty || next.Ref != (rotation.Ref{}) {
			l.next = next
		}
		if next.Move != rotation.Retire && next.Move != rotation.Drop {
			break
		}
		rest = rest.Drop(next.Ref)
		if waits && next.Move == rotation.Retire {
			l.waits = l.front()
			continue
		}
		l.gone = append(l.gone, next)
		l.Pair = l.Pair.Drop(next.Ref)
	}
	l.hindered = w.hindrance(p)
	told := l.Roll.Ref == l.next.Ref && !l.Roll.ToldAt.IsZero()
	switch {
	case l.hindered != "":
	case l.resigned(w.now):
		l.acts = true
	case l.next.Move == rotation.Remind:
		l.acts = !told
	}
	if l.acts {
		l.pass = w.gate.ask(l)
	}
	return l
}

// resigned says that the device's request is to be signed again: it cannot ask.
func (l *rollLook) resigned(now time.Time) bool {
	if !l.rule.Retain {
		return false
	}
	switch l.next.Reason {
	case rotation.PrepareDue, rotation.RenewalLate:
		return true
	case rotation.Expired:
		c := l.front()
		return now.Before(c.NotAfter.Add(l.rule.Grace))
	}
	return false
}

// front is the cell that the decision is about.
func (l *rollLook) front() rotation.Cell {
	slot, _ := l.Pair.Find(l.next.Ref)
	return l.Pair.Cell(slot)
}

// hindrance is the rule word of why no successor can come, "" when one can.
func (w *rollPages) hindrance(p RollingPair) string {
	_, there := w.rules[p.Profile]
	switch {
	case p.Owner.IsZero():
		return "registration-orphaned"
	case !p.Enabled:
		return "enrollment-disabled"
	case p.State == Failed:
		return "registration-failed"
	case p.Profile == "":
		return "no-issuing-profile"
	case !there:
		return "profile-missing"
	}
	return ""
}

// settle makes the moves.
func (w *rollPages) settle(l *rollLook) error {
	for _, d := range l.gone {
		if err := w.tell(l, goneAction[d.Move], d.Ref, string(d.Reason)); err != nil {
			return err
		}
	}
	if len(l.gone) > 0 || l.leftover {
		if err := w.supersede(l); err != nil {
			return err
		}
	}
	if l.rule.Retain {
		if err := settlePending(w.tx, l.registration(), w.now); err != nil {
			return err
		}
	}
	due := laterHour(l.Pair.DueAfter(l.rule, w.now), w.now)
	held := l.acts && !w.gate.admits(&l.pass)
	if l.waits.State != rotation.Empty {
		due = sooner(due, w.now.Add(hubAgain))
	}
	switch {
	case held:
		due = sooner(due, l.pass.again)
	case l.acts && l.resigned(w.now):
		w.prepare = append(w.prepare, l.ID)
		due = sooner(due, w.now.Add(resignLease))
	}
	again, err := w.note(l, held)
	if err != nil {
		return err
	}
	if due = sooner(due, again); len(l.gone) == 0 {
		return w.tx.PutDue(l.ID, due)
	}
	l.DueAt, l.Updated, l.Version = due, w.now, l.Version+1
	return first(w.tx.StepHubIdentity(placeOn(l.Hub, l.ID, l.DeviceID), w.now), w.tx.PutPair(l.RollingPair))
}

var goneAction = map[rotation.Move]audit.Action{rotation.Retire: audit.RollRetired, rotation.Drop: audit.RollDropped}

// sooner is the earlier of two dates of which zero is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// tell writes the ledger row of a move.
func (w *rollPages) tell(l *rollLook, action audit.Action, ref rotation.Ref, reason string) error {
	return w.tx.Append(audit.Event{At: w.now, Actor: jobRotation, Action: action, Subject: "registration:" + l.ID.String(),
		Body: audit.Body(map[string]any{"ref": verify.Thumbprint(ref).String(), "reason": reason})})
}

// supersede revokes what was issued to the device, is good still and stands in its pair no
// more. What an entry pins is that entry's credential, and stays.
func (w *rollPages) supersede(l *rollLook) error {
	certs, err := w.tx.GoodCertificates(l.ID, w.now)
	if err != nil {
		return err
	}
	for _, c := range certs {
		ref := rotation.Ref(c.Thumbprint)
		if _, held := l.Pair.Find(ref); held {
			continue
		}
		holders, err := w.tx.HoldersOf(c.Thumbprint)
		if err != nil {
			return err
		}
		if len(holders) > 0 {
			continue
		}
		event := audit.Event{At: w.now, Actor: jobRotation, Subject: "certificate:" + string(c.Serial),
			Body: audit.Body(map[string]any{"registrationId": l.ID.String()})}
		if _, err := ca.RevokeIn(w.tx, c, ca.Superseded, event, w.now); err != nil {
			return err
		}
		if err := w.tx.DropHubThumbprint(thumbprintText(c.Thumbprint[:]), w.now); err != nil {
			return err
		}
		if !l.took(ref) {
			if err := w.tell(l, audit.RollDropped, ref, "replaced"); err != nil {
				return err
			}
		}
	}
	return nil
}

// took says that a certificate was taken out of the pair just now.
func (l *rollLook) took(ref rotation.Ref) bool {
	return slices.ContainsFunc(l.gone, func(d rotation.Decision) bool { return d.Ref == ref })
}

// cutOver is the certificate that was seen in use for the first time between two pairs, ""
// when none was.
func cutOver(before, after rotation.Pair) string {
	for _, slot := range []rotation.Slot{rotation.Primary, rotation.Secondary} {
		was, is := before.Cell(slot), after.Cell(slot)
		if was.State == rotation.Staged && is.State == rotation.Active && was.Ref == is.Ref {
			return verify.Thumbprint(is.Ref).String()
		}
	}
	return ""
}

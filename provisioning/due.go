package provisioning

import (
	"cmp"
	"context"
	"crypto/x509"
	"slices"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// Due is something that the planner, or a person, has to look at.
type Due struct {
	Role   ExpiryRole
	Name   string // a registration id, an entry's id, an issuer's id, an anchor's name
	At     time.Time
	Move   string    // what the pair needs then, as far as can be told now; "review": to be seen
	Reason string    // a rule word
	Ends   time.Time // of what is in use; zero: it has no end
	Plan   string    // that decides about it; "" none
	Opens  time.Time // when the plan's window opens next, if it is closed at At
	Paused bool      // the plan is
}

// Moves and reasons of what is not a pair's move.
const (
	moveReview = "review"
	moveStaged = "promote"
	moveLook   = "replace"

	reasonPrepared = "prepared"
	reasonEnds     = "ends"
	reasonLook     = "looked-at"
)

// DueQuery narrows what is due. Zero values do not narrow.
type DueQuery struct {
	By    time.Time
	Role  ExpiryRole
	Limit int
}

// Due lists what is due at a time or before, soonest first: what the planner looks at, and
// issuers and anchors whose successors take people.
func (e *Engine) Due(ctx context.Context, q DueQuery) (list []Due, err error) {
	now := e.now()
	err = e.store.View(ctx, func(tx Tx) error {
		d := dueing{tx: tx, now: now, query: q, owners: map[Owner]Enrollment{}}
		list, err = d.all()
		return err
	})
	slices.SortStableFunc(list, func(a, b Due) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Name, b.Name)) })
	return list[:min(len(list), q.Limit)], err
}

// dueing makes the list in one View.
type dueing struct {
	tx       Tx
	now      time.Time
	query    DueQuery
	plans    []policies.RotationPlan
	profiles []Profile
	owners   map[Owner]Enrollment
	list     []Due
}

func (d *dueing) all() ([]Due, error) {
	var err error
	if d.plans, err = PlansOnRecord(d.tx); err != nil {
		return nil, err
	}
	if d.profiles, err = d.tx.Profiles(); err != nil {
		return nil, err
	}
	for _, part := range []struct {
		roles []ExpiryRole
		read  func() error
	}{
		{[]ExpiryRole{ExpiryDevices}, d.devices},
		{[]ExpiryRole{ExpiryEnrollments, ExpiryGroups, ExpiryKeys}, d.entries},
		{[]ExpiryRole{ExpiryIssuers}, d.issuers},
		{[]ExpiryRole{ExpiryAnchors}, d.anchors},
	} {
		if d.query.Role != "" && !slices.Contains(part.roles, d.query.Role) {
			continue
		}
		if err := part.read(); err != nil {
			return nil, err
		}
	}
	return d.list, nil
}

// add adds something, with the plan that decides about it.
func (d *dueing) add(x Due, role policies.RollRole, o Owner, profile string) {
	if x.At.After(d.query.By) || d.query.Role != "" && x.Role != d.query.Role {
		return
	}
	if p, found := policies.Nearest(d.plans, role, o.ID.String(), profile); found {
		x.Plan, x.Paused = p.Name, p.Paused
		if open, next := p.Windows.Open(later(x.At, d.now)); !open {
			x.Opens = next
		}
	}
	d.list = append(d.list, x)
}

func (d *dueing) devices() error {
	page, err := d.tx.NextRegistrations(d.query.By, d.query.Limit)
	if err != nil {
		return err
	}
	for _, reg := range page {
		entry, err := d.owner(reg.Owner)
		if err != nil {
			return err
		}
		x := Due{Role: ExpiryDevices, Name: reg.ID.String(), At: reg.DueAt, Ends: reg.Pair.Current().NotAfter}
		x.Move, x.Reason = d.move(reg.Pair, d.renewal(entry.Profile), reg.DueAt)
		d.add(x, policies.RollDevices, reg.Owner, entry.Profile)
	}
	return nil
}

// owner is the entry of a registration, empty for an orphan's.
func (d *dueing) owner(o Owner) (Enrollment, error) {
	if entry, read := d.owners[o]; read || o.IsZero() {
		return entry, nil
	}
	entry, err := d.tx.Enrollment(o)
	if err == nil {
		d.owners[o] = entry
	}
	return entry, err
}

func (d *dueing) renewal(profile string) policies.RotationPolicy {
	for _, p := range d.profiles {
		if p.Name == profile {
			return p.Renewal
		}
	}
	return policies.DefaultRotationPolicy()
}

// move is what a pair needs when it is due.
func (d *dueing) move(p rotation.Pair, rule policies.RotationPolicy, at time.Time) (move, reason string) {
	next := p.Next(rule, later(at, d.now))
	if next.Move == rotation.Keep {
		return moveReview, reasonLook
	}
	return next.Move.String(), string(next.Reason)
}

func (d *dueing) entries() error {
	page, err := d.tx.NextEntries(d.query.By, d.query.Limit)
	if err != nil {
		return err
	}
	for _, entry := range page {
		x, role := Due{Role: ExpiryEnrollments, Name: entry.ID.String(), At: entry.DueAt}, entry.rollRole()
		switch role {
		case policies.RollKeys:
			x.Role = ExpiryKeys
		case policies.RollGroups:
			x.Role = ExpiryGroups
		}
		x.Move, x.Reason = moveReview, reasonLook
		if role != policies.RollKeys { // keys have no end: the sweep alone knows
			slots, err := readSlots(d.tx, entry)
			if err != nil {
				return err
			}
			x.Ends = slots.pair.Current().NotAfter
			if !x.Ends.IsZero() {
				x.Move, x.Reason = d.move(slots.pair, entryPlan(d.plans, entry).Rotation(), entry.DueAt)
			}
		}
		d.add(x, role, entry.Owner, "")
	}
	return nil
}

func (d *dueing) issuers() error {
	issuers, err := d.tx.Issuers()
	if err != nil {
		return err
	}
	for _, i := range issuers {
		cert, err := x509.ParseCertificate(i.Certificate)
		if err != nil {
			continue // nothing is known of its dates
		}
		x := Due{Role: ExpiryIssuers, Name: string(i.ID), Ends: cert.NotAfter, Move: rotation.Prepare.String(), Reason: string(rotation.PrepareDue)}
		plan, _ := policies.Nearest(d.plans, policies.RollIssuers, "", i.Profile)
		rule := plan.Rotation()
		switch i.State {
		case ca.IssuerActive:
			if Succeeded(issuers, i) {
				continue
			}
			x.At = rule.PrepareAfter(cert.NotBefore, cert.NotAfter)
		case ca.IssuerPrepared:
			x.At, x.Move, x.Reason = i.Created.Add(plan.Publish), moveStaged, reasonPrepared
		case ca.IssuerRetiring:
			if i.RetireAt.IsZero() {
				continue // when its last certificate has ended
			}
			x.At, x.Move, x.Reason = i.RetireAt, rotation.Retire.String(), string(rotation.OverlapOver)
		default:
			continue
		}
		d.add(x, policies.RollIssuers, Owner{}, i.Profile)
	}
	return nil
}

// anchors want a person: the owner of the CA makes the next one.
func (d *dueing) anchors() error {
	for after := ""; ; {
		page, err := d.tx.Anchors(after, surveyPage)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, a := range page {
			cert := a.Link().Cert
			after = a.Name()
			at := policies.DefaultRotationPolicy().PrepareAfter(cert.NotBefore, cert.NotAfter)
			if !at.After(d.query.By) && (d.query.Role == "" || d.query.Role == ExpiryAnchors) {
				d.list = append(d.list, Due{Role: ExpiryAnchors, Name: a.Name(), At: at, Ends: cert.NotAfter, Move: moveLook, Reason: reasonEnds})
			}
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Rotation is how rolling goes: what is overdue, and what does not go on.
type Rotation struct {
	Overdue int64 // registrations and entries due for more than an hour, counted up to maxCounted each
	Stuck   []ReasonCount
	// ClockAlarm: a clock that jumped is waited out, and nothing rolls.
	ClockAlarm bool
	Failing    []string // subscriptions whose notices have not been taken for more than an hour
	Waiting    []string // hubs elsewhere that have not been told of a device for more than an hour
}

// failingTries are the failures in a row that take more than an hour: the pauses between
// them double from a second on.
const failingTries = 13

const (
	// maxCounted bounds a count of what is overdue: beyond it, how much more matters to nobody.
	maxCounted = 10_000
	// overdueAfter is how long something may be due before that is worth a word: sweeps run
	// each minute, and what a plan holds back is not due.
	overdueAfter = time.Hour
)

// Rotation reads how rolling goes.
func (e *Engine) Rotation(ctx context.Context) (r Rotation, err error) {
	by := e.now().Add(-overdueAfter)
	err = e.store.View(ctx, func(tx Tx) error {
		r = Rotation{}
		if r.Overdue, err = tx.CountAllDue(by, maxCounted); err != nil {
			return err
		}
		if r.Stuck, err = tx.StuckReasons(); err != nil {
			return err
		}
		clock, err := tx.ClockRecord()
		if err != nil {
			return err
		}
		r.ClockAlarm = !clock.Jump.IsZero()
		subscriptions, err := tx.Subscriptions()
		for _, s := range subscriptions {
			if s.Enabled && s.Tries >= failingTries {
				r.Failing = append(r.Failing, s.Name)
			}
		}
		return err
	})
	if err != nil {
		return r, err
	}
	hubs, err := e.LinkedHubs(ctx)
	for _, h := range hubs {
		if h.Driver != BuiltIn && !h.Since.IsZero() && h.Since.Before(by) {
			r.Waiting = append(r.Waiting, h.Name)
		}
	}
	return r, err
}

// Stuck lists rolls of devices that do not go on, for one reason, by registration id.
func (e *Engine) Stuck(ctx context.Context, reason string, after verify.RegistrationID, limit int) (list []StuckDevice, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		list, err = tx.StuckDevices(reason, after, limit)
		return err
	})
	return list, err
}

package provisioning

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// IncidentReport is an incident with its receipts by hub.
type IncidentReport struct {
	Incident
	Hubs []IncidentHub
}

// Pending counts the devices whose hub has not confirmed.
func (r IncidentReport) Pending() (n int64) {
	for _, h := range r.Hubs {
		n += h.Pending
	}
	return n
}

// Disallowance reads one incident and how far it is.
func (e *Engine) Disallowance(ctx context.Context, id string) (r IncidentReport, err error) {
	now := e.now()
	err = e.store.View(ctx, func(tx Tx) error {
		if r.Incident, err = tx.Incident(id); err != nil {
			return err
		}
		if r.Hubs, err = tx.IncidentHubs(id); err != nil {
			return err
		}
		for i, h := range r.Hubs {
			if h.Pending > 0 {
				if r.Hubs[i].HubWait, err = e.waitFor(tx, h.Hub, 0, now); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return r, err
}

// Disallowances lists incidents, newest first, before one.
func (e *Engine) Disallowances(ctx context.Context, before string, limit int) (list []Incident, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		list, err = tx.Incidents(before, limit)
		return err
	})
	return list, err
}

// DisallowedDevices lists the receipts of an incident by registration id, behind one.
func (e *Engine) DisallowedDevices(ctx context.Context, id, after string, limit int, pending bool) (list []IncidentDevice, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		if _, err := tx.Incident(id); err != nil {
			return err
		}
		list, err = tx.IncidentDevices(id, after, limit, pending)
		return err
	})
	return list, err
}

const jobIncidents = "job:disallow"

// step is how many registrations one transaction follows up: devices wait for it. Where their
// certificates are revoked each is some ten writes.
func (i Incident) step() int {
	if !i.Since.IsZero() {
		return 32
	}
	return 128
}

// SweepIncidents carries disallowances to where they are not known yet: a page of the
// registrations that rest on what is compromised, of each open incident, and what hubs have
// confirmed. more says that there is more to be done at once.
func (e *Engine) SweepIncidents(ctx context.Context, jobs Store) (more bool, err error) {
	var open []Incident
	err = jobs.View(ctx, func(tx Tx) error {
		open, err = tx.OpenIncidents()
		return err
	})
	if err != nil {
		return false, err
	}
	var failed []error
	for _, i := range open {
		step := e.followIncident
		if !i.Passed.IsZero() {
			step = e.confirmIncident
		}
		goesOn, err := step(ctx, jobs, i)
		if fault.RuleOf(err) == "incident-moved" || moved(err) {
			goesOn, err = true, nil // another process was first, or a device came
		}
		more = more || goesOn
		failed = append(failed, err)
	}
	return more, errors.Join(failed...)
}

// followIncident takes the next page of registrations. It is found in a View, which holds nobody
// up: the rows are all there are.
func (e *Engine) followIncident(ctx context.Context, jobs Store, i Incident) (more bool, err error) {
	now := e.now()
	page, err := e.incidentPage(ctx, jobs, i)
	if err != nil {
		return false, err
	}
	err = jobs.Update(ctx, func(tx Tx) error {
		links, err := tx.HubLinks()
		if err != nil {
			return err
		}
		next, barred := i, &bars{tx: tx}
		for _, d := range page {
			told := slices.ContainsFunc(links, func(l HubLink) bool { return l.Hub == d.Hub })
			if !told && !d.Closer && i.Since.IsZero() && i.LiftedAt.IsZero() && len(i.Issuers) == 0 {
				err = tx.SettleIncidentDevice(i.ID, d, now) // the built-in hub knew at the commit
			} else {
				err = e.followDevice(tx, &next, barred, d.Registration, now)
			}
			if err != nil {
				return err
			}
			next.Cursor = d.Registration.String()
			next.Devices++
		}
		if more = len(page) == i.step(); !more {
			next.Passed = now
			if next.Devices, err = tx.CountIncidentDevices(i.ID); err != nil {
				return err
			}
		}
		return tx.MoveIncident(i, next)
	})
	return err == nil, err
}

// incidentPage is who is next of those that rest on what is compromised; once it is lifted their
// hubs are told again, whether they had been told of it or not.
func (e *Engine) incidentPage(ctx context.Context, jobs Store, i Incident) (page []RestingDevice, err error) {
	c, err := newCompromise(i.Certificate, i.Scope)
	if err != nil {
		return nil, err
	}
	on := c.restsOn()
	on.Issuers = i.Issuers
	err = jobs.View(ctx, func(tx Tx) error {
		page, err = tx.RestingOn(on, i.Cursor, i.step())
		return err
	})
	return page, err
}

// followDevice revokes what was issued to a device since, and has its hub told.
func (e *Engine) followDevice(tx Tx, i *Incident, barred *bars, id verify.RegistrationID, now time.Time) error {
	reg, err := tx.Registration(id)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if i.LiftedAt.IsZero() {
		rests := false
		if reg, rests, err = dropLost(tx, reg, now); err != nil {
			return err
		}
		if barred, err := barred.has(reg); err != nil || !barred && !rests {
			return err // it came with something clean meanwhile
		}
	}
	if i.LiftedAt.IsZero() && !i.Since.IsZero() {
		certs, err := tx.GoodCertificates(reg.ID, now)
		if err != nil {
			return err
		}
		for _, cert := range certs {
			if cert.Issued.Before(i.Since) {
				continue
			}
			if err := e.revokeFor(tx, cert, *i, jobIncidents, now); err != nil {
				return err
			}
			i.Revoked++
		}
	}
	return receive(tx, i.ID, reg, now)
}

// receive has a device's hub told, and writes the receipt that waits for it.
func receive(tx Tx, incident string, reg Registration, now time.Time) error {
	d := IncidentDevice{Registration: reg.ID, HubPlace: reg.place(), Found: now}
	told, err := tx.StepHubIdentities(reg.ID, now)
	if err != nil {
		return err
	}
	if d.Awaited = told > 0; !d.Awaited {
		d.Confirmed = now // the built-in hub knew at the commit
	}
	return tx.PutIncidentDevice(incident, d)
}

// confirmIncident notes which hubs have confirmed, a page at a time, and ends the incident when all
// have. They are found in a View: of a hub that is down every receipt is looked at, once in a run.
// None is added once the pass is over, but by a lift, which moves the incident.
func (e *Engine) confirmIncident(ctx context.Context, jobs Store, i Incident) (more bool, err error) {
	for after := (verify.RegistrationID{}); ; {
		var page []verify.RegistrationID
		err = jobs.View(ctx, func(tx Tx) error {
			page, err = tx.ConfirmedDevices(i.ID, after, confirmPage)
			return err
		})
		if err != nil || len(page) == 0 {
			break
		}
		now := e.now()
		err = jobs.Update(ctx, func(tx Tx) error {
			for _, id := range page {
				if err := tx.ConfirmIncidentDevice(i.ID, id, now); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			break
		}
		after = page[len(page)-1]
	}
	if err != nil {
		return false, err
	}
	return false, e.endIncident(ctx, jobs, i)
}

// endIncident ends an incident of which no receipt is pending.
func (e *Engine) endIncident(ctx context.Context, jobs Store, i Incident) error {
	var pending []IncidentDevice
	err := jobs.View(ctx, func(tx Tx) (err error) {
		pending, err = tx.IncidentDevices(i.ID, "", 1, true)
		return err
	})
	if err != nil || len(pending) > 0 {
		return err
	}
	now := e.now()
	return jobs.Update(ctx, func(tx Tx) error {
		next := i
		next.Done = now
		return first(tx.MoveIncident(i, next), tx.Append(next.event(audit.DisallowDone, jobIncidents, now)))
	})
}

// confirmPage is how many receipts one transaction confirms.
const confirmPage = 250

// PendingDisallowed counts the devices, of all incidents, whose hub has not confirmed.
func (e *Engine) PendingDisallowed(ctx context.Context) (n int64, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		n, err = tx.CountPendingReceipts()
		return err
	})
	return n, err
}

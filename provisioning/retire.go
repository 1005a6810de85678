package provisioning

import (
	"context"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// retiree is a device that is to leave service: what is on record of it, and what becomes of that.
type retiree struct {
	id      verify.RegistrationID
	spelled string
	plan    RetirePlan
	reg     *Registration    // nil: it never registered, or its record was deleted
	certs   []ca.Certificate // ours, and good
}

// done says that nothing is left to be done.
func (r retiree) done(deleteRecord bool) bool {
	return r.plan.Entry == FateWasDisabled && r.plan.HubPlace == HubPlace{} && r.plan.Certificates == 0 && (r.reg == nil || !deleteRecord)
}

// PreviewRetire says what retiring a device would do, by the same code, and does nothing.
//
// Errors: NotFound "device-unknown" for a device of which nothing is on record.
func (e *Engine) PreviewRetire(ctx context.Context, id verify.RegistrationID) (p RetirePlan, err error) {
	now := e.now()
	err = e.store.View(ctx, func(tx Tx) error {
		r, err := e.retiree(tx, id, now)
		p = r.plan
		return err
	})
	return p, err
}

// Retire takes a device out of service in one act: its own enrollment is disabled, or made as a
// disabled one, so that no group admits it; its certificates of ours are revoked; its hub removes it, and
// one that lives elsewhere confirms that later. Its registration stays on record, on no hub, unless it is
// to be deleted. A device that is retired already is answered as it is.
//
// Errors: as PreviewRetire.
func (e *Engine) Retire(ctx context.Context, actor string, id verify.RegistrationID, deleteRecord bool) (done Retirement, err error) {
	w := e.hubWriting(actor, 0)
	keys, err := newKeys()
	if err != nil {
		return done, err
	}
	err = e.store.UpdateTrust(ctx, func(tx Tx) error {
		r, err := e.retiree(tx, id, w.at)
		if err != nil {
			return err
		}
		if r.done(deleteRecord) {
			if done, err = tx.Retirement(id); !fault.Is(err, fault.NotFound) {
				return err
			}
		}
		done, err = w.retire(tx, r, retiring{deleteRecord: deleteRecord, keys: keys})
		return err
	})
	return done, err
}

// retiree reads what is on record of a device.
func (e *Engine) retiree(tx Tx, id verify.RegistrationID, now time.Time) (r retiree, err error) {
	r.id, r.spelled = id, id.String()
	entry, err := tx.Enrollment(Owner{Kind: Individual, ID: id})
	switch {
	case fault.Is(err, fault.NotFound):
		r.plan.Entry = FateException
	case err != nil:
		return r, err
	case entry.Enabled:
		r.plan.Entry, r.spelled = FateDisabled, entry.Spelled
	default:
		r.plan.Entry, r.spelled = FateWasDisabled, entry.Spelled
	}
	reg, err := tx.Registration(id)
	switch {
	case err == nil:
		r.reg, r.spelled = &reg, reg.Spelled
		r.plan.Owner = reg.Owner
		if reg.Hub != "" {
			r.plan.HubPlace = reg.place()
		}
	case !fault.Is(err, fault.NotFound):
		return r, err
	}
	if r.certs, err = tx.GoodCertificates(id, now); err != nil {
		return r, err
	}
	r.plan.Certificates = int64(len(r.certs))
	if r.reg == nil && r.plan.Entry == FateException && len(r.certs) == 0 {
		return r, fault.New(fault.NotFound, "device-unknown", "nothing is on record of this device: no registration, no enrollment of its own, no certificate").About("registration " + id.String())
	}
	awaited, err := tx.CountHubIdentities(id)
	if err != nil {
		return r, err
	}
	r.plan.Elsewhere = awaited > 0
	r.plan.Open, err = r.open(tx, entry)
	return r, err
}

// open is what a retirement leaves open.
func (r retiree) open(tx Tx, entry Enrollment) (words []string, err error) {
	outside := entry.Role() == RoleClient
	if r.reg != nil && !r.reg.Leaf.IsZero() {
		ours, err := issuedAs(tx, r.reg.Leaf)
		if err != nil {
			return nil, err
		}
		outside = outside || ours == nil
	}
	if outside {
		words = append(words, OpenOutsideCertificate)
	}
	if r.reg != nil {
		return words, nil
	}
	hubs, err := tx.Hubs()
	if err != nil {
		return nil, err
	}
	for _, h := range hubs {
		if h.Driver != BuiltIn {
			continue
		}
		switch _, err := tx.HubRecord(h.Name, r.id); {
		case err == nil:
			return append(words, OpenHubDevice), nil
		case !fault.Is(err, fault.NotFound):
			return nil, err
		}
	}
	return words, nil
}

// retiring is how a device is retired. The keys, of an exception, are made before the transaction.
type retiring struct {
	deleteRecord bool
	campaign     string
	keys         [2][]byte
}

// facts name the campaign, if there is one.
func (how retiring) facts(more map[string]any) map[string]any {
	if how.campaign != "" {
		more["campaign"] = how.campaign
	}
	return more
}

// retire writes all that a retirement is. Hubs' rows come before the registration's own, as
// everywhere.
func (w hubWriting) retire(tx Tx, r retiree, how retiring) (Retirement, error) {
	done := Retirement{ID: r.id, Spelled: r.spelled, RetirePlan: r.plan, Deleted: how.deleteRecord && r.reg != nil, Actor: w.actor, Campaign: how.campaign, At: w.at}
	awaited, err := tx.StepHubIdentities(r.id, w.at)
	if err != nil {
		return done, err
	}
	if done.Awaited = awaited; awaited == 0 {
		done.Confirmed = w.at
	}
	for _, c := range r.certs {
		event := audit.Event{At: w.at, Actor: w.actor, Subject: "certificate:" + string(c.Serial),
			Body: audit.Body(how.facts(map[string]any{"registrationId": r.id.String()}))}
		if _, err := ca.RevokeIn(tx, c, ca.CessationOfOperation, event, w.at); err != nil {
			return done, err
		}
		if err := tx.DropHubThumbprint(thumbprintText(c.Thumbprint[:]), w.at); err != nil {
			return done, err
		}
	}
	if err := w.shutOut(tx, r, how.keys); err != nil {
		return done, err
	}
	if r.reg != nil {
		if how.deleteRecord {
			err = w.deleteRecord(tx, *r.reg, true, how.facts(map[string]any{"retired": true}))
		} else {
			err = w.takeFromService(tx, *r.reg)
		}
		if err != nil {
			return done, err
		}
	}
	facts := how.facts(map[string]any{"enrollment": string(r.plan.Entry), "certificates": len(r.certs), "recordDeleted": done.Deleted})
	if r.plan.Hub != "" {
		facts["hub"], facts["deviceId"] = r.plan.Hub, r.plan.Device.String()
	}
	return done, first(tx.PutRetirement(done), tx.Append(audit.Event{At: w.at, Actor: w.actor, Action: audit.DeviceRetired, Subject: "registration:" + r.id.String(), Body: audit.Body(facts)}))
}

// shutOut disables the device's own enrollment, or makes a disabled one that shadows every group
// (scenarios I3).
func (w hubWriting) shutOut(tx Tx, r retiree, keys [2][]byte) error {
	o := Owner{Kind: Individual, ID: r.id}
	switch r.plan.Entry {
	case FateWasDisabled:
		return nil
	case FateDisabled:
		return w.applyEffect(tx, EntryEffect{Owner: o, Act: EntryShut}, w.actor, w.at)
	}
	exception, err := w.compose(tx, Draft{
		Owner: o, Spelled: r.spelled, Attestation: Attestation{Role: RoleKey}, Allocation: policies.Hashed, Reprovision: policies.DefaultReprovisionPolicy(),
	}, Enrollment{}, keys, w.at)
	if err != nil {
		return err
	}
	return first(tx.InsertEnrollment(exception), tx.Append(entryEvent(w.actor, audit.EnrollmentCreated, Enrollment{}, exception, w.at)))
}

// takeFromService leaves a registration's record without hub and certificates. It belongs to
// the enrollment that shuts the device out, so that no group counts it any more.
func (w hubWriting) takeFromService(tx Tx, reg Registration) error {
	if err := first(dropRetained(tx, reg, w.at), w.leave(tx, reg, true), tx.DeleteRoll(reg.ID), tx.DeleteTPMDevice(reg.ID)); err != nil {
		return err
	}
	reg.Owner = Owner{Kind: Individual, ID: reg.ID}
	reg.Pair, reg.DueAt = rotation.Pair{}, time.Time{}
	if reg.State == Assigning {
		reg.State = Unassigned
	}
	return w.unassign(tx, reg)
}

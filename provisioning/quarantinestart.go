package provisioning

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// A quarantine is a move, and no refusal: the device goes on registering and renewing, and lives
// where its operator can watch it. Whom something else refuses it does not let in.

// RuleQuarantined is the rule word of what is not done to a device in quarantine.
const RuleQuarantined = "registration-quarantined"

// QuarantineRequest is a device that is to be quarantined.
type QuarantineRequest struct {
	ID   verify.RegistrationID
	Hub  string
	Twin []byte // nil: that of the configuration
	Why  string
}

// QuarantinePlan is what a quarantine does.
type QuarantinePlan struct {
	Hub       string   // where the device will live
	From      HubPlace // that it is taken off; zero: none
	Shut      string   // the rule word of what refuses it anyway; "": nothing does
	AtOnce    bool     // it comes to its hub at once, else when it registers
	Elsewhere bool     // a hub that lives elsewhere has to confirm
	Was       string   // the hub on which it is in quarantine already; "": on none
}

// maxWhy is the most characters that an operator's reason takes.
const maxWhy = 200

// complete checks what is asked for.
func (e *Engine) complete(r QuarantineRequest) (QuarantineRequest, error) {
	r.Hub = strings.ToLower(r.Hub)
	if r.Twin == nil {
		r.Twin = e.quarantineTwin
	}
	if err := CheckTwin(r.Twin); err != nil {
		return r, err
	}
	return r, checkWhy(r.Why)
}

func checkWhy(why string) error {
	if strings.TrimSpace(why) == "" || utf8.RuneCountInString(why) > maxWhy || !utf8.ValidString(why) || strings.ContainsFunc(why, unicode.IsControl) {
		return fault.New(fault.Malformed, "quarantine-why", "say why, in 1 to %d characters: it goes on record", maxWhy).At("/why")
	}
	return nil
}

// confinement is a device that is to be quarantined: what is on record of it, and what becomes of that.
type confinement struct {
	QuarantineRequest
	reg  Registration
	was  Quarantine // zero: none stands
	hub  Hub
	plan QuarantinePlan
}

// done says that it stands as it is asked for.
func (c confinement) done() bool { return c.was.Hub == c.hub.Name && bytes.Equal(c.was.Twin, c.Twin) }

// PreviewQuarantine says what quarantining a device would do, by the same code, and does nothing.
//
// Errors: as Quarantine.
func (e *Engine) PreviewQuarantine(ctx context.Context, r QuarantineRequest) (p QuarantinePlan, err error) {
	if r, err = e.complete(r); err != nil {
		return p, err
	}
	err = e.store.View(ctx, func(tx Tx) error {
		c, err := confined(tx, r)
		p = c.plan
		return err
	})
	return p, err
}

// Quarantine moves a device to a hub, with a twin of its own, and keeps it there until that is
// ended: neither allocation nor the reprovision policy is asked. The hub that it was on removes it
// at once, and does not wait for the other. A device that something refuses is taken off its hub,
// and comes to the other when it registers again. Asking twice is asking once; asking for another
// hub or twin moves it there.
//
// Errors: Malformed "quarantine-hub", "quarantine-why", "initial-twin"; NotFound
// "registration-not-found"; Conflict "quarantine-same-hub", "device-id-taken".
func (e *Engine) Quarantine(ctx context.Context, actor string, r QuarantineRequest) (q Quarantine, err error) {
	if r, err = e.complete(r); err != nil {
		return q, err
	}
	w := e.hubWriting(actor, 0)
	err = e.store.UpdateTrust(ctx, func(tx Tx) error {
		c, err := confined(tx, r)
		if err != nil {
			return err
		}
		q, err = w.confine(tx, c, "")
		return err
	})
	return q, err
}

// confined reads what is on record of a device.
func confined(tx Tx, r QuarantineRequest) (c confinement, err error) {
	facts, err := tx.Facts(FactsQuery{ID: r.ID})
	if err != nil {
		return c, err
	}
	i := slices.IndexFunc(facts.Hubs, func(h Hub) bool { return h.Name == r.Hub })
	if i < 0 {
		return c, fault.New(fault.Malformed, "quarantine-hub", "no hub of this name is linked").At("/hub").About("hub " + r.Hub)
	}
	c.QuarantineRequest, c.hub = r, facts.Hubs[i]
	if c.reg, err = tx.Registration(r.ID); err != nil {
		return c, err
	}
	if !c.reg.QuarantinedAt.IsZero() {
		if c.was, err = tx.Quarantine(r.ID); err != nil {
			return c, err
		}
	}
	c.plan = QuarantinePlan{Hub: c.hub.Name, Was: c.was.Hub}
	if c.plan.Shut, err = shutBy(tx, c.reg, facts); err != nil {
		return c, err
	}
	here := c.reg.Hub == c.hub.Name
	c.plan.AtOnce = c.reg.Hub != "" && c.plan.Shut == ""
	if c.reg.Hub != "" && !(here && c.plan.AtOnce) {
		c.plan.From = c.reg.place()
	}
	awaited, err := tx.CountHubIdentities(r.ID)
	c.plan.Elsewhere = awaited > 0 || c.plan.AtOnce && c.hub.Driver != BuiltIn
	taken := slices.IndexFunc(facts.Aliases, func(a Alias) bool { return a.Hub == c.hub.Name })
	switch {
	case err != nil:
		return c, err
	case here && !c.was.Stands():
		return c, fault.New(fault.Conflict, "quarantine-same-hub", "the device lives on this hub: name one that is kept for devices in quarantine").About("hub " + c.hub.Name)
	case taken >= 0 && c.plan.AtOnce && !here:
		return c, fault.New(fault.Conflict, "device-id-taken", "the device id is taken on this hub").About("registration " + facts.Aliases[taken].ID.String())
	}
	return c, nil
}

// shutBy is the rule word of what refuses a device, whatever it shows; "": nothing does.
func shutBy(tx Tx, reg Registration, facts Facts) (string, error) {
	shut, err := (&bars{tx: tx}).shuts(reg)
	individual, shadowed := facts.Individual(reg.ID)
	owner, owned := facts.Entry(reg.Owner)
	switch {
	case err != nil:
		return "", err
	case shadowed && !individual.Enabled || owned && !owner.Enabled:
		return "enrollment-disabled", nil
	case !reg.HeldAt.IsZero():
		return RuleRegistrationHeld, nil
	case shut:
		return "disallowed", nil
	case !owned:
		return "registration-orphaned", nil
	}
	return "", nil
}

// confine writes all that a quarantine is. Hubs' rows come before the registration's own, as
// everywhere.
func (w hubWriting) confine(tx Tx, c confinement, campaign string) (Quarantine, error) {
	if c.done() {
		return c.was, nil
	}
	next := c.moved()
	next.QuarantinedAt, next.Updated, next.Version = w.at, w.at, next.Version+1
	q := Quarantine{ID: next.ID, Spelled: next.Spelled, Hub: c.hub.Name, Twin: c.Twin, From: c.plan.From, Shut: c.plan.Shut, Why: c.Why, Actor: w.actor, Campaign: campaign, At: w.at}
	_, err := tx.StepHubIdentities(next.ID, w.at)
	if err == nil && next.Hub != c.reg.Hub {
		err = settleHub(tx, &c.reg, next)
	}
	if err == nil && c.plan.AtOnce && c.hub.Driver != BuiltIn {
		err = tx.PutHubIdentity(HubIdentityRecord{HubPlace: next.place(), Spelled: next.DeviceID, Registration: next.ID, Generation: firstVersion(w.at), Since: w.at})
	}
	if err != nil {
		return q, err
	}
	if next.Hub == "" {
		err = tx.DeleteTwin(next.ID)
	} else {
		err = tx.PutTwin(next.ID, *initialTwin(c.Twin, w.at))
	}
	facts := map[string]any{"hub": q.Hub, "why": q.Why, "atOnce": c.plan.AtOnce}
	for name, value := range map[string]string{"from": q.From.Hub, "shut": q.Shut, "campaign": campaign} {
		if value != "" {
			facts[name] = value
		}
	}
	if err := first(err, w.receipt(tx, &q), tx.PutRegistration(next)); err != nil {
		return q, err
	}
	return q, tx.Append(audit.Event{At: w.at, Actor: w.actor, Action: audit.Quarantined, Subject: "registration:" + q.ID.String(), Body: audit.Body(facts)})
}

// moved is the registration where it is to be. One that failed, and so is not assigned, still has
// a device.
func (c confinement) moved() Registration {
	next := c.reg
	switch {
	case !c.plan.AtOnce:
		return offHub(next)
	case next.Hub == c.hub.Name:
		return next
	}
	next.Hub, next.Substatus, next.Returned = c.hub.Name, policies.DeviceDataReset, nil
	if next.State == Assigned || next.State == Assigning {
		if next.State = Assigned; c.hub.Driver != BuiltIn {
			next.State = Assigning
		}
	}
	return next
}

// receipt writes a quarantine, confirmed where no hub lives elsewhere.
func (w hubWriting) receipt(tx Tx, q *Quarantine) error {
	awaited, err := tx.CountHubIdentities(q.ID)
	if q.Confirmed = w.at; awaited > 0 {
		q.Confirmed = time.Time{}
	}
	return first(err, tx.PutQuarantine(*q))
}

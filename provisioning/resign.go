package provisioning

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// resigning is one wish to have a device's request on record signed again.
type resigning struct {
	store  Store
	actor  string
	why    string // for the ledger
	id     verify.RegistrationID
	reason ca.Reason
	due    bool // only when a successor is due
}

// Resign signs the request again that is on record of a device, due or not: the device is
// judged as if it renewed by the certificate it has in use, and the new certificate is staged
// in its pair and pending (Pending). The key stays the same, so with the reason keyCompromise,
// or a key that is disallowed, it is refused.
//
// Errors: NotFound "registration-not-found"; Conflict "same-key", "request-not-retained",
// "nothing-to-renew", "already-staged", "successor-ends-earlier", and every rule by which the
// renewal would be refused; Unavailable as for Register.
func (e *Engine) Resign(ctx context.Context, actor string, id verify.RegistrationID, reason ca.Reason) (ca.Certificate, error) {
	return e.signAgain(ctx, resigning{store: e.store, actor: actor, why: "asked for: " + string(reason), id: id, reason: reason}, e.now())
}

// signAgain decides until the facts hold still.
func (e *Engine) signAgain(ctx context.Context, s resigning, now time.Time) (cert ca.Certificate, err error) {
	r := RegisterRequest{asked: new(asked)}
	defer func() { e.abandon(ctx, r.asked, err) }()
	for range moves {
		cert, err = e.resignOnce(ctx, s, r, now)
		if !errors.Is(err, errMoved) {
			return cert, notResigned(err)
		}
	}
	return cert, fault.New(fault.Unavailable, "contended", "this registration is being changed by others; try again")
}

// notResigned words for an operator what a device would be refused by.
func notResigned(err error) error {
	f := fault.As(err)
	if f == nil || f.Kind != fault.Unauthenticated && f.Kind != fault.Malformed {
		return err
	}
	return fault.New(fault.Conflict, f.Rule, "%s", f.Detail).About(f.Object)
}

// resignOnce is one pass: View and decide, sign, Update.
func (e *Engine) resignOnce(ctx context.Context, s resigning, r RegisterRequest, now time.Time) (ca.Certificate, error) {
	d, a, err := e.readRetained(ctx, s)
	if err != nil {
		return ca.Certificate{}, err
	}
	r.Attempt = a
	profile, err := e.judgeRetained(d, a, s, now)
	if err != nil {
		return ca.Certificate{}, err
	}
	p := &plan{next: *d.facts.Registration, issue: &profile}
	p.next.Version++
	p.next.Updated = now
	p.event = audit.Event{At: now, Actor: s.actor, Subject: "registration:" + s.id.String(), Body: audit.Body(map[string]any{
		"entry": d.entry.String(), "mechanism": string(d.identity.Mechanism()), "why": s.why,
	})}
	unrecorded, err := e.sign(ctx, d, r, d.csr, profile, now)
	if err != nil {
		return ca.Certificate{}, err
	}
	if was := p.next.Pair.Current(); !unrecorded.NotAfter().After(was.NotAfter) {
		return ca.Certificate{}, fault.New(fault.Conflict, "successor-ends-earlier", "the new certificate would end no later than the one in use; the issuer or the profile allows no longer one")
	}
	if err := p.stage(unrecorded); err != nil {
		return ca.Certificate{}, err
	}
	d.schedule(p, now)
	above, err := e.issuersAbove(ctx, unrecorded.Issuer())
	if err != nil {
		return ca.Certificate{}, err
	}
	cert, err := e.commitResigned(ctx, s.store, d, p, unrecorded, above)
	if fault.RuleOf(err) == "issuer-not-active" {
		// Another process promoted or ended an issuer, and this one had not heard of it.
		e.abandon(ctx, r.asked, err)
		if err := e.authority.Reload(ctx); err != nil {
			return cert, fault.New(fault.Unavailable, "no-active-issuer", "No issuing CA is active here.").Because(err)
		}
		return cert, errMoved
	}
	return cert, r.asked.outcome(unrecorded, err)
}

// readRetained reads the request on record, the certificate in use and the facts that a
// renewal by it would be decided on.
func (e *Engine) readRetained(ctx context.Context, s resigning) (d *decision, a Attempt, err error) {
	err = s.store.View(ctx, func(tx Tx) error {
		reg, err := tx.Registration(s.id)
		if err != nil {
			return err
		}
		kept, err := tx.RetainedRequest(s.id)
		if fault.Is(err, fault.NotFound) {
			return errNotRetained(s.id)
		}
		if err != nil {
			return err
		}
		csr, err := policies.ParseCSR(kept.CSR)
		if err != nil {
			return err
		}
		a = Attempt{ID: s.id, Spelled: reg.Spelled, Door: "rotation"}
		inUse := reg.Pair.Current()
		own, err := issuedAs(tx, verify.Thumbprint(inUse.Ref))
		if err != nil {
			return err
		}
		if own != nil {
			leaf, err := x509.ParseCertificate(own.DER)
			if err != nil {
				return err
			}
			a.Evidence.Chain = verify.Chain{verify.NewLink(leaf)}
		}
		d = newDecision(a, csr)
		d.renewal, d.retained, d.whole = true, true, true
		return e.readFacts(tx, d)
	})
	return d, a, err
}

func errNotRetained(id verify.RegistrationID) error {
	return fault.New(fault.Conflict, "request-not-retained", "no certificate request of this device is kept: its profile does not retain requests, or its last one could not be kept").About("registration " + id.String())
}

// judgeRetained decides as for a device that renews by the certificate in use, and by the
// key that it is known to have kept.
func (e *Engine) judgeRetained(d *decision, a Attempt, s resigning, now time.Time) (policies.Profile, error) {
	object := "registration " + s.id.String()
	reg := d.facts.Registration
	if s.reason == ca.KeyCompromise || d.csrKeyDisallowed() != nil {
		return policies.Profile{}, fault.New(fault.Conflict, "same-key", "the request on record is for the key that is compromised: the device has to make another key and ask for itself").About(object)
	}
	if reg == nil || len(a.Evidence.Chain) == 0 {
		return policies.Profile{}, fault.New(fault.Conflict, "nothing-to-renew", "the device has no certificate in use that could be renewed").About(object)
	}
	if reg.Pair.Successor().State != rotation.Empty {
		return policies.Profile{}, fault.New(fault.Conflict, "already-staged", "the device has a new certificate that it has not been seen with yet").About(object)
	}
	if err := e.judge(d, a, now); err != nil {
		return policies.Profile{}, err
	}
	profile, err := d.admitCSR(RegisterRequest{}, d.csr)
	if err != nil {
		return profile, err
	}
	inUse := reg.Pair.Current()
	switch {
	case !profile.Renewal.Retain:
		return profile, errNotRetained(s.id)
	case s.due && now.Before(profile.Renewal.PrepareAfter(inUse.NotBefore, inUse.NotAfter)):
		return profile, fault.New(fault.Conflict, "not-due", "no successor is due yet").About(object)
	}
	return profile, first(e.checkBlocked(d.csrKey, d.csr), d.checkReuse(profile.KeyReuse), d.attestKey(a, d.csr, profile))
}

// commitResigned writes what was signed if the facts are still those that decided.
func (e *Engine) commitResigned(ctx context.Context, store Store, d *decision, p *plan, u ca.Unrecorded, above [][]byte) (cert ca.Certificate, err error) {
	err = store.Update(ctx, func(tx Tx) error {
		if err := d.still(tx, false); err != nil {
			return err
		}
		if err := holdKey(tx, p.issue.KeyReuse, d.csrKey, p.next.ID); err != nil {
			return err
		}
		if cert, err = ca.Record(tx, u, p.event); err != nil {
			return err
		}
		return first(tx.SetPending(p.next.ID, rotation.Ref(cert.Thumbprint)), announceInTwin(tx, p.next, cert, above, p.next.Updated),
			tx.StepHubIdentity(p.next.place(), p.next.Updated), tx.PutRegistration(p.next))
	})
	if moved(err) {
		err = errMoved
	}
	return cert, err
}

// notSigned is a device whose successor could not be made, and why.
type notSigned struct {
	id  verify.RegistrationID
	why *fault.Error
}

// resigners is how many requests are signed at once: the store commits what waits together.
const resigners = 8

// resignDue signs the requests of devices whose successor is due, outside any transaction.
// What needs none (any more) is passed over. An error is the store's or the context's.
func (e *Engine) resignDue(ctx context.Context, jobs Store, ids []verify.RegistrationID) (stuck []notSigned, err error) {
	now := e.now()
	var mu sync.Mutex
	var working sync.WaitGroup
	next := make(chan verify.RegistrationID)
	for range min(resigners, len(ids)) {
		working.Go(func() {
			for id := range next {
				_, failed := e.signAgain(ctx, resigning{store: jobs, actor: jobRotation, why: string(rotation.PrepareDue), id: id, due: true}, now)
				mu.Lock()
				switch f := fault.As(failed); {
				case failed == nil || f != nil && needsNothing(f):
				case f == nil || ctx.Err() != nil:
					err = errors.Join(err, failed)
				default:
					stuck = append(stuck, notSigned{id, f})
				}
				mu.Unlock()
			}
		})
	}
	for _, id := range ids {
		next <- id
	}
	close(next)
	working.Wait()
	return stuck, err
}

// needsNothing says that a refusal is no trouble: somebody else was here, or nothing is due.
func needsNothing(f *fault.Error) bool {
	switch f.Rule {
	case "already-staged", "not-due", "contended", "registration-not-found":
		return true
	}
	return false
}

const (
	// resignLease is when a registration is looked at again whose request is handed on to be
	// signed: the process that has it may end.
	resignLease = 30 * time.Second
	// refusedAgain is when one is whose request was refused.
	refusedAgain = time.Hour
)

// resignPage signs the requests of devices that were found due, after the transaction that
// found them. It notes who is stuck, and settles what is pending no more.
func (e *Engine) resignPage(ctx context.Context, jobs Store, page []verify.RegistrationID) error {
	stuck, err := e.resignDue(ctx, jobs, page)
	return errors.Join(err, e.afterResigning(ctx, jobs, page, stuck, e.now()))
}

// afterResigning settles what is pending no more, and puts off whoever is stuck and would be
// due again at once. If somebody else was here meanwhile it is left to the next look.
func (e *Engine) afterResigning(ctx context.Context, jobs Store, page []verify.RegistrationID, stuck []notSigned, now time.Time) error {
	rules := map[string]int{}
	for _, s := range stuck {
		rules[s.why.Rule]++
	}
	for rule, n := range rules {
		e.log.Warn("requests on record were not signed again", "rule", rule, "devices", n)
	}
	soon := now.Add(resignLease)
	err := jobs.Update(ctx, func(tx Tx) error {
		for _, id := range page {
			reg, err := tx.Registration(id)
			if fault.Is(err, fault.NotFound) {
				continue
			}
			if err := first(err, settlePending(tx, reg, now)); err != nil {
				return err
			}
			at := slices.IndexFunc(stuck, func(s notSigned) bool { return s.id == id })
			if at < 0 {
				continue
			}
			if err := noteNotSigned(tx, reg, stuck[at].why.Rule, now); err != nil {
				return err
			}
			if !reg.DueAt.IsZero() && !reg.DueAt.After(soon) {
				if err := tx.PostponeRegistration(id, reg.DueAt, now.Add(refusedAgain)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if moved(err) {
		return nil
	}
	return err
}

// noteNotSigned puts on record why a request was not signed again.
func noteNotSigned(tx Tx, reg Registration, rule string, now time.Time) error {
	was, err := tx.Roll(reg.ID)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	row := was
	if ref := reg.Pair.Current().Ref; row.Ref != ref {
		row = Roll{ID: reg.ID, Ref: ref}
	}
	row.Tries++
	if row.Stuck == rule {
		return tx.PutRoll(row)
	}
	row.Stuck, row.Since = rule, now
	return first(tx.PutRoll(row), tx.Append(audit.Event{At: now, Actor: jobRotation, Action: audit.RollStuck, Subject: "registration:" + reg.ID.String(),
		Body: audit.Body(map[string]any{"ref": verify.Thumbprint(row.Ref).String(), "reason": rule})}))
}

package provisioning

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// RegisterRequest is one device asking to be provisioned.
type RegisterRequest struct {
	Attempt
	CSR     []byte // PKCS#10 DER; nil = no certificate wanted
	Payload []byte // JSON, kept with the registration; nil = none
	// HubOptional lets a certificate be issued though no hub can be assigned (EST).
	HubOptional bool
	// Renewal admits only a certificate of ours standing in the pair (EST simplereenroll).
	Renewal bool
	// Profile names the issuing profile that the device expects; "" = its entry's.
	Profile string
	// ServerKey has the key made here (EST serverkeygen): of CSR its key and signature count
	// for nothing.
	ServerKey bool

	asked *asked   // what a webhook was asked for this request
	made  *madeKey // the key made here for this request
}

// errMoved says that the facts a decision rests on changed before its commit.
var errMoved = errors.New("the facts moved")

// moves bounds how often one request decides anew; each time something about this
// very device or its entry was changed by somebody else.
const moves = 8

// Register decides, issues and records, and returns the finished operation.
//
// Errors: Malformed for a bad CSR or payload (before the device is authenticated only
// for its syntax), Unauthenticated for every refusal — the rule is for explain, the
// device is told the same whatever it was — Throttled before anything is read, and
// Unavailable. The last three may advise when to ask again. A registration that cannot be
// assigned is not an error: its State is Failed.
func (e *Engine) Register(ctx context.Context, r RegisterRequest) (op Operation, err error) {
	now := e.now()
	in, err := e.pace.enter(r.Attempt, false, now)
	if err == nil {
		defer in.leave()
		op, err = e.settle(ctx, r, now)
		err = in.outcome(err, now)
	}
	e.count(r.Attempt, op.Chain != nil, err)
	return op, err
}

// settle decides until the facts hold still.
func (e *Engine) settle(ctx context.Context, r RegisterRequest, now time.Time) (op Operation, err error) {
	csr, err := r.parse()
	if err != nil {
		return Operation{}, err
	}
	r.asked = new(asked)
	if r.ServerKey {
		r.made = new(madeKey)
	}
	defer func() { e.abandon(ctx, r.asked, err) }()
	for range moves {
		op, err := e.register(ctx, r, csr, now)
		if !errors.Is(err, errMoved) {
			return op, err
		}
	}
	return Operation{}, fault.New(fault.Unavailable, "contended", "this registration is being changed by others; try again")
}

func (e *Engine) count(a Attempt, issued bool, err error) {
	o := Outcome{Door: a.Door, Mechanism: a.Evidence.mechanism(), Result: "ok", Issued: issued}
	if err != nil {
		o.Result, o.Reason = fault.KindOf(err).String(), fault.RuleOf(err)
	}
	e.observe(o)
}

// parse checks syntax, all that a device may learn before it is authenticated.
func (r RegisterRequest) parse() (*x509.CertificateRequest, error) {
	if len(r.Payload) > 0 && !json.Valid(r.Payload) {
		return nil, fault.New(fault.Malformed, "payload", "payload is not JSON")
	}
	if r.CSR == nil {
		return nil, nil
	}
	return policies.ParseCSR(r.CSR)
}

// register is one pass: View and decide, plan, sign, Update.
func (e *Engine) register(ctx context.Context, r RegisterRequest, csr *x509.CertificateRequest, now time.Time) (Operation, error) {
	if op, done := e.registerAgain(ctx, r, csr, now); done {
		return op, nil
	}
	d := newDecision(r.Attempt, csr)
	d.renewal = r.Renewal
	d, err := e.reach(ctx, d, r.Attempt, now)
	if err == nil && d.facts.Digest == 0 && d.rebases(now) {
		d = newDecision(r.Attempt, csr)
		d.renewal, d.whole = r.Renewal, true
		d, err = e.reach(ctx, d, r.Attempt, now)
	}
	if err == nil && r.Renewal && !d.own {
		err = d.trace.refuse("renewal-needs-issued-certificate", "", "a renewal is authenticated by the certificate it renews, issued here and standing in the device's pair")
	}
	if moved(err) {
		return Operation{}, errMoved
	}
	if fault.RuleOf(err) == RuleTPMChallenge {
		return Operation{}, e.challenge(ctx, d, r.Attempt, now)
	}
	if err != nil {
		e.refused(r.Attempt, d, err, now)
		return Operation{}, err
	}
	op, err := e.grant(ctx, d, r, csr, now)
	e.denied(r.Attempt, d, err, now)
	return op, err
}

// grant is what an admitted device gets.
func (e *Engine) grant(ctx context.Context, d *decision, r RegisterRequest, csr *x509.CertificateRequest, now time.Time) (Operation, error) {
	if r.ServerKey {
		return e.withServerKey(ctx, d, r, csr, now)
	}
	if csr != nil && d.repeats(csr, now) && d.sameTPM(r.Attempt) {
		if r.Profile != "" && r.Profile != d.entry.Profile {
			return Operation{}, d.otherProfile()
		}
		if err := e.repeat(ctx, d, now); err != nil {
			return Operation{}, err
		}
		return e.recorded(ctx, d, now)
	}
	op, err := e.carryOut(ctx, d, r, csr, now)
	if !errors.Is(err, errMoved) {
		e.recent.add(d, csr, now)
	}
	return op, err
}

// registerAgain is the pass of a device that registers once more on a kept connection:
// it decides by the facts that its last registration there was committed on. They may be
// old; so they only ever admit, and only if the Update finds them unmoved. Whatever else
// comes of them is decided anew, from a View.
func (e *Engine) registerAgain(ctx context.Context, r RegisterRequest, csr *x509.CertificateRequest, now time.Time) (Operation, bool) {
	d := newDecision(r.Attempt, csr)
	if r.Renewal || r.ServerKey || !r.Evidence.Connection.recall(d) {
		return Operation{}, false
	}
	if d.isQuarantined() || e.judge(d, r.Attempt, now) != nil || d.rebases(now) || csr != nil && d.repeats(csr, now) {
		return Operation{}, false
	}
	op, err := e.carryOut(ctx, d, r, csr, now)
	if err == nil {
		e.recent.add(d, csr, now)
	}
	return op, err == nil
}

// carryOut plans, signs and commits what was decided. The deciding entry's webhook is
// asked first, if it has one: nothing is held while it answers.
func (e *Engine) carryOut(ctx context.Context, d *decision, r RegisterRequest, csr *x509.CertificateRequest, now time.Time) (Operation, error) {
	if err := e.consult(ctx, d, r, csr); err != nil {
		return Operation{}, err
	}
	plan, err := e.plan(d, r, csr, now)
	if err != nil {
		return Operation{}, err
	}
	if plan.issue == nil {
		return e.commit(ctx, d, plan, ca.Unrecorded{})
	}
	// Signed in memory, outside any transaction. From here to the commit a crash leaves
	// nothing: the certificate has not left, and its serial was never used (INV-S2). What an
	// authority elsewhere signs has an intent on record.
	unrecorded, err := e.sign(ctx, d, r, csr, *plan.issue, now)
	if err != nil {
		return Operation{}, err
	}
	if err := plan.stage(unrecorded); err != nil {
		return Operation{}, err
	}
	d.conclude(plan, r, now)
	plan.retain(r, csr)
	op, err := e.commit(ctx, d, plan, unrecorded)
	if fault.RuleOf(err) == "issuer-not-active" {
		// Another process promoted or ended an issuer, and this one had not heard of it.
		e.abandon(ctx, r.asked, err)
		if err := e.authority.Reload(ctx); err != nil {
			return Operation{}, fault.New(fault.Unavailable, "no-active-issuer", "No issuing CA is active here.").Because(err)
		}
		return Operation{}, errMoved
	}
	return op, r.asked.outcome(unrecorded, err)
}

// issuersAbove is the chain above a certificate of ours, whose issuer another process may
// have made since this one last looked.
func (e *Engine) issuersAbove(ctx context.Context, id ca.IssuerID) ([][]byte, error) {
	if chain := e.authority.Chain(id); chain != nil {
		return chain, nil
	}
	err := e.authority.Reload(ctx)
	return e.authority.Chain(id), err
}

// commit writes the plan if the facts are still those that decided: the answer that
// counts is the one read in the transaction that writes (architecture §6 step 6).
func (e *Engine) commit(ctx context.Context, d *decision, plan *plan, unrecorded ca.Unrecorded) (Operation, error) {
	var cert ca.Certificate
	newChain := plan.chain != nil && !e.chains.has(plan.next.Chain)
	update := e.store.Update
	claim := plan.claimsAlias(d.facts.Registration)
	if claim {
		// A new claim on another name bears on other devices' facts: it is a change of trust.
		update = e.store.UpdateTrust
	}
	err := update(ctx, func(tx Tx) error {
		if err := d.still(tx, claim); err != nil {
			return err
		}
		var err error
		if newChain {
			if err := tx.PutChain(plan.next.Chain, plan.chain); err != nil {
				return err
			}
		}
		if plan.twin != nil {
			if err := tx.PutTwin(plan.next.ID, *plan.twin); err != nil {
				return err
			}
		}
		if err := first(settleHub(tx, d.facts.Registration, plan.next), plan.home.write(tx, plan.next.Updated)); err != nil {
			return err
		}
		if d.cutsOver(plan, newChain) || d.takesUpKey() {
			if err := tx.WakeEntry(d.entry.Owner, plan.next.Updated); err != nil {
				return err
			}
		}
		if plan.issue != nil {
			if err := first(d.spend(tx, plan.next), holdKey(tx, plan.issue.KeyReuse, d.csrKey, plan.next.ID)); err != nil {
				return err
			}
			if cert, err = ca.Record(tx, unrecorded, plan.event); err != nil {
				return err
			}
		} else if err := tx.Append(plan.event); err != nil {
			return err
		}
		return first(plan.keep(tx, d), d.spendChallenge(tx, plan.next.Operation.At), tx.PutRegistration(plan.next), d.keepTPM(tx))
	})
	if moved(err) {
		err = errMoved
	}
	if err != nil {
		return Operation{}, err
	}
	if newChain {
		e.chains.add(plan.next.Chain)
	}
	d.connection.keep(d, plan.next)
	e.changesChain(d, plan.next)
	if d.tpm.next != nil {
		d.tpm.device = d.tpm.next
	}
	op, err := e.operation(plan.next, d)
	if err != nil {
		return op, err
	}
	if plan.issue != nil {
		op.Chain = append([][]byte{cert.DER}, e.authority.Chain(cert.Issuer)...)
		op.Renewal = renewalWindow(plan.issue.Renewal, cert.NotBefore, cert.NotAfter)
	}
	return op, nil
}

// still says that the facts that decided have not moved; errMoved if they have. Mostly
// the epoch of trust shows it; when it has moved on, or when other registrations matter
// too (a claim on a device id), the facts are read again and compared.
func (d *decision) still(tx Tx, claim bool) error {
	if !claim {
		if unmoved, err := tx.Unmoved(d.facts, d.csrKey); err != nil || unmoved {
			return err
		}
	}
	if d.facts.Digest == 0 {
		return errMoved // facts that cannot be compared
	}
	again, err := tx.Facts(d.query)
	if err == nil && again.Digest != d.facts.Digest {
		return errMoved
	}
	return err
}

// moved says that the store saw something change while it was being read or written.
func moved(err error) bool {
	rule := fault.RuleOf(err)
	return rule == "registration-moved" || rule == "snapshot-moved" || rule == RuleCodeMoved || rule == ruleChallengeMoved || rule == ruleTPMClaimed || rule == ruleTwinChanged
}

// repeatWindow is how long the same CSR gets the certificate it already got.
const repeatWindow = 10 * time.Minute

// repeats says whether this is a retry of the request the last operation answered:
// same CSR, same entry unchanged since, its certificate still on top (architecture §5).
func (d *decision) repeats(csr *x509.CertificateRequest, now time.Time) bool {
	reg := d.facts.Registration
	return reg != nil && reg.Certificate != CertificateRef{} && reg.State != Failed &&
		reg.Operation.Digest == sha256.Sum256(csr.Raw) &&
		now.Sub(reg.Operation.At) < repeatWindow &&
		reg.Owner == d.entry.Owner && d.entry.Updated.Before(reg.Operation.At)
}

// recorded answers a retry from the record.
func (e *Engine) recorded(ctx context.Context, d *decision, now time.Time) (Operation, error) {
	reg := *d.facts.Registration
	op, err := e.operation(reg, d)
	if err != nil {
		return op, err
	}
	above, err := e.issuersAbove(ctx, reg.Certificate.Issuer)
	if err != nil {
		return op, err
	}
	err = e.store.View(ctx, func(tx Tx) error {
		cert, err := tx.Certificate(reg.Certificate.Issuer, reg.Certificate.Serial)
		if err != nil {
			return err
		}
		if !cert.RevokedAt.IsZero() || !reg.Pair.Standing(rotation.Ref(cert.Thumbprint), now) {
			return fault.New(fault.Disallowed, "certificate-not-standing", "this CSR was answered with a certificate that has been withdrawn; send a new CSR")
		}
		issuers, err := tx.Issuers()
		if err != nil {
			return err
		}
		if slices.ContainsFunc(issuers, func(i ca.Issuer) bool { return i.ID == cert.Issuer && i.State == ca.IssuerRevoked }) {
			return fault.New(fault.Disallowed, "issuer-revoked", "this CSR was answered with a certificate of an issuer that is revoked; send a new CSR")
		}
		op.Chain = append([][]byte{cert.DER}, above...)
		op.Renewal, err = windowBy(tx, d.entry.Profile, cert.NotBefore, cert.NotAfter)
		return err
	})
	return op, err
}

// event is the ledger row of a registration; ca.Record completes it when a
// certificate is issued.
func (d *decision) event(r RegisterRequest, next Registration, issuing bool, now time.Time) audit.Event {
	action := audit.Registered
	switch next.State {
	case Failed:
		action = audit.RegistrationFailed
	case Assigning:
		action = audit.RegistrationAssigning
	}
	facts := map[string]any{
		"operation": next.Operation.ID, "entry": d.entry.String(), "state": string(next.State), "door": r.Door,
		"mechanism": string(d.identity.Mechanism()),
	}
	// The ledger is the largest table but one: what says nothing is left out.
	add := func(name, value string) {
		if value != "" {
			facts[name] = value
		}
	}
	if d.own && d.facts.Registration != nil {
		add("cutOver", cutOver(d.facts.Registration.Pair, next.Pair))
	}
	if was := d.facts.Registration; was != nil {
		if left := next.Pair.Left(was.Pair); len(left) > 0 {
			facts["madeRoom"] = thumbprints(left)
		}
	}
	if d.code != nil {
		add("code", d.code.Hash.Name())
	}
	if r.ServerKey {
		add("key", "made here")
	}
	if p := d.tpm.next; p != nil {
		add("endorsementKey", verify.ThumbprintOf(p.TPM.Endorsement).String())
		add("storageRootKey", verify.ThumbprintOf(p.TPM.StorageRoot).String())
	}
	add("hub", next.Hub)
	add("substatus", next.Substatus)
	add("error", next.ErrorMessage)
	if next.DeviceID != next.Spelled {
		add("deviceId", next.DeviceID)
	}
	if issuing {
		action = audit.Issued // what attested it stands in the certificate's row
	} else if path := d.identity.Path(); len(path) > 0 {
		add("attestedBy", path[0].Thumbprint.String())
	}
	return audit.Event{At: now, Actor: "device:" + next.ID.String(), Action: action, Subject: "registration:" + next.ID.String(), Body: audit.Body(facts)}
}

// thumbprints are refs as they are told.
func thumbprints(refs []rotation.Ref) (texts []string) {
	for _, ref := range refs {
		texts = append(texts, verify.Thumbprint(ref).String())
	}
	return texts
}

// attestedBy is the certificate that authenticated the request; zero for a key.
func (d *decision) attestedBy() verify.Thumbprint {
	if path := d.identity.Path(); len(path) > 0 {
		return path[0].Thumbprint
	}
	return verify.Thumbprint{}
}

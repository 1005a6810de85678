package provisioning

import (
	"context"
	"crypto/x509"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// Explanation answers "what would happen if this device registered now, and why", by
// the code that decides (experience promise 2).
type Explanation struct {
	ID           verify.RegistrationID
	Basis        string // what the device is assumed to show
	Admitted     bool
	Refused      *fault.Error // nil when admitted, or when nothing can be said
	Entry        Owner        // the entry that decided; zero when none did
	Hub          string       // where it would be assigned
	Trace        Trace
	Registration *Registration // nil: never registered
	LastRefusal  *Refusal      // the last time a real attempt was refused, if still remembered
	Tripwires    []Tripwire    // the last few, newest first
}

// explainedTripwires is how many are shown with an explanation.
const explainedTripwires = 5

// Explain runs the decision for a registration id. With a chain the device is assumed
// to show it; otherwise what the record knows of it: its newest certificate of ours,
// or what attested it last.
func (e *Engine) Explain(ctx context.Context, id verify.RegistrationID, chain verify.Chain) (Explanation, error) {
	now := e.now()
	x := Explanation{ID: id, Basis: "the certificate chain given"}
	if r, ok := e.refusals.last(id); ok {
		x.LastRefusal = &r
	}
	a := Attempt{ID: id, Spelled: id.String(), Evidence: Evidence{Chain: chain}, Door: "explain"}
	if chain == nil {
		var err error
		if a.Evidence.Chain, x.Basis, err = e.assumed(ctx, id, now); err != nil {
			return x, err
		}
	}
	d := newDecision(a, nil)
	d.query.Profiles, d.query.TPM = true, a.Evidence.Chain == nil
	var links []verify.Link
	err := e.store.View(ctx, func(tx Tx) error {
		if a.Evidence.Chain != nil {
			return first(e.readFacts(tx, d), d.readQuarantine(tx))
		}
		var err error
		if d.facts, err = tx.Facts(d.query); err != nil {
			return err
		}
		if entry, there := d.facts.Individual(id); there {
			if err := d.readEnrolled(tx, entry); err != nil {
				return err
			}
		}
		if d.facts.Registration == nil {
			return nil
		}
		if err := d.readQuarantine(tx); err != nil {
			return err
		}
		if d.rests, err = outsidePath(tx, *d.facts.Registration); err != nil || d.facts.Registration.Chain == 0 {
			return err
		}
		links = d.rests
		return nil
	})
	if err != nil {
		return x, err
	}
	x.Registration = d.facts.Registration
	if a.Evidence.Chain != nil {
		err = e.judge(d, a, now)
	} else {
		x.Basis, err = e.judgeRecord(d, a, links)
	}
	if x, err = e.conclude(x, d, a, err, now); err != nil {
		return x, err
	}
	out := x
	err = e.store.View(ctx, func(tx Tx) error {
		out = x
		out.Trace = slices.Clone(x.Trace)
		return first(e.explainCause(tx, chain, &out), explainRoll(tx, &out), explainTripwires(tx, &out))
	})
	return out, err
}

// explainRoll adds why the roll of the device's certificate does not go on, if it does not.
func explainRoll(tx Tx, x *Explanation) error {
	if x.Registration == nil {
		return nil
	}
	roll, err := tx.Roll(x.ID)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err == nil && roll.Stuck != "" && roll.isAbout(x.Registration.Pair) {
		x.Trace.note(roll.Stuck, "registration "+x.ID.String(), "the roll of its certificate has not gone on since "+roll.Since.Format(time.RFC3339))
	}
	return err
}

func explainTripwires(tx Tx, x *Explanation) (err error) {
	x.Tripwires, err = tx.Tripwires(TripwireFilter{Registration: x.ID, Limit: explainedTripwires})
	return err
}

// assumed is what a device is assumed to show: the newest certificate of ours that stands in its
// pair, or the one that its enrollment pins; nil: neither is at hand.
func (e *Engine) assumed(ctx context.Context, id verify.RegistrationID, now time.Time) (chain verify.Chain, basis string, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		chain, basis = nil, ""
		reg, err := tx.Registration(id)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		if (reg.Certificate != CertificateRef{}) && len(reg.Pair.Live(now)) > 0 {
			c, err := tx.Certificate(reg.Certificate.Issuer, reg.Certificate.Serial)
			if err != nil {
				return err
			}
			leaf, err := x509.ParseCertificate(c.DER)
			chain, basis = verify.Chain{verify.NewLink(leaf)}, "the certificate Muster issued to the device last"
			return err
		}
		entry, err := tx.Enrollment(Owner{Kind: Individual, ID: id})
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if link, pinned, err := pinnedLink(tx, entry, reg.Leaf); err != nil || pinned {
			chain, basis = verify.Chain{link}, "the certificate that its enrollment pins"
			return err
		}
		return nil
	})
	return chain, basis, err
}

// pinnedLink is the certificate that an individual enrollment pins: of two the one that the device
// came with last, else the primary.
func pinnedLink(tx Tx, entry Enrollment, last verify.Thumbprint) (link verify.Link, pinned bool, err error) {
	s, err := readSlots(tx, entry)
	for _, h := range s.holds {
		if h.link.Cert != nil && (!pinned || h.link.Thumbprint == last) {
			link, pinned = h.link, true
		}
	}
	return link, pinned, err
}

func recordedChain(tx Tx, id ChainID) ([]verify.Link, error) {
	ders, err := tx.Chain(id)
	if err != nil {
		return nil, err
	}
	var links []verify.Link
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		links = append(links, verify.NewLink(c))
	}
	return links, nil
}

// judgeRecord decides for a device of which only the record is at hand: its leaf is
// not kept, so the proof itself is assumed, and everything else is judged as always.
func (e *Engine) judgeRecord(d *decision, a Attempt, links []verify.Link) (basis string, err error) {
	t, reg := &d.trace, d.facts.Registration
	individual, shadowed := d.facts.Individual(a.ID)
	if shadowed && !individual.Enabled {
		return "any credential", t.refuse("enrollment-disabled", individual.String(), "the individual enrollment is disabled; it alone decides")
	}
	if err := d.judgeHold(); err != nil { // in the door's order
		return "any credential", err
	}
	switch {
	case shadowed:
		d.entry = individual
		t.pass("individual-enrollment", individual.String(), "an individual enrollment exists: it alone decides, by the credential in its slots")
		if individual.Role() == RoleTPM {
			return "the credential enrolled", d.judgeEndorsement(verify.KeyHashOf(d.tpm.enrolled.SPKI()))
		}
		return "the credential enrolled", nil
	case reg == nil:
		t.note("individual-enrollment", "", "no individual enrollment for this id: groups are searched, by the certificate chain or key the device shows")
		return "nothing: the device never registered; give its certificate chain to simulate", nil
	case reg.Owner.IsZero():
		return "what attested it last", t.refuse("registration-orphaned", "registration "+a.ID.String(), "the entry that admitted this device was deleted")
	}
	entry, ok := d.facts.Entry(reg.Owner)
	if !ok || !entry.Enabled {
		return "what attested it last", t.refuse("enrollment-disabled", reg.Owner.String(), "the entry that admitted this device is disabled")
	}
	d.entry, d.own = entry, true // the recorded chain counts as if presented
	if err := e.judgeStanding(d, false); err != nil {
		return "what attested it last", err
	}
	if err := d.vouchedStill(*reg); err != nil {
		return "what attested it last", err
	}
	if reg.Mechanism == verify.MechanismTPM {
		return "the TPM that attested it last", e.judgeRecordedTPM(d, *reg)
	}
	for _, l := range links {
		if g, ok := d.groupHolding(l.Thumbprint); ok {
			d.entry = g
			t.pass("group", g.String(), "it holds the certificate nearest the leaf: "+l.Cert.Subject.String())
			return "the certificate that attested it last", nil
		}
	}
	if len(links) > 0 {
		return "the certificate that attested it last", t.refuse("no-enrollment", "", "no enrollment group holds a certificate of the recorded chain any more")
	}
	if reg.Mechanism == verify.MechanismCode {
		return "the one-time code that attested it last", t.refuse("code-spent", entry.String(), "a one-time code admitted the device, and no certificate of its pair is left: make another code")
	}
	t.pass("group", entry.String(), "it owns the registration")
	return "the key that attested it last", nil
}

// conclude adds where an admitted device would go.
func (e *Engine) conclude(x Explanation, d *decision, a Attempt, err error, now time.Time) (Explanation, error) {
	x.Entry = d.entry.Owner
	if err != nil {
		if x.Refused = fault.As(err); x.Refused == nil {
			return x, err
		}
		if d.isQuarantined() {
			d.noteQuarantine()
		}
		x.Trace = d.trace
		return x, nil
	}
	if x.Admitted = !d.entry.Owner.IsZero(); x.Admitted {
		if d.asks() {
			// Nobody is asked on behalf of a device that has not come.
			entry, err := e.withWebhook(d.entry)
			if err != nil {
				return x, err
			}
			d.trace.note("allocation", d.entry.String(), "the webhook "+entry.Custom.withoutQuery()+" would be asked for a hub")
			x.Trace = d.trace
			return x, nil
		}
		r := RegisterRequest{Attempt: a}
		if d.facts.Registration != nil {
			r.Payload = d.facts.Registration.Payload // it will hardly say another location
		}
		p := &plan{next: d.nextRegistration(r, now)}
		d.assign(p, r, now)
		x.Hub = p.next.Hub
	}
	x.Trace = d.trace
	return x, nil
}

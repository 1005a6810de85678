package provisioning

import (
	"context"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// operatorAsked is the reason of a move that an operator asked for.
const operatorAsked rotation.Reason = "operator"

// Staging is a credential for the empty slot of an entry: a certificate (PEM, base64 of PEM
// or DER, or DER), or of a group the name of a verified trust anchor.
type Staging struct {
	Certificate []byte
	Anchor      string
	SameKey     bool // it may have the key of the certificate it follows
}

// StageCredential puts a credential into the empty slot of an entry, where it admits beside
// the other one from then on. It returns the entry, and what may surprise.
//
// Errors: Conflict "slot-taken" when both slots are full, "already-staged" when it stands
// there already, and those of checkStaging; Malformed with the field; PreconditionFailed.
func (e *Engine) StageCredential(ctx context.Context, actor string, o Owner, st Staging, pre Precondition) (en Enrollment, warnings []string, err error) {
	err = e.changeSlots(ctx, o, pre, func(tx Tx, s entrySlots, now time.Time) (Enrollment, []audit.Event, error) {
		c, err := st.credential(tx, s.entry)
		if err != nil {
			return s.entry, nil, err
		}
		cell, held, err := cellOf(tx, c)
		if err != nil {
			return s.entry, nil, err
		}
		if _, there := s.pair.Find(cell.Ref); there {
			return s.entry, nil, fault.New(fault.Conflict, "already-staged", "this credential stands in a slot already").About(o.String())
		}
		if len(s.entry.Credentials) == 2 {
			return s.entry, nil, fault.New(fault.Conflict, "slot-taken", "both slots are taken: retire or withdraw one first").About(o.String())
		}
		c.Slot = rotation.Primary
		if _, taken := s.entry.slot(c.Role, rotation.Primary); taken {
			c.Slot = rotation.Secondary
		}
		if err := e.checkStaging(tx, s, c, held, st.SameKey, now); err != nil {
			return s.entry, nil, err
		}
		next := s.entry
		next.Credentials = append(slices.Clone(s.entry.Credentials), c)
		settleSlots(next.Credentials, s.entry, now)
		if err := noteUse(tx, s, next.Credentials[:len(s.entry.Credentials)], now); err != nil {
			return s.entry, nil, err
		}
		staged, err := readSlots(tx, next)
		if err != nil {
			return s.entry, nil, err
		}
		warnings, err = e.warnings(tx, s.entry, next, now)
		return next, []audit.Event{staged.event(actor, audit.RollStaged, c.Slot, operatorAsked, map[string]any{"notAfter": cell.NotAfter}, now)}, err
	}, &en)
	return en, warnings, err
}

// noteUse notes first uses that nothing has noted yet: of a group's CA that was in use until
// now it has to be known, or it never retires by itself.
func noteUse(tx Tx, s entrySlots, list []Credential, now time.Time) error {
	for i := range list {
		c := &list[i]
		if !c.SeenAt.IsZero() {
			continue
		}
		used, err := tx.HangsAny(s.use(c.Slot))
		if err != nil {
			return err
		}
		if used {
			c.SeenAt = now
		}
	}
	return nil
}

// credential is what is to be staged, of the role that the entry's credentials have.
func (st Staging) credential(tx Tx, en Enrollment) (Credential, error) {
	role := en.Role()
	switch {
	case role == RoleKey:
		return Credential{}, fault.New(fault.Conflict, "attestation-mismatch", "the entry attests with symmetric keys, which are regenerated").About(en.String())
	case role == RoleTPM:
		return Credential{}, fault.New(fault.Conflict, "attestation-mismatch", "the entry attests with a TPM, which does not roll: write the entry anew").About(en.String())
	case role == RoleTPMList:
		return Credential{}, fault.New(fault.Conflict, "attestation-mismatch", "the group has a list of endorsement keys, which does not roll: change the list").About(en.String())
	case (st.Anchor == "") == (len(st.Certificate) == 0):
		return Credential{}, fault.New(fault.Malformed, "attestation", "say one of a certificate and a trust anchor")
	case role == "" && en.Kind == Individual:
		role = RoleClient
	case role == "" && st.Anchor == "":
		role = RoleSigning
	case role == "":
		role = RoleCARef
	}
	if role.refers() != (st.Anchor != "") {
		return Credential{}, fault.New(fault.Malformed, "attestation-mismatch", "both slots hold the same sort of credential: this entry's is %s", role).About(en.String())
	}
	if role.refers() {
		return reference(tx, role, st.Anchor, 0, "/caReference")
	}
	cert, err := verify.ParseCertificate(st.Certificate)
	if err != nil {
		return Credential{}, at400(err, "/certificate")
	}
	err = checkEntryCertificate(Draft{Owner: en.Owner, Attestation: Attestation{Role: role}}, cert.IsCA, cert.Subject.CommonName, "/certificate")
	return Credential{Role: role, Certificate: cert.Raw}, err
}

// PromoteCredential makes the staged credential of an entry the active one, although no
// device was seen using it. The former one retires: it stands on until the plan's overlap is
// over, and until the new one has been seen.
//
// Errors: Conflict "not-staged", PreconditionFailed.
func (e *Engine) PromoteCredential(ctx context.Context, actor string, o Owner, pre Precondition) (en Enrollment, err error) {
	err = e.changeSlots(ctx, o, pre, func(tx Tx, s entrySlots, now time.Time) (Enrollment, []audit.Event, error) {
		plans, err := PlansOnRecord(tx)
		if err != nil {
			return s.entry, nil, err
		}
		slot, there := s.in(rotation.Staged)
		if !there {
			return s.entry, nil, fault.New(fault.Conflict, "not-staged", "no credential of the entry is staged").About(o.String())
		}
		pair, err := s.pair.Promote(s.pair.Cell(slot).Ref, now, entryPlan(plans, s.entry).Rotation().Overlap)
		if err != nil {
			return s.entry, nil, err
		}
		facts := map[string]any{}
		if former := pair.Cell(slot.Other()); former.State == rotation.Retiring {
			facts["retireAt"] = former.RetireAt
		}
		return s.with(pair), []audit.Event{s.event(actor, audit.RollPromoted, slot, operatorAsked, facts, now)}, nil
	}, &en)
	return en, err
}

// Retiring is what is to be taken out of an entry early.
type Retiring struct {
	Slot *rotation.Slot // nil: the one that is retiring
	// Force retires it although the other one was not seen in use, or devices would be locked
	// out.
	Force bool
}

// RetireCredential takes a credential out of its slot before its time: one that is retiring,
// or one that was staged by mistake. From the commit on it admits nobody.
//
// Errors: Conflict "slot-empty", "nothing-retiring"; "last-credential" when the other slot
// admits nobody, which force does not change (scenarios H12: the last good one goes only with
// the entry); "successor-not-seen" and "devices-locked-out", which it does;
// PreconditionFailed.
func (e *Engine) RetireCredential(ctx context.Context, actor string, o Owner, r Retiring, pre Precondition) (en Enrollment, err error) {
	slot, locked, version, err := e.beforeRetiring(ctx, o, r)
	if err != nil {
		return en, err
	}
	if pre == (Precondition{}) {
		pre.Version = version
	}
	err = e.changeSlots(ctx, o, pre, func(tx Tx, s entrySlots, now time.Time) (Enrollment, []audit.Event, error) {
		if err := e.checkRetiring(tx, s, slot, locked, r.Force, now); err != nil {
			return s.entry, nil, err
		}
		next := s.entry
		next.Credentials = nil
		for _, c := range s.entry.Credentials {
			if c.Slot != slot {
				next.Credentials = append(next.Credentials, c)
			}
		}
		settleSlots(next.Credentials, s.entry, now)
		action, facts := audit.RollRetired, map[string]any{}
		if s.pair.Cell(slot).State == rotation.Staged {
			action = audit.RollDropped
		}
		if r.Force {
			facts["forced"], facts["lockedOut"] = true, locked
		}
		return next, []audit.Event{s.event(actor, action, slot, operatorAsked, facts, now)}, nil
	}, &en)
	return en, err
}

// beforeRetiring counts, before the transaction that nobody can register beside, who would be
// locked out: the devices of a group are many.
func (e *Engine) beforeRetiring(ctx context.Context, o Owner, r Retiring) (slot rotation.Slot, locked, version int64, err error) {
	now := e.now()
	err = e.store.View(ctx, func(tx Tx) error {
		en, err := tx.Enrollment(o)
		if err != nil {
			return err
		}
		s, err := readSlots(tx, en)
		if err != nil {
			return err
		}
		if slot, err = r.slot(s); err != nil {
			return err
		}
		version = en.Version
		_, locked, err = tx.HangCount(s.hang(slot), now)
		return err
	})
	return slot, locked, version, err
}

func (r Retiring) slot(s entrySlots) (rotation.Slot, error) {
	if r.Slot == nil {
		slot, there := s.in(rotation.Retiring)
		if !there {
			return 0, fault.New(fault.Conflict, "nothing-retiring", "no credential of the entry is retiring: say which slot").About(s.entry.String())
		}
		return slot, nil
	}
	if s.entry.Role() == RoleKey {
		return 0, fault.New(fault.Conflict, "attestation-mismatch", "the entry attests with symmetric keys, which are regenerated").About(s.entry.String())
	}
	if _, there := s.entry.slot(s.entry.Role(), *r.Slot); !there {
		return 0, fault.New(fault.Conflict, "slot-empty", "the %s slot is empty", *r.Slot).About(s.entry.String())
	}
	return *r.Slot, nil
}

// changeSlots makes one change of an entry's slots, in the order of trust: of two operators
// at once the second one sees what the first one did.
func (e *Engine) changeSlots(ctx context.Context, o Owner, pre Precondition, change func(tx Tx, s entrySlots, now time.Time) (Enrollment, []audit.Event, error), out *Enrollment) error {
	now := e.now()
	err := e.store.UpdateTrust(ctx, func(tx Tx) error {
		was, err := tx.Enrollment(o)
		if err != nil {
			return err
		}
		if pre != (Precondition{}) {
			if err := pre.check(was.Version); err != nil {
				return err
			}
		}
		s, err := readSlots(tx, was)
		if err != nil {
			return err
		}
		next, events, err := change(tx, s, now)
		if err != nil {
			return err
		}
		next.Version, next.Updated, next.DueAt = was.Version+1, now, now
		err = e.writeSlots(tx, was, next, now)
		for _, event := range events {
			err = first(err, tx.Append(event))
		}
		*out = next
		return err
	})
	if err != nil {
		return err
	}
	*out, err = e.withWebhook(*out)
	return err
}

// writeSlots writes an entry whose slots were changed. When a leaf was taken out, the sweep
// looks at the device: if it was issued here and stands nowhere any more, it is superseded.
func (e *Engine) writeSlots(tx Tx, was, next Enrollment, now time.Time) error {
	if plainWebhook(next.SealedWebhook) {
		next.SealedWebhook = sealWebhook(e.box, next.Owner, e.changing(next).Custom)
	}
	err := first(tx.UpdateEnrollment(next, was.Version), hubsAdapt(tx, was, next))
	if err != nil || was.Role() != RoleClient || len(next.Credentials) >= len(was.Credentials) {
		return err
	}
	return tx.MarkLeft(next.ID, now)
}

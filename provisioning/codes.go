package provisioning

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// EnrollmentCode is a one-time code on record: an operator's word that whoever shows
// it once, before it expires, is this device. It admits by the device's own enrollment
// or, with a Group, by that group, whatever these attest with. Only its hash is kept.
type EnrollmentCode struct {
	Hash      verify.CodeHash
	ID        verify.RegistrationID
	Group     verify.RegistrationID // zero: the device has an enrollment of its own
	Created   time.Time
	CreatedBy string
	Expires   time.Time
	UsedAt    time.Time // zero: not spent
}

// Owner is the entry that decides about whoever shows the code.
func (c EnrollmentCode) Owner() Owner {
	if !c.Group.IsZero() {
		return Owner{Kind: Group, ID: c.Group}
	}
	return Owner{Kind: Individual, ID: c.ID}
}

// CodeFilter narrows a list of codes. The order is that of their hashes.
type CodeFilter struct {
	ID    verify.RegistrationID
	After verify.CodeHash
	Limit int
}

// CodeTx is the part of a transaction that is about one-time codes.
type CodeTx interface {
	EnrollmentCode(verify.CodeHash) (EnrollmentCode, error)
	// EnrollmentCodeNamed finds a code by the start of its hash.
	EnrollmentCodeNamed(start [8]byte) (EnrollmentCode, error)
	EnrollmentCodes(CodeFilter) ([]EnrollmentCode, error)
	InsertEnrollmentCode(EnrollmentCode) error
	// SpendEnrollmentCode marks a code that is neither spent nor expired at that time; of
	// two at once one wins. Otherwise it is fault.Conflict, rule RuleCodeMoved.
	SpendEnrollmentCode(h verify.CodeHash, at time.Time) error
	// DeleteEnrollmentCode deletes a code that was not spent.
	DeleteEnrollmentCode(verify.CodeHash) error
	// DeleteOpenEnrollmentCodes deletes a device's codes that were not spent, if any.
	DeleteOpenEnrollmentCodes(verify.RegistrationID) error
}

// RuleCodeMoved is the rule word for a code that is no longer as it was read.
const RuleCodeMoved = "code-moved"

// Bounds of a code's life.
const (
	DefaultCodeLife = 24 * time.Hour
	maxCodeLife     = 90 * 24 * time.Hour
	minCodeLife     = time.Minute
)

// CodeRequest asks for a one-time code.
type CodeRequest struct {
	ID       verify.RegistrationID
	Group    verify.RegistrationID // zero: the device's own enrollment
	Lifetime time.Duration         // 1 minute to 90 days; 0 = DefaultCodeLife
}

// CreateCode makes a one-time code for a device and returns its text, which is shown
// this once. It replaces the device's code that was not spent, if there is one.
//
// Errors: NotFound for an entry that does not exist; Conflict, "code-entry-disabled"
// or "code-individual-decides", where the code could admit nobody; Malformed
// "code-lifetime" and "code-without-profile".
func (e *Engine) CreateCode(ctx context.Context, actor string, r CodeRequest) (string, EnrollmentCode, error) {
	now := e.now()
	if r.Lifetime == 0 {
		r.Lifetime = DefaultCodeLife
	}
	if r.Lifetime < minCodeLife || r.Lifetime > maxCodeLife {
		return "", EnrollmentCode{}, fault.New(fault.Malformed, "code-lifetime", "a one-time code lives between 1 minute and 90 days").At("/lifetime")
	}
	text, hash, err := verify.NewCode(rand.Reader)
	if err != nil {
		return "", EnrollmentCode{}, err
	}
	code := EnrollmentCode{Hash: hash, ID: r.ID, Group: r.Group, Created: now, CreatedBy: actor, Expires: now.Add(r.Lifetime)}
	err = e.store.Update(ctx, func(tx Tx) error {
		if err := code.mayAdmit(tx); err != nil {
			return err
		}
		facts := map[string]any{"registrationId": code.ID.String(), "entry": code.Owner().String(), "expires": code.Expires.Format(time.RFC3339)}
		return first(tx.DeleteOpenEnrollmentCodes(code.ID), tx.InsertEnrollmentCode(code), tx.Append(code.event(now, actor, audit.CodeMade, facts)))
	})
	return text, code, err
}

// mayAdmit refuses to make a code that could admit nobody.
func (c EnrollmentCode) mayAdmit(tx Tx) error {
	entry, err := tx.Enrollment(c.Owner())
	if err != nil {
		return err
	}
	if !entry.Enabled {
		return fault.New(fault.Conflict, "code-entry-disabled", "the entry is disabled: a one-time code would admit nobody").About(entry.String())
	}
	if entry.Profile == "" {
		return fault.New(fault.Malformed, "code-without-profile", "the entry issues no certificates (credentialPolicyName), and a one-time code is good for nothing else").About(entry.String())
	}
	if c.Group.IsZero() {
		return nil
	}
	individual := Owner{Kind: Individual, ID: c.ID}
	if _, err = tx.Enrollment(individual); err == nil {
		return fault.New(fault.Conflict, "code-individual-decides", "the device has an enrollment of its own, which alone decides: make the code for that").About(individual.String())
	}
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

func (c EnrollmentCode) event(now time.Time, actor string, action audit.Action, facts map[string]any) audit.Event {
	return audit.Event{At: now, Actor: actor, Action: action, Subject: "code:" + c.Hash.Name(), Body: audit.Body(facts)}
}

// RevokeCode makes a code good for nothing from the commit on. name is that of its
// hash. A code that was spent is a Conflict, "code-spent": what it got is a certificate.
func (e *Engine) RevokeCode(ctx context.Context, actor, name string) error {
	now := e.now()
	var start [8]byte
	if b, err := hex.DecodeString(name); err != nil || copy(start[:], b) != len(start) || len(b) != len(start) {
		return fault.New(fault.Malformed, "code-name", "a one-time code is named by 16 hex digits, as the list has it")
	}
	return e.store.Update(ctx, func(tx Tx) error {
		code, err := tx.EnrollmentCodeNamed(start)
		if err != nil {
			return err
		}
		if !code.UsedAt.IsZero() {
			return fault.New(fault.Conflict, "code-spent", "the code was used already: revoke the certificate it got").About("registration " + code.ID.String())
		}
		return first(tx.DeleteEnrollmentCode(code.Hash),
			tx.Append(code.event(now, actor, audit.CodeRevoked, map[string]any{"registrationId": code.ID.String()})))
	})
}

// Codes lists one-time codes, spent ones too, without their texts.
func (e *Engine) Codes(ctx context.Context, f CodeFilter) (list []EnrollmentCode, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		list, err = tx.EnrollmentCodes(f)
		return err
	})
	return list, err
}

// readCode adds to the facts the code that was shown, if it is on record, and the group
// it names, which other facts need not name.
func (d *decision) readCode(tx Tx) (err error) {
	if d.facts, err = tx.Facts(d.query); err != nil {
		return err
	}
	code, err := tx.EnrollmentCode(d.shown)
	if fault.Is(err, fault.NotFound) {
		d.code = nil
		return nil
	}
	if err != nil {
		return err
	}
	d.code = &code
	if _, met := d.facts.Entry(code.Owner()); met || code.Group.IsZero() {
		return nil
	}
	group, err := tx.Enrollment(code.Owner())
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	d.facts.Enrollments = append(d.facts.Enrollments, group)
	return err
}

// judgeCode lets an operator's word stand for the device's attestation, once. The entry
// that it was given for must be there still, enabled, and be the one that decides.
func (e *Engine) judgeCode(d *decision, individual Enrollment, shadowed bool, now time.Time) error {
	t, code := &d.trace, d.code
	if code == nil {
		return t.refuse("code-unknown", "", "there is no such one-time code, or it was revoked or replaced")
	}
	object := "code " + code.Hash.Name()
	if d.csr == nil {
		return t.refuse("code-without-request", object, "a one-time code is good for a certificate and nothing else")
	}
	if shadowed && code.Owner() != individual.Owner {
		return t.refuse("code-not-enrolled", individual.String(), "an individual enrollment now decides for this id, and the code was made for a member of "+code.Owner().String())
	}
	entry, ok := d.facts.Entry(code.Owner())
	if !ok || entry.Created.After(code.Created) {
		return t.refuse("code-orphaned", object, "the entry that the code was made for was deleted")
	}
	if !entry.Enabled {
		return t.refuse("enrollment-disabled", entry.String(), "the entry that the code was made for is disabled")
	}
	d.entry = entry
	evidence := verify.CodeEvidence{ID: d.query.ID, Code: d.shown}
	if d.repeats(d.csr, now) {
		evidence.Repeats = d.facts.Registration.Operation.At
	}
	id, err := verify.Code(evidence, verify.KeptCode{Hash: code.Hash, ID: code.ID, Expires: code.Expires, UsedAt: code.UsedAt}, now)
	if err != nil {
		return t.refused(object, err)
	}
	d.identity = id
	t.pass("one-time-code", entry.String(), "a code that "+code.CreatedBy+" made for this device")
	return nil
}

// spend makes the code that was shown good for nothing, in the transaction that issues
// by it. The entry is read again: it need not be among the facts that are compared.
func (d *decision) spend(tx Tx, next Registration) error {
	if d.code == nil {
		return nil
	}
	entry, err := tx.Enrollment(d.entry.Owner)
	if fault.Is(err, fault.NotFound) || err == nil && entry.Version != d.entry.Version {
		return errMoved
	}
	return first(err, tx.SpendEnrollmentCode(d.code.Hash, next.Operation.At),
		tx.Append(d.code.event(next.Operation.At, "device:"+next.ID.String(), audit.CodeSpent, map[string]any{"registrationId": next.ID.String(), "operation": next.Operation.ID})))
}

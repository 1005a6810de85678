package provisioning

import (
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// checkStaging refuses what could not follow the credential there is. A PUT of both slots is
// told the same as warnings: it may mean two that stand side by side for good.
//
// Conflict: "certificate-expired", "ends-before-current", "same-key", "certificate-disallowed",
// "held-elsewhere", "chain-not-trusted".
func (e *Engine) checkStaging(tx Tx, s entrySlots, c Credential, held slotHolding, sameKey bool, now time.Time) error {
	at := "/certificate"
	if c.Role.refers() {
		at = "/caReference"
	}
	conflict := func(rule, detail string) error {
		return fault.New(fault.Conflict, rule, "%s", detail).About(s.entry.String()).At(at)
	}
	follows, there := s.in(rotation.Active)
	findings, err := e.findings(tx, s.entry, c, held)
	switch {
	case err != nil:
		return err
	case !now.Before(held.link.Cert.NotAfter):
		return conflict("certificate-expired", "the certificate has ended already")
	case there && !held.link.Cert.NotAfter.After(s.pair.Cell(follows).NotAfter):
		return conflict("ends-before-current", "the certificate ends no later than the one it is to follow")
	case there && !sameKey && held.link.KeyHash == s.holds[follows].link.KeyHash:
		return conflict("same-key", "the certificate has the key of the one it is to follow: a roll brings a new key")
	case findings.disallowed != nil:
		return conflict("certificate-disallowed", "the certificate, its key, or a CA above it is disallowed: "+findings.disallowed.object())
	case !c.Role.refers() && len(findings.elsewhere) > 0:
		return conflict("held-elsewhere", "the certificate stands in "+findings.elsewhere[0].Owner.String())
	case c.Role == RoleSigning && findings.unvouched:
		return conflict("chain-not-trusted", "no verified trust anchor is, or signed, the certificate")
	}
	return nil
}

// findings are what is on record about a credential of an entry.
type findings struct {
	disallowed *Disallowance // of it, its key, or a CA above it; nil: there is none
	elsewhere  []Holder      // the other entries that hold it
	unvouched  bool          // a signing certificate that no verified anchor is, or signed
}

func (e *Engine) findings(tx Tx, en Enrollment, c Credential, held slotHolding) (f findings, err error) {
	if held.link.Cert == nil {
		return f, nil
	}
	link := held.link
	d := &decision{query: FactsQuery{ID: en.ID}, whole: true}
	d.cover(link)
	if err := e.readFacts(tx, d); err != nil {
		return f, err
	}
	f.disallowed = e.refusal(d)
	holders, err := tx.HoldersOf(link.Thumbprint)
	if err != nil {
		return f, err
	}
	for _, h := range holders {
		if h.Owner != en.Owner && !h.Owner.IsZero() {
			f.elsewhere = append(f.elsewhere, h)
		}
	}
	if c.Role == RoleSigning {
		f.unvouched, err = e.unvouched(d.facts, link)
	}
	return f, err
}

// unvouched says whether neither a signing certificate nor the CA right above it is a
// verified anchor (scenarios B5).
func (e *Engine) unvouched(facts Facts, link verify.Link) (bool, error) {
	for _, h := range facts.HeldCAs {
		if !h.Verified {
			continue
		}
		above, err := e.held.link(h)
		if err != nil {
			return false, err
		}
		if above.Thumbprint == link.Thumbprint || verify.SignedBy(link, above) {
			return false, nil
		}
	}
	return true, nil
}

// checkRetiring refuses to take out what is still needed. locked counts the devices that
// nothing else of theirs would admit.
func (e *Engine) checkRetiring(tx Tx, s entrySlots, slot rotation.Slot, locked int64, force bool, now time.Time) error {
	other := slot.Other()
	conflict := func(rule, format string, args ...any) error {
		return fault.New(fault.Conflict, rule, format, args...).About(s.entry.String())
	}
	if !s.good(other, now) {
		return conflict("last-credential", "the %s slot would admit nobody: the last good credential goes only with the entry, or when it is disallowed", other)
	}
	c, _ := s.entry.slot(s.entry.Role(), other)
	if f, err := e.findings(tx, s.entry, c, s.holds[other]); err != nil {
		return err
	} else if f.disallowed != nil {
		return conflict("last-credential", "what the %s slot holds is disallowed: it would admit nobody", other)
	}
	switch {
	case force:
	case locked > 0:
		return conflict("devices-locked-out", "%d devices hang on the %s slot and would be refused", locked, slot)
	case s.pair.Cell(other).SeenAt.IsZero() && s.pair.Cell(slot).State != rotation.Staged:
		return conflict("successor-not-seen", "no device was seen using the %s slot", other)
	}
	return nil
}

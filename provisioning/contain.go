package provisioning

import (
	"bytes"
	"crypto/x509"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// compromise is what a disallowance names, read once.
type compromise struct {
	link  verify.Link
	scope DisallowScope
}

func newCompromise(der []byte, scope DisallowScope) (c compromise, err error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return c, err
	}
	return compromise{verify.NewLink(cert), scope}, nil
}

// rows are what a disallowance writes: a thumbprint, a key, or both. A CA's has the certificate
// too, so that it refuses where a device leaves it out of its chain (scenarios X2).
func (c compromise) rows(i Incident) (list []Disallowance) {
	row := Disallowance{Incident: i.ID, Reason: i.Reason, Actor: i.Actor, Created: i.Created}
	if c.link.Cert.IsCA {
		row.Certificate, row.Subject = i.Certificate, verify.NameHash(c.link.Cert.RawSubject)
	}
	if c.scope != DisallowKey {
		row.ID, row.Digest = i.ID, [32]byte(c.link.Thumbprint)
		list = append(list, row)
	}
	if c.scope != DisallowCertificate {
		row.ID, row.Digest, row.Key = i.ID+"-key", [32]byte(c.link.KeyHash), true
		list = append(list, row)
	}
	return list
}

func (c compromise) restsOn() (on RestsOn) {
	on.Digests = [][32]byte{c.link.Thumbprint}
	if c.scope != DisallowCertificate {
		on.Digests = append(on.Digests, c.link.KeyHash)
	}
	if c.link.Cert.IsCA {
		on.Below = verify.NameHash(c.link.Cert.RawSubject)
	}
	return on
}

// names says whether a certificate is refused by it as itself; hits, or as one that the CA
// signed.
func (c compromise) names(l verify.Link) bool {
	return c.scope != DisallowKey && l.Thumbprint == c.link.Thumbprint || c.scope != DisallowCertificate && l.KeyHash == c.link.KeyHash
}

func (c compromise) hits(l verify.Link) bool {
	return c.names(l) || c.scope == DisallowBelow && bytes.Equal(l.Cert.RawIssuer, c.link.Cert.RawSubject) && verify.SignedBy(l, c.link)
}

// contain decides what becomes of an entry, from values alone: what is hit leaves its slot if
// the other one is clean, not refused already, and would admit; else the entry is disabled
// (architecture §6).
func (c compromise) contain(s entrySlots, refused [2]bool, now time.Time) EntryEffect {
	hit := func(slot rotation.Slot) bool { return s.holds[slot].link.Cert != nil && c.hits(s.holds[slot].link) }
	for _, slot := range []rotation.Slot{rotation.Primary, rotation.Secondary} {
		if !hit(slot) {
			continue
		}
		e := EntryEffect{Owner: s.entry.Owner, Act: EntryShut, Slot: slot}
		switch other := slot.Other(); {
		case !s.entry.Enabled:
			e.Act = EntryWasShut
		case s.holds[other].link.Cert != nil && !hit(other) && !refused[other] && s.good(other, now):
			e.Act = SlotEmptied
		}
		return e
	}
	return EntryEffect{}
}

// maxEntryEffects bounds the entries that one act changes: they change in its transaction.
const maxEntryEffects = 1000

// effects finds the entries that hold what is compromised, and says what becomes of each: those
// that hold the certificate itself, and groups that hold what it signed. Leaves that it signed and
// entries pin are refused as any other; their entries, which may be very many, stay.
func (c compromise) effects(tx Tx, now time.Time) (list []EntryEffect, err error) {
	holders, err := tx.HoldersOf(c.link.Thumbprint)
	if err != nil {
		return nil, err
	}
	var owners []Owner
	for _, h := range holders {
		if !h.Owner.IsZero() {
			owners = append(owners, h.Owner)
		}
	}
	if c.scope == DisallowBelow {
		below, err := tx.EntriesSignedBy(verify.NameHash(c.link.Cert.RawSubject), Group, maxEntryEffects+1)
		if err != nil {
			return nil, err
		}
		owners = append(owners, below...)
	}
	for _, o := range owners {
		entry, err := tx.Enrollment(o)
		if err != nil {
			return nil, err
		}
		if list, err = c.effect(tx, entry, list, now); err != nil {
			return nil, err
		}
	}
	if len(list) > maxEntryEffects {
		return nil, fault.New(fault.Conflict, "too-many-entries", "more than %d entries hold it: disallow the CA above them, or disable some", maxEntryEffects)
	}
	return list, nil
}

func (c compromise) effect(tx Tx, entry Enrollment, list []EntryEffect, now time.Time) ([]EntryEffect, error) {
	s, err := readSlots(tx, entry)
	if err != nil {
		return nil, err
	}
	var refused [2]bool
	for slot, h := range s.holds {
		if h.link.Cert == nil {
			continue
		}
		if refused[slot], err = tx.Barred(Registration{Leaf: h.link.Thumbprint, LeafKey: h.link.KeyHash}); err != nil {
			return nil, err
		}
	}
	e := c.contain(s, refused, now)
	if e.Act == "" || slices.ContainsFunc(list, func(x EntryEffect) bool { return x.Owner == e.Owner }) {
		return list, nil
	}
	return append(list, e), nil
}

// above are the enabled groups that hold a CA above a certificate: without an entry of its own its
// devices come in by them. A disabled one shuts all of them out (invariant 3), unless it is except.
func above(tx Tx, link verify.Link, except Owner) (groups []Owner, err error) {
	seen := map[verify.Thumbprint]bool{}
	for queue := []verify.Link{link}; len(queue) > 0; queue = queue[1:] {
		below := queue[0]
		if seen[below.Thumbprint] {
			continue
		}
		seen[below.Thumbprint] = true
		held, err := tx.HeldCAsNamed(verify.NameHash(below.Cert.RawIssuer))
		if err != nil {
			return nil, err
		}
		for _, der := range held {
			cert, err := x509.ParseCertificate(der)
			if err != nil || seen[verify.ThumbprintOf(der)] || !verify.SignedBy(below, verify.NewLink(cert)) {
				continue
			}
			parent := verify.NewLink(cert)
			in, open, err := holding(tx, parent, except)
			if err != nil || !open {
				return nil, err
			}
			groups, queue = append(groups, in...), append(queue, parent)
		}
	}
	return groups, nil
}

// holding are the enabled groups that hold a certificate; open is false if a disabled entry does.
func holding(tx Tx, link verify.Link, except Owner) (groups []Owner, open bool, err error) {
	holders, err := tx.HoldersOf(link.Thumbprint)
	for _, h := range holders {
		switch {
		case h.Owner.IsZero() || h.Owner == except:
		case !h.Enabled:
			return nil, false, err
		case h.Owner.Kind == Group:
			groups = append(groups, h.Owner)
		}
	}
	return groups, true, err
}

// applyEffect makes the change of one entry.
func (e *Engine) applyEffect(tx Tx, x EntryEffect, actor string, now time.Time) error {
	was, err := tx.Enrollment(x.Owner)
	if err != nil || x.Act == EntryWasShut {
		return err
	}
	next := was
	next.Version, next.Updated, next.DueAt = was.Version+1, now, now
	if x.Act == EntryShut {
		next.Enabled = false
	} else {
		next.Credentials = slices.DeleteFunc(slices.Clone(was.Credentials), func(c Credential) bool { return c.Slot == x.Slot })
	}
	event := entryEvent(actor, changeOf(was, next), was, next, now)
	return first(e.writeSlots(tx, was, next, now), tx.Append(event))
}

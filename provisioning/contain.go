package provisioning

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// compromise is what a disallowance names, read once.
type compromise struct {
	link  verify.Link
	scope DisallowScope
	fall  ca.Fall       // of a CA of ours
	also  []verify.Link // the certificates that fall with it, but for link
}

func newCompromise(der []byte, scope DisallowScope) (c compromise, err error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return c, err
	}
	return compromise{link: verify.NewLink(cert), scope: scope}, nil
}

// readFall adds the issuers of ours that fall with a CA.
func (c *compromise) readFall(tx Tx) error {
	issuers, err := tx.Issuers()
	if err != nil {
		return err
	}
	c.fall = ca.FallOf(issuers, c.link.Cert)
	seen := map[verify.Thumbprint]bool{c.link.Thumbprint: true}
	for _, i := range c.fall.Issuers {
		cert, err := x509.ParseCertificate(i.Certificate)
		if err != nil {
			return err
		}
		if l := verify.NewLink(cert); !seen[l.Thumbprint] {
			seen[l.Thumbprint] = true
			c.also = append(c.also, l)
		}
	}
	return nil
}

// cas are the certificate that is named, and those of ours that fall with it.
func (c compromise) cas() []verify.Link { return append([]verify.Link{c.link}, c.also...) }

// rows are what a disallowance writes, of each CA that falls: a thumbprint, a key, or both. A CA's
// has the certificate too, so that it refuses where a device leaves it out of its chain (scenarios X2).
func (c compromise) rows(i Incident) (list []Disallowance) {
	for n, l := range c.cas() {
		row := Disallowance{Incident: i.ID, ID: i.ID, Reason: i.Reason, Actor: i.Actor, Created: i.Created}
		if n > 0 {
			row.ID = fmt.Sprintf("%s-%d", i.ID, n)
		}
		if l.Cert.IsCA {
			row.Certificate, row.Subject = l.Cert.Raw, verify.NameHash(l.Cert.RawSubject)
		}
		if c.scope != DisallowKey {
			row.Digest = [32]byte(l.Thumbprint)
			list = append(list, row)
		}
		if c.scope != DisallowCertificate {
			row.ID, row.Digest, row.Key = row.ID+"-key", [32]byte(l.KeyHash), true
			list = append(list, row)
		}
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
	on.Issuers = c.issuers()
	return on
}

func (c compromise) issuers() (list []ca.IssuerID) {
	for _, i := range c.fall.Issuers {
		list = append(list, i.ID)
	}
	return list
}

// hits says whether a certificate is refused by it: as itself, or as one that a CA signed.
func (c compromise) hits(l verify.Link) bool {
	return slices.ContainsFunc(c.cas(), func(of verify.Link) bool {
		return c.scope != DisallowKey && l.Thumbprint == of.Thumbprint || c.scope != DisallowCertificate && l.KeyHash == of.KeyHash ||
			c.scope == DisallowBelow && signs(of, l)
	})
}

// contain decides what becomes of an entry, from values alone: what is hit leaves its slot if
// the other one is clean, not refused already, and would admit; else the entry is disabled
// (architecture §6).
func (c compromise) contain(s entrySlots, refused [2]bool, now time.Time) EntryEffect {
	hit := func(slot rotation.Slot) bool {
		h := s.holds[slot]
		return h.link.Cert != nil && c.hits(h.link) || !h.tpm.IsZero() && c.scope == DisallowKey && h.tpm == c.link.KeyHash
	}
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
// that hold the certificate itself or, as a TPM's, its key, and groups that hold what it signed. Leaves that it signed and
// entries pin are refused as any other; their entries, which may be very many, stay.
func (c compromise) effects(tx Tx, now time.Time) (list []EntryEffect, err error) {
	var owners []Owner
	for _, l := range c.cas() {
		// What names a TPM holds its endorsement key.
		for _, named := range []verify.Thumbprint{l.Thumbprint, verify.Thumbprint(l.KeyHash)} {
			holders, err := tx.HoldersOf(named)
			if err != nil {
				return nil, err
			}
			for _, h := range holders {
				if !h.Owner.IsZero() {
					owners = append(owners, h.Owner)
				}
			}
		}
		if c.scope != DisallowBelow {
			continue
		}
		below, err := tx.EntriesSignedBy(verify.NameHash(l.Cert.RawSubject), Group, maxEntryEffects+1)
		if err != nil {
			return nil, err
		}
		owners = append(owners, below...)
	}
	for n, o := range owners {
		if slices.Contains(owners[:n], o) {
			continue
		}
		e, err := c.effect(tx, o, now)
		if err != nil {
			return nil, err
		}
		if e.Act != "" {
			list = append(list, e)
		}
	}
	if len(list) > maxEntryEffects {
		return nil, fault.New(fault.Conflict, "too-many-entries", "more than %d entries hold it: disallow the CA above them, or disable some", maxEntryEffects)
	}
	return list, nil
}

// effect is what becomes of one entry; zero: nothing.
func (c compromise) effect(tx Tx, o Owner, now time.Time) (e EntryEffect, err error) {
	entry, err := tx.Enrollment(o)
	if err != nil {
		return e, err
	}
	s, err := readSlots(tx, entry)
	if err != nil {
		return e, err
	}
	var refused [2]bool
	for slot, h := range s.holds {
		if h.link.Cert == nil {
			continue
		}
		if refused[slot], err = tx.Barred(Registration{Leaf: h.link.Thumbprint, LeafKey: h.link.KeyHash}); err != nil {
			return e, err
		}
	}
	return c.contain(s, refused, now), nil
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

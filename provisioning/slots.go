package provisioning

import (
	"crypto/sha256"
	"crypto/x509"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
	"github.com/passmuster/muster/verify/tpm"
)

// noEnd is the end of what has none (RFC 5280 §4.1.2.5).
var noEnd = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// entrySlots are the two slots of an entry as the pair they make. The credentials are kept
// without their dates, which are read from the certificates only where they matter: what
// admits a device never asks for them here.
type entrySlots struct {
	entry Enrollment
	pair  rotation.Pair
	holds [2]slotHolding
}

// slotHolding is what the certificate of a slot says, or its TPM; of a slot that is empty or holds a
// key nothing.
type slotHolding struct {
	link       verify.Link
	tpm        verify.KeyHash // of a TPM its endorsement key
	unverified bool           // it names an anchor that has not proved possession
}

// readSlots reads the pair that an entry's credentials make.
func readSlots(tx Tx, en Enrollment) (s entrySlots, err error) {
	s.entry = en
	var cells [2]rotation.Cell
	for _, c := range en.Credentials {
		if cells[c.Slot], s.holds[c.Slot], err = cellOf(tx, c); err != nil {
			return s, err
		}
	}
	if cells[rotation.Primary].Ref == cells[rotation.Secondary].Ref {
		cells[rotation.Secondary] = rotation.Cell{} // one credential, written into both slots: it does not roll
	}
	s.pair, err = rotation.RestorePair(cells[rotation.Primary], cells[rotation.Secondary])
	return s, err
}

// placed is a pair with another cell in a slot, where no move of the pair says what happened:
// the active one was first used, or what was retiring was left alone.
func placed(p rotation.Pair, slot rotation.Slot, c rotation.Cell) rotation.Pair {
	cells := [2]rotation.Cell{p.Cell(rotation.Primary), p.Cell(rotation.Secondary)}
	cells[slot] = c
	out, err := rotation.RestorePair(cells[rotation.Primary], cells[rotation.Secondary])
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return out
}

func cellOf(tx Tx, c Credential) (cell rotation.Cell, h slotHolding, err error) {
	cell = rotation.Cell{State: c.State, SeenAt: c.SeenAt, RetireAt: c.RetireAt}
	switch c.Role {
	case RoleKey:
		cell.Ref, cell.NotBefore, cell.NotAfter = sha256.Sum256(c.SealedKey), c.Since, noEnd
		return cell, h, nil
	case RoleTPM:
		ek, err := tpm.ParseEndorsementKey(c.TPM.Endorsement)
		cell.Ref, cell.NotBefore, cell.NotAfter = sha256.Sum256(c.TPM.Endorsement), c.Since, noEnd
		h.tpm = verify.KeyHashOf(ek.SPKI())
		return cell, h, err
	case RoleTPMList:
		cell.Ref, cell.NotBefore, cell.NotAfter = sha256.Sum256([]byte(RoleTPMList)), c.Since, noEnd
		return cell, h, nil
	case RoleCARef, RoleTPMCA:
		anchor, err := tx.Anchor(c.Anchor)
		if err != nil {
			return cell, h, err
		}
		h = slotHolding{link: anchor.Link(), unverified: !anchor.IsVerified()}
	default:
		cert, err := x509.ParseCertificate(c.Certificate)
		if err != nil {
			return cell, h, err
		}
		h.link = verify.NewLink(cert)
	}
	cell.Ref = rotation.Ref(h.link.Thumbprint)
	cell.NotBefore, cell.NotAfter = h.link.Cert.NotBefore.UTC(), h.link.Cert.NotAfter.UTC()
	return cell, h, nil
}

// with is the entry with its slots as pair has them.
func (s entrySlots) with(pair rotation.Pair) Enrollment {
	en := s.entry
	en.Credentials = nil
	for _, c := range s.entry.Credentials {
		cell := pair.Cell(c.Slot)
		if cell.State == rotation.Empty {
			continue
		}
		c.State, c.SeenAt, c.RetireAt = cell.State, cell.SeenAt, cell.RetireAt
		en.Credentials = append(en.Credentials, c)
	}
	return en
}

// room says, for an explanation, which slot of the entry the next credential could go into
// (scenarios H6).
func (e Enrollment) room() string {
	for _, slot := range []rotation.Slot{rotation.Primary, rotation.Secondary} {
		if _, taken := e.slot(e.Role(), slot); !taken {
			return "; its " + slot.String() + " slot is free"
		}
	}
	return "; both are taken"
}

// in says which slot is in a state.
func (s entrySlots) in(state rotation.State) (rotation.Slot, bool) {
	for _, slot := range []rotation.Slot{rotation.Primary, rotation.Secondary} {
		if s.pair.Cell(slot).State == state {
			return slot, true
		}
	}
	return 0, false
}

// good says whether a slot could admit a device at now, as far as the slot itself tells.
func (s entrySlots) good(slot rotation.Slot, now time.Time) bool {
	c := s.pair.Cell(slot)
	return c.State != rotation.Empty && !s.holds[slot].unverified && !now.Before(c.NotBefore) && now.Before(c.NotAfter)
}

// hang asks for the devices that would be refused without a slot.
func (s entrySlots) hang(slot rotation.Slot) Hang {
	return Hang{Owner: s.entry.Owner, On: s.holds[slot].link.Thumbprint, But: s.holds[slot.Other()].link.Thumbprint}
}

// use asks for the devices that a slot admitted: of two CAs, one above the other, the nearer
// one does.
func (s entrySlots) use(slot rotation.Slot) Hang {
	h := s.hang(slot)
	below, above := s.holds[slot].link, s.holds[slot.Other()].link
	if below.Cert != nil && above.Cert != nil && verify.SignedBy(below, above) {
		h.But = verify.Thumbprint{}
	}
	return h
}

// event tells of a move of one slot (INV-L3).
func (s entrySlots) event(actor string, action audit.Action, slot rotation.Slot, reason rotation.Reason, facts map[string]any, now time.Time) audit.Event {
	ref := verify.Thumbprint(s.pair.Cell(slot).Ref)
	body := map[string]any{"ref": ref.String(), "slot": slot.String(), "role": string(s.entry.Role()), "reason": string(reason)}
	for name, value := range facts {
		body[name] = value
	}
	return audit.Event{At: now, Actor: actor, Action: action, Subject: subject(s.entry.Owner), Body: audit.Body(body)}
}

package provisioning

import (
	"slices"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// keyMoves makes the moves of an entry's keys and gathers what the ledger is told of them.
// It is used inside a transaction: what is random was made before.
type keyMoves struct {
	*Engine
	entry  Enrollment
	actor  string
	now    time.Time
	events []audit.Event
}

// moveKeys begins on a copy of the entry as it was read.
func (e *Engine) moveKeys(en Enrollment, actor string, now time.Time) *keyMoves {
	en.Credentials = slices.Clone(en.Credentials)
	return &keyMoves{Engine: e, entry: en, actor: actor, now: now}
}

// renew puts a new key into a slot, staged. The former one is refused from the commit on; if
// it was the one in use, the other takes its place.
func (m *keyMoves) renew(slot rotation.Slot, key []byte, reason rotation.Reason, devices int64) error {
	sealed := m.box.Seal(keyPurpose(m.entry.Owner, slot), key)
	next := Credential{Role: RoleKey, Slot: slot, SealedKey: sealed, State: rotation.Staged, Since: m.now}
	at := slices.IndexFunc(m.entry.Credentials, func(c Credential) bool { return c.Slot == slot })
	if at < 0 {
		m.entry.Credentials = append(m.entry.Credentials, next)
		slices.SortFunc(m.entry.Credentials, func(a, b Credential) int { return int(a.Slot) - int(b.Slot) })
	} else {
		was := m.entry.Credentials[at]
		action := audit.RollRetired
		if was.State == rotation.Staged {
			action = audit.RollDropped
		}
		if err := m.tell(action, was, reason, map[string]any{"devices": devices}); err != nil {
			return err
		}
		m.entry.Credentials[at] = next
	}
	if err := m.tell(audit.RollStaged, next, reason, nil); err != nil {
		return err
	}
	if !slices.ContainsFunc(m.entry.Credentials, func(c Credential) bool { return c.State == rotation.Active }) {
		return m.promote(m.other(slot), reason, 0)
	}
	return nil
}

// other is the slot that takes over when the key in use goes: this one, where it stands alone.
func (m *keyMoves) other(slot rotation.Slot) rotation.Slot {
	if len(m.entry.Credentials) < 2 {
		return slot
	}
	return slot.Other()
}

// promote makes the key of a slot the one in use; the former one stands for at least overlap
// longer.
func (m *keyMoves) promote(slot rotation.Slot, reason rotation.Reason, overlap time.Duration) error {
	for i := range m.entry.Credentials {
		c := &m.entry.Credentials[i]
		switch {
		case c.Slot == slot:
			action := audit.RollPromoted
			c.State, c.RetireAt = rotation.Active, time.Time{}
			if reason == keySeenInUse {
				action, c.SeenAt = audit.RollSeen, m.now
			}
			if err := m.tell(action, *c, reason, nil); err != nil {
				return err
			}
		case c.State == rotation.Active:
			c.State, c.RetireAt = rotation.Retiring, m.now.Add(overlap)
		}
	}
	return nil
}

// tell has the ledger told of a key, by its hash.
func (m *keyMoves) tell(action audit.Action, c Credential, reason rotation.Reason, more map[string]any) error {
	hash, err := m.keyHash(m.entry.Owner, c)
	if err != nil {
		return err
	}
	body := map[string]any{"role": string(RoleKey), "slot": c.Slot.String(), "ref": verify.Thumbprint(hash).String(), "reason": string(reason)}
	for name, value := range more {
		body[name] = value
	}
	m.events = append(m.events, audit.Event{At: m.now, Actor: m.actor, Action: action, Subject: subject(m.entry.Owner), Body: audit.Body(body)})
	return nil
}

// commit writes the entry over the version it was read at.
func (m *keyMoves) commit(tx Tx) error {
	was := m.entry.Version
	m.entry.Version, m.entry.Updated, m.entry.DueAt = was+1, m.now, m.now
	if plainWebhook(m.entry.SealedWebhook) {
		m.entry.SealedWebhook = sealWebhook(m.box, m.entry.Owner, m.changing(m.entry).Custom)
	}
	if err := first(tx.UpdateEnrollment(m.entry, was), tx.PutHubEntry(m.entry.Owner)); err != nil {
		return err
	}
	for _, event := range m.events {
		if err := tx.Append(event); err != nil {
			return err
		}
	}
	return nil
}

// keyHash is the hash of a stored key; zero for an empty slot.
func (e *Engine) keyHash(o Owner, c Credential) (verify.KeyHash, error) {
	if len(c.SealedKey) == 0 {
		return verify.KeyHash{}, nil
	}
	plain, err := e.box.Open(keyPurpose(o, c.Slot), c.SealedKey)
	return verify.NewSecret(plain).Hash(), err
}

// holds says that a slot has this very key: written again it stays where it stands.
func (e *Engine) holds(o Owner, c Credential, key []byte) bool {
	hash, err := e.keyHash(o, c)
	return err == nil && hash == verify.NewSecret(key).Hash()
}

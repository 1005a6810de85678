package provisioning_test

import (
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/verify"
	"github.com/passmuster/muster/verify/tpm"
)

// listing makes a group that admits the TPMs on its list.
func (w *world) listing(name string, edits ...edit) provisioning.Enrollment {
	w.t.Helper()
	return w.put(provisioning.Group, name, provisioning.Attestation{Role: provisioning.RoleTPMList}, edits...)
}

func (m *machine) key() verify.KeyHash {
	m.w.t.Helper()
	ek, err := tpm.ParseEndorsementKey(m.EndorsementKey())
	m.w.must(err)
	return verify.KeyHashOf(ek.SPKI())
}

// lists puts keys on a group's list; names are what they register as, by place.
func (w *world) lists(group string, keys []verify.KeyHash, names ...string) provisioning.ListChange {
	w.t.Helper()
	var add []provisioning.ListedKey
	for i, key := range keys {
		k := provisioning.ListedKey{Key: key}
		if i < len(names) {
			k.ID = id(w, names[i])
		}
		add = append(add, k)
	}
	c, err := w.engine.ChangeListedKeys(w.ctx, ann, id(w, group), add, nil)
	w.must(err)
	return c
}

func (w *world) unlists(group string, keys ...verify.KeyHash) provisioning.ListChange {
	w.t.Helper()
	c, err := w.engine.ChangeListedKeys(w.ctx, ann, id(w, group), nil, keys)
	w.must(err)
	return c
}

// named is the same machine under another registration id.
func (m *machine) named(name string) *machine {
	other := *m
	other.name = name
	return &other
}

func TestAGroupAdmitsTheTPMsOnItsList(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		w.listing("presses")
		m, second := newMachine(w, "press-1"), newMachine(w, "press-2")
		m.refused(m.showing(m.public()), "no-enrollment")
		if c := w.lists("presses", []verify.KeyHash{m.key(), second.key()}); c != (provisioning.ListChange{Added: 2, Listed: 2}) {
			t.Errorf("%+v", c)
		}
		if e := w.latest(); e.Action != audit.EndorsementKeys || e.Actor != ann || e.Subject != "group:presses" {
			t.Errorf("the ledger ends with %+v", e)
		}
		op := m.registers()
		if op.Group != "presses" || op.Attested != verify.MechanismTPM || op.Path != nil {
			t.Errorf("operation %+v", op)
		}
		m.connects(op)
		second.connects(second.registers())
		w.must(m.Activate(m.asks()))
		a := m.proves()
		for what, id := range map[string]string{"a lookup": "", "a poll": op.Operation.ID} {
			polled, err := w.engine.Poll(w.ctx, provisioning.PollRequest{Attempt: polling(a), OperationID: id})
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			m.connects(polled)
			w.must(m.Activate(m.asks()))
			a = m.proves()
		}
		m.connects(m.registers()) // once more
		x, err := w.engine.Explain(w.ctx, id(w, "press-1"), nil)
		w.must(err)
		if !x.Admitted || x.Entry.ID != id(w, "presses") {
			t.Errorf("explain says %+v", x)
		}
		list, err := w.engine.ListedKeys(w.ctx, id(w, "presses"), verify.KeyHash{}, 1)
		w.must(err)
		next, err := w.engine.ListedKeys(w.ctx, id(w, "presses"), list[0].Key, 5)
		w.must(err)
		if len(list) != 1 || len(next) != 1 || next[0].Key == list[0].Key || !next[0].Since.Equal(w.now()) {
			t.Errorf("listed %+v, then %+v", list, next)
		}
	})
}

// TestATPMIsRefusedByAGroup is every way of a device with a TPM to be turned away by a list.
func TestATPMIsRefusedByAGroup(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		group := w.listing("presses")
		m, other := newMachine(w, "press-1"), newMachine(w, "press-1")
		w.lists("presses", []verify.KeyHash{m.key(), other.key()})
		m.registers()
		t.Run("the id of another TPM's registration", func(t *testing.T) {
			other.refused(other.showing(other.public()), "tpm-name-taken")
			if c, there := w.challenged("press-1"); there && c.Keys.Endorsement == tpm.DigestOf(other.EndorsementKey()) {
				t.Error("it was asked")
			}
		})
		t.Run("a second registration by one TPM", func(t *testing.T) {
			m.named("press-9").refused(m.named("press-9").showing(m.public()), "tpm-registered-otherwise")
		})
		t.Run("an id that another kind of device has", func(t *testing.T) {
			key := w.keyed(provisioning.Individual, "meter-1")
			w.assigned(w.signing("meter-1", key))
			w.must(w.engine.Delete(w.ctx, ann, provisioning.Owner{ID: id(w, "meter-1")}, provisioning.Precondition{Any: true}))
			o := other.named("meter-1")
			o.refused(o.showing(o.public()), "tpm-name-taken")
		})
		t.Run("the id that the list has is another", func(t *testing.T) {
			w.lists("presses", []verify.KeyHash{other.key()}, "press-2")
			defer w.lists("presses", []verify.KeyHash{other.key()})
			o := other.named("press-3")
			o.refused(o.showing(o.public()), "tpm-listed-otherwise")
			other.named("press-2").registers()
		})
		t.Run("taken off the list between the steps", func(t *testing.T) {
			w.must(m.Activate(m.asks()))
			a := m.proves()
			if c := w.unlists("presses", m.key(), verify.KeyHash{7}); c != (provisioning.ListChange{Removed: 1, Listed: 1}) {
				t.Errorf("%+v", c)
			}
			defer w.lists("presses", []verify.KeyHash{m.key()})
			m.refused(a, "no-enrollment")
			m.pollsInVain(a, "no-enrollment")
			x, err := w.engine.Explain(w.ctx, id(w, "press-1"), nil)
			w.must(err)
			if x.Admitted || x.Refused == nil || x.Refused.Rule != "no-enrollment" {
				t.Errorf("explain says %+v", x)
			}
		})
		t.Run("the group is disabled between the steps", func(t *testing.T) {
			w.must(m.Activate(m.asks()))
			a := m.proves()
			w.enable(group.Owner, false)
			defer w.enable(group.Owner, true)
			m.refused(a, "enrollment-disabled")
			m.pollsInVain(a, "enrollment-disabled")
			w.listing("more")
			w.lists("more", []verify.KeyHash{m.key()})
			m.refused(a, "enrollment-disabled") // another one does not help
			w.unlists("more", m.key())
		})
		t.Run("an own entry decides alone", func(t *testing.T) {
			w.keyed(provisioning.Individual, "press-1")
			m.refused(m.showing(m.public()), "attestation-mismatch")
			w.must(w.engine.Delete(w.ctx, ann, provisioning.Owner{ID: id(w, "press-1")}, provisioning.Precondition{Any: true}))
		})
		t.Run("a token that was used", func(t *testing.T) {
			w.must(m.Activate(m.asks()))
			a := m.proves()
			w.assigned(a)
			m.refused(a, "tpm-challenge-spent")
		})
		t.Run("another TPM's keys with a token", func(t *testing.T) {
			w.must(m.Activate(m.asks()))
			a := m.proves()
			a.Evidence.TPM = other.showing(other.public()).Evidence.TPM
			m.refused(a, "tpm-name-taken")
		})
		t.Run("the group attests otherwise by then", func(t *testing.T) {
			w.must(m.Activate(m.asks()))
			a := m.proves()
			w.keyed(provisioning.Group, "presses")
			defer func() {
				w.listing("presses")
				if n, err := w.engine.ListedKeys(w.ctx, group.ID, verify.KeyHash{}, 10); err != nil || len(n) != 0 {
					t.Errorf("the list came back: %v, %v", n, err)
				}
				w.lists("presses", []verify.KeyHash{m.key(), other.key()})
			}()
			m.refused(a, "no-enrollment")
			if _, err := w.engine.ChangeListedKeys(w.ctx, ann, group.ID, nil, nil); fault.RuleOf(err) != "no-endorsement-keys" {
				t.Errorf("its list was changed: %v", err)
			}
		})
		t.Run("the endorsement key is disallowed", func(t *testing.T) {
			w.must(m.Activate(m.asks()))
			a := m.proves()
			w.disallowKey("x", m.EndorsementKey())
			m.refused(a, "disallowed")
			m.pollsInVain(a, "disallowed")
			if w.at(builtIn, "press-1").Enabled {
				t.Error("its hub lets it in")
			}
		})
	})
}

// A name is free again when the record of its registration is deleted, and so is the TPM.
func TestADeletedRegistrationFreesItsNameAndItsTPM(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.listing("presses")
	m, other := newMachine(w, "press-1"), newMachine(w, "press-1")
	w.lists("presses", []verify.KeyHash{m.key(), other.key()})
	m.registers()
	was := w.hubKey("press-1")
	w.forget("press-1")
	other.connects(other.registers())
	if w.hubKey("press-1").Equal(was) {
		t.Error("the TPM before has the key to the hub")
	}
	m.refused(m.showing(m.public()), "tpm-name-taken")
	m.named("press-2").registers()
}

// Two requests at once for two names by one TPM: one gets its name.
func TestOneTPMTakesOneName(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		w.listing("presses")
		m := newMachine(w, "press-1")
		w.lists("presses", []verify.KeyHash{m.key()})
		names := []string{"press-1", "press-2", "press-3", "press-4"}
		attempts := make([]provisioning.Attempt, len(names))
		for i, name := range names {
			n := m.named(name)
			w.must(n.Activate(n.asks()))
			attempts[i] = n.proves()
		}
		results := make(chan error, len(names))
		for _, a := range attempts {
			go func() {
				_, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: a})
				results <- err
			}()
		}
		done := 0
		for range names {
			if err := <-results; err == nil {
				done++
			} else if fault.RuleOf(err) != "tpm-registered-otherwise" {
				t.Errorf("refused by %v", err)
			}
		}
		if done != 1 {
			t.Errorf("one TPM took %d names", done)
		}
	})
}

// A certificate that a listed TPM got is renewed by itself, and its device keeps its name.
func TestAListedTPMRenewsByItsCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.listing("presses")
	m := newMachine(w, "press-1")
	w.lists("presses", []verify.KeyHash{m.key()})
	w.pass(time.Second)
	w.must(m.Activate(m.asks()))
	leaf, err := w.enroll(m.proves())
	w.must(err)
	w.pass(time.Hour)
	_, err = w.enroll(w.presenting("press-1", leaf))
	w.must(err)
	other := newMachine(w, "press-1")
	w.lists("presses", []verify.KeyHash{other.key()})
	other.refused(other.showing(other.public()), "tpm-name-taken")
	m.connects(m.registers())
}

package provisioning_test

import (
	"bytes"
	"crypto/x509"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/passmuster/muster/device"
	chips "github.com/passmuster/muster/device/tpm"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/verify"
	"github.com/passmuster/muster/verify/tpm"
)

// machine is a device with a TPM of its own, a process apart.
type machine struct {
	*chips.TPM
	w    *world
	name string
	tpm  *testkit.SWTPM
}

func newMachine(w *world, name string) *machine {
	w.t.Helper()
	m := &machine{w: w, name: name, tpm: testkit.NewSWTPM(w.t)}
	var err error
	m.TPM, err = chips.Open(m.tpm.Socket)
	w.must(err)
	w.t.Cleanup(func() { _ = m.Close() })
	return m
}

func (m *machine) public() provisioning.TPMPublic {
	return provisioning.TPMPublic{Endorsement: m.EndorsementKey(), StorageRoot: m.StorageRootKey()}
}

// enrolled makes the machine's own entry, which names its endorsement key.
func (m *machine) enrolled(edits ...edit) provisioning.Enrollment {
	m.w.t.Helper()
	a := provisioning.Attestation{Role: provisioning.RoleTPM}
	a.Slots[rotation.Primary].TPM.Endorsement = m.EndorsementKey()
	return m.w.put(provisioning.Individual, m.name, a, edits...)
}

// showing is an attempt without a token.
func (m *machine) showing(p provisioning.TPMPublic) provisioning.Attempt {
	m.w.t.Helper()
	ek, err := tpm.ParseEndorsementKey(p.Endorsement)
	m.w.must(err)
	srk, err := tpm.ParseStorageRootKey(p.StorageRoot)
	m.w.must(err)
	return provisioning.Attempt{ID: id(m.w, m.name), Spelled: m.name, Door: "test",
		Evidence: provisioning.Evidence{TPM: &provisioning.ShownTPM{Endorsement: ek, StorageRoot: srk}}}
}

// asks registers without a token and returns the challenge.
func (m *machine) asks() []byte {
	m.w.t.Helper()
	before := m.w.rows()
	_, err := m.w.register(m.showing(m.public()))
	f := fault.As(err)
	if f == nil || f.Kind != fault.Unauthenticated || f.Rule != provisioning.RuleTPMChallenge || len(f.Challenge) == 0 {
		m.w.t.Fatalf("got %v, want a challenge", err)
	}
	if after := m.w.rows(); after != before {
		m.w.t.Fatal("a challenge is no change of trust, and the ledger grew")
	}
	return f.Challenge
}

// proves is an attempt with a token that the TPM signs with the key it was sent last.
func (m *machine) proves() provisioning.Attempt {
	m.w.t.Helper()
	text, err := device.Token(scope+"/registrations/"+m.name, "registration", m.w.clock.Add(time.Hour), m.MAC)
	m.w.must(err)
	token, err := verify.ParseSAS(text)
	m.w.must(err)
	a := m.showing(m.public())
	a.Evidence.Token = &token
	return a
}

// polling is the same attempt as polls have it: the token alone.
func polling(a provisioning.Attempt) provisioning.Attempt {
	a.Evidence.TPM = nil
	return a
}

// registers goes the whole way.
func (m *machine) registers() provisioning.Operation {
	m.w.t.Helper()
	m.w.must(m.Activate(m.asks()))
	return m.w.assigned(m.proves())
}

// refused insists that an attempt is refused by a rule, with neither a challenge nor a word
// in the ledger.
func (m *machine) refused(a provisioning.Attempt, rule string) {
	m.w.t.Helper()
	before := m.w.rows()
	_, err := m.w.register(a)
	if f := fault.As(err); f == nil || f.Kind != fault.Unauthenticated || f.Rule != rule || f.Challenge != nil {
		m.w.t.Fatalf("got %v (rule %q), want a refusal by %q", err, fault.RuleOf(err), rule)
	}
	if m.w.rows() != before {
		m.w.t.Fatal("a refusal wrote to the ledger")
	}
	x, err := m.w.engine.Explain(m.w.ctx, a.ID, nil)
	m.w.must(err)
	if x.LastRefusal == nil || x.LastRefusal.Rule != rule || len(x.LastRefusal.Trace) == 0 {
		m.w.t.Fatalf("explain remembers %+v, want rule %q", x.LastRefusal, rule)
	}
	if rule == "disallowed" && (x.Admitted || x.Refused == nil || x.Refused.Rule != rule) {
		m.w.t.Fatalf("explain says that it would be admitted (%t), or refused by %v", x.Admitted, x.Refused)
	}
}

// pollsInVain insists that a poll is refused by a rule.
func (m *machine) pollsInVain(a provisioning.Attempt, rule string) {
	m.w.t.Helper()
	for what, id := range map[string]string{"a lookup": "", "a poll": m.w.registration(m.name).Operation.ID} {
		if _, err := m.w.engine.Poll(m.w.ctx, provisioning.PollRequest{Attempt: polling(a), OperationID: id}); fault.RuleOf(err) != rule {
			m.w.t.Errorf("%s: %v (rule %q), want a refusal by %q", what, err, fault.RuleOf(err), rule)
		}
	}
}

// disallowKey refuses an endorsement key.
func (w *world) disallowKey(id string, public []byte) {
	w.t.Helper()
	ek, err := tpm.ParseEndorsementKey(public)
	w.must(err)
	w.must(w.db.Provisioning().UpdateTrust(w.ctx, func(tx provisioning.Tx) error {
		return tx.InsertDisallowance(provisioning.Disallowance{ID: id, Digest: verify.KeyHashOf(ek.SPKI()), Key: true, Reason: "keyCompromise", Created: w.now()})
	}))
}

// challenged says whether a challenge is on record.
func (w *world) challenged(name string) (c provisioning.TPMChallenge, there bool) {
	w.t.Helper()
	w.must(w.db.Provisioning().View(w.ctx, func(tx provisioning.Tx) (err error) {
		c, err = tx.TPMChallenge(id(w, name))
		if there = err == nil; fault.Is(err, fault.NotFound) {
			return nil
		}
		return err
	}))
	return c, there
}

// hubKey is the key that the device's hub knows it by.
func (w *world) hubKey(name string) verify.Secret { w.t.Helper(); return w.hubKeyAt(builtIn, name) }

func (w *world) hubKeyAt(hub, name string) verify.Secret {
	w.t.Helper()
	d, err := w.engine.HubDevice(w.ctx, hub, id(w, name), "operator:test")
	w.must(err)
	if d.Auth.Type != provisioning.HubSAS || d.Auth.Keys[0].IsZero() || !d.Auth.Keys[0].Equal(d.Auth.Keys[1]) {
		w.t.Fatalf("its hub knows it by %+v", d.Auth)
	}
	return d.Auth.Keys[0]
}

// connects says whether the TPM signs, with the key that the last operation brought, as the
// hub expects.
func (m *machine) connects(op provisioning.Operation) { m.w.t.Helper(); m.connectsTo(builtIn, op) }

func (m *machine) connectsTo(hub string, op provisioning.Operation) {
	m.w.t.Helper()
	m.w.must(m.Activate(op.TPMKey))
	text, err := device.Token(hub+"/devices/"+m.name, "", m.w.clock.Add(time.Hour), m.MAC)
	m.w.must(err)
	token, err := verify.ParseSAS(text)
	m.w.must(err)
	if err := token.Verify(m.w.hubKeyAt(hub, m.name), m.w.clock); err != nil {
		m.w.t.Fatalf("the hub would refuse it: %v", err)
	}
}

func TestADeviceWithATPMRegisters(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		m := newMachine(w, "Press-1")
		m.enrolled()
		op := m.registers()
		if op.Mechanism != verify.MechanismTPM || op.Group != "" || op.Path != nil || op.TPMKey == nil {
			t.Errorf("operation %+v", op)
		}
		token := m.proves()
		for range 2 {
			polled, err := w.engine.Poll(w.ctx, provisioning.PollRequest{Attempt: polling(token), OperationID: op.Operation.ID})
			w.must(err)
			m.connects(polled)
			w.must(m.Activate(m.asks()))
			token = m.proves()
		}
		found, err := w.engine.Poll(w.ctx, provisioning.PollRequest{Attempt: polling(token)})
		w.must(err)
		m.connects(found)
	})
}

// TestATPMIsRefused is every way of a device with a TPM to be turned away: each leaves what is
// on record as it was, and its reason for explain.
func TestATPMIsRefused(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		m, other := newMachine(w, "press-1"), newMachine(w, "press-1")
		entry := m.enrolled()
		for name, attempt := range map[string]func() (provisioning.Attempt, string){
			"nobody's registration id": func() (provisioning.Attempt, string) {
				a := m.showing(m.public())
				a.ID, a.Spelled = id(w, "stranger"), "stranger"
				return a, "no-enrollment"
			},
			"the endorsement key of another TPM": func() (provisioning.Attempt, string) {
				return other.showing(other.public()), "tpm-other-endorsement-key"
			},
			"a token and no keys": func() (provisioning.Attempt, string) {
				w.must(m.Activate(m.asks()))
				return polling(m.proves()), "tpm-keys-missing"
			},
			"nothing at all": func() (provisioning.Attempt, string) {
				a := m.showing(m.public())
				a.Evidence.TPM = nil
				return a, "attestation-mismatch"
			},
			"a token before it was asked": func() (provisioning.Attempt, string) {
				w.must(m.Activate(m.asks()))
				a := m.proves()
				w.forgetChallenges()
				return a, "tpm-challenge-unknown"
			},
			"a token by the key of the challenge before": func() (provisioning.Attempt, string) {
				w.must(m.Activate(m.asks()))
				a := m.proves()
				w.pass(6 * time.Minute)
				m.asks() // half its life is over: another
				return a, "sas-signature"
			},
			"a challenge that has expired": func() (provisioning.Attempt, string) {
				w.must(m.Activate(m.asks()))
				a := m.proves()
				w.pass(10 * time.Minute)
				return a, "tpm-challenge-expired"
			},
			"a token that was used": func() (provisioning.Attempt, string) {
				w.must(m.Activate(m.asks()))
				a := m.proves()
				w.assigned(a)
				return a, "tpm-challenge-spent"
			},
			"a blob that was used": func() (provisioning.Attempt, string) {
				blob := m.asks()
				w.must(m.Activate(blob))
				w.assigned(m.proves())
				w.pass(time.Minute)
				w.must(m.Activate(blob))
				return m.proves(), "tpm-challenge-spent"
			},
			"another storage root key than was asked": func() (provisioning.Attempt, string) {
				w.must(m.Activate(m.asks()))
				a := m.proves()
				swapped := m.public()
				swapped.StorageRoot = other.StorageRootKey()
				a.Evidence.TPM = m.showing(swapped).Evidence.TPM
				return a, "tpm-challenge-other-keys"
			},
			"another device's token": func() (provisioning.Attempt, string) {
				w.must(m.Activate(m.asks()))
				text, err := device.Token(scope+"/registrations/press-2", "registration", w.clock.Add(time.Hour), m.MAC)
				w.must(err)
				token, err := verify.ParseSAS(text)
				w.must(err)
				a := m.showing(m.public())
				a.Evidence.Token = &token
				return a, "sas-other-resource"
			},
			"a certificate in place of a TPM": func() (provisioning.Attempt, string) {
				return w.presenting("press-1", testkit.SelfSigned(t, "press-1").Cert), "attestation-mismatch"
			},
			"a key in place of a TPM": func() (provisioning.Attempt, string) {
				key := verify.NewSecret([]byte("0123456789abcdef"))
				a := m.showing(m.public())
				a.Evidence = provisioning.Evidence{Key: &key}
				return a, "attestation-mismatch"
			},
		} {
			t.Run(name, func(t *testing.T) {
				a, rule := attempt()
				m.refused(a, rule)
			})
		}
		t.Run("disabled between the steps", func(t *testing.T) {
			w.must(m.Activate(m.asks()))
			a := m.proves()
			w.enable(entry.Owner, false)
			defer w.enable(entry.Owner, true)
			m.refused(a, "enrollment-disabled")
			w.forgetChallenges()
			m.refused(m.showing(m.public()), "enrollment-disabled")
			if _, there := w.challenged("press-1"); there {
				t.Error("a disabled device got a row")
			}
			if _, err := w.engine.Poll(w.ctx, provisioning.PollRequest{Attempt: polling(a)}); fault.RuleOf(err) != "enrollment-disabled" {
				t.Errorf("a poll: %v", err)
			}
		})
		t.Run("another endorsement key enrolled between the steps", func(t *testing.T) {
			w.must(m.Activate(m.asks()))
			a := m.proves()
			other.enrolled()
			defer m.enrolled()
			m.refused(a, "tpm-other-endorsement-key")
			m.pollsInVain(a, "tpm-other-endorsement-key")
		})
		t.Run("a storage root key enrolled between the steps", func(t *testing.T) {
			w.must(m.Activate(m.asks()))
			a := m.proves()
			attestation := provisioning.Attestation{Role: provisioning.RoleTPM}
			attestation.Slots[rotation.Primary].TPM = provisioning.TPMPublic{Endorsement: m.EndorsementKey(), StorageRoot: other.StorageRootKey()}
			w.put(provisioning.Individual, "press-1", attestation)
			defer m.enrolled()
			m.refused(a, "tpm-other-storage-root-key")
			m.pollsInVain(a, "tpm-other-storage-root-key")
		})
		t.Run("another endorsement key enrolled, which is disallowed between the steps", func(t *testing.T) {
			other.enrolled()
			defer m.enrolled()
			w.must(other.Activate(other.asks()))
			a := other.proves() // and never registers: what is on record rests on the first
			w.disallowKey("of the other", other.EndorsementKey())
			other.refused(a, "disallowed")
			other.pollsInVain(a, "disallowed")
		})
		t.Run("the endorsement key is disallowed", func(t *testing.T) {
			w.must(m.Activate(m.asks()))
			a := m.proves()
			w.disallowKey("x", m.EndorsementKey())
			m.refused(a, "disallowed")
			m.refused(m.showing(m.public()), "disallowed")
			m.pollsInVain(a, "disallowed")
			other.enrolled()
			defer m.enrolled()
			m.pollsInVain(a, "tpm-other-endorsement-key")
			m.enrolled()
			if d, err := w.engine.HubDevice(w.ctx, builtIn, id(w, "press-1"), ""); err != nil || d.Enabled {
				t.Errorf("its hub lets it in: %+v, %v", d, err)
			}
		})
		t.Run("the entry attests otherwise", func(t *testing.T) {
			w.keyed(provisioning.Individual, "press-1")
			m.refused(m.showing(m.public()), "attestation-mismatch")
		})
	})
}

// forgetChallenges is the sweep long after.
func (w *world) forgetChallenges() {
	w.t.Helper()
	w.must(w.db.Provisioning().Update(w.ctx, func(tx provisioning.Tx) error {
		return tx.DeleteTPMChallenge(id(w, "press-1"), w.clock.Add(time.Hour))
	}))
}

func TestAnEntryMayNameTheStorageRootKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m, other := newMachine(w, "press-1"), newMachine(w, "press-1")
	a := provisioning.Attestation{Role: provisioning.RoleTPM}
	a.Slots[rotation.Primary].TPM = m.public()
	en := w.put(provisioning.Individual, "press-1", a)
	if got := en.Credentials[0].TPM; !bytes.Equal(got.Endorsement, m.EndorsementKey()) || !bytes.Equal(got.StorageRoot, m.StorageRootKey()) {
		t.Errorf("it names %+v", got)
	}
	reowned := m.public()
	reowned.StorageRoot = other.StorageRootKey()
	m.refused(m.showing(reowned), "tpm-other-storage-root-key")
	m.registers()
}

func TestATPMWithANewOwnerKeepsItsHubKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := newMachine(w, "press-1")
	m.enrolled()
	m.connects(m.registers())
	was := w.hubKey("press-1")
	m.clears()
	op := m.registers()
	m.connects(op)
	if !w.hubKey("press-1").Equal(was) {
		t.Error("the hub would have to be told of another key")
	}

	t.Run("and another TPM gets another", func(t *testing.T) {
		next := newMachine(w, "press-1")
		next.enrolled()
		m.refused(m.showing(m.public()), "tpm-other-endorsement-key")
		next.connects(next.registers())
		if w.hubKey("press-1").Equal(was) {
			t.Error("the TPM before still has the key to the hub")
		}
	})
}

// TestATPMWithANewOwnerAsksAgainForItsCertificate: the key for its hub is not wrapped for the owner before.
func TestATPMWithANewOwnerAsksAgainForItsCertificate(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		m := newMachine(w, "press-1")
		m.enrolled()
		w.pass(time.Second)
		csr := testkit.CSR(t, testkit.NewKey(t, "p256"), m.name)
		for range 2 {
			w.must(m.Activate(m.asks()))
			op, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: m.proves(), CSR: csr})
			w.must(err)
			m.connects(op)
			w.pass(time.Minute)
			m.clears()
		}
	})
}

// clears gives the TPM another owner: another storage root key.
func (m *machine) clears() {
	m.w.t.Helper()
	before := m.StorageRootKey()
	link, err := linuxudstpm.Open(m.tpm.Socket)
	m.w.must(err)
	_, err = tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Name: tpm2.HandleName(tpm2.TPMRHLockout), Auth: tpm2.PasswordAuth(nil)}}.Execute(link)
	m.w.must(err)
	ek := m.EndorsementKey()
	m.TPM, err = chips.Open(m.tpm.Socket)
	m.w.must(err)
	if bytes.Equal(m.StorageRootKey(), before) || !bytes.Equal(m.EndorsementKey(), ek) {
		m.w.t.Fatal("clearing changes the storage root key, and that alone")
	}
}

func TestChallengesSurviveARestartSealed(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		m := newMachine(w, "press-1")
		m.enrolled()
		w.must(m.Activate(m.asks()))
		a := m.proves()
		w.restart()
		m.tpm.Restart(t)
		op := w.assigned(a)
		w.restart()
		_, err := w.engine.Poll(w.ctx, provisioning.PollRequest{Attempt: polling(a), OperationID: op.Operation.ID})
		w.must(err)
		m.connects(op)

		m.asks()
		moved, _ := w.challenged("press-1")
		w.must(w.db.Provisioning().Update(w.ctx, func(tx provisioning.Tx) error {
			moved.ID = id(w, "press-2")
			return tx.PutTPMChallenge(moved)
		}))
		m.name = "press-2"
		m.enrolled()
		if _, err := w.register(m.proves()); fault.KindOf(err) != fault.Internal {
			t.Errorf("a challenge that was moved to another row: %v", err)
		}
	})
}

func TestAChallengeThatIsAskedForAgainIsTheSame(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := newMachine(w, "press-1")
	m.enrolled()
	first := m.asks()
	was, _ := w.challenged("press-1")
	again := m.asks()
	if is, _ := w.challenged("press-1"); is.Nonce != was.Nonce || bytes.Equal(first, again) {
		t.Error("who asks again gets the same key, wrapped anew, and no row is written")
	}
	w.must(m.Activate(first))
	w.assigned(m.proves())
	m.asks()
	if is, _ := w.challenged("press-1"); is.Nonce == was.Nonce || !is.SpentAt.IsZero() {
		t.Error("a challenge that was spent is asked once more")
	}
	for want := range 3 {
		w.pass(10 * time.Minute)
		more, err := w.engine.SweepTPMChallenges(w.ctx, w.db.ProvisioningJobs())
		w.must(err)
		if _, there := w.challenged("press-1"); there || more {
			t.Errorf("after sweep %d: there %t, more %t", want, there, more)
		}
	}
}

func TestOneChallengeRegistersOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		m := newMachine(w, "press-1")
		m.enrolled()
		w.must(m.Activate(m.asks()))
		a := m.proves()
		const tries = 8
		results := make(chan error, tries)
		for range tries {
			go func() {
				_, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: a})
				results <- err
			}()
		}
		done := 0
		for range tries {
			err := <-results
			if err == nil {
				done++
			} else if fault.RuleOf(err) != "tpm-challenge-spent" {
				t.Errorf("refused by %v", err)
			}
		}
		if done != 1 {
			t.Errorf("one challenge registered %d times", done)
		}
	})
}

func TestADeviceThatAsksForChallengesForEverIsPaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := newMachine(w, "press-1")
	m.enrolled()
	a := m.showing(m.public())
	a.Address = "192.0.2.7"
	asked, paced := 0, 0
	for range 20 {
		_, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: a})
		switch fault.KindOf(err) {
		case fault.Unauthenticated:
			asked++
		case fault.Throttled:
			paced++
		default:
			t.Fatal(err)
		}
	}
	if asked > 6 || paced == 0 {
		t.Errorf("asked %d times and paced %d", asked, paced)
	}
	w.pass(10 * time.Minute)
	w.must(m.Activate(m.asks()))
	proof := m.proves()
	proof.Address = a.Address
	w.assigned(proof)
}

func TestADeviceWithATPMGetsACertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := newMachine(w, "press-1")
	m.enrolled()
	w.pass(time.Second)
	csr := testkit.CSR(t, testkit.NewKey(t, "p256"), m.name)
	asks := func() provisioning.Operation {
		w.must(m.Activate(m.asks()))
		op, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: m.proves(), CSR: csr})
		w.must(err)
		m.connects(op)
		return op
	}
	op := asks()
	if again := asks(); !bytes.Equal(op.Chain[0], again.Chain[0]) {
		t.Error("the same request got another certificate")
	}
	if c, _ := w.challenged(m.name); c.SpentAt.IsZero() {
		t.Error("the challenge of the repeat is good for another registration")
	}
	leaf, err := x509.ParseCertificate(op.Chain[0])
	w.must(err)
	w.pass(time.Hour)
	_, err = w.enroll(w.presenting(m.name, leaf))
	w.must(err)
	if mechanism := w.registration(m.name).Mechanism; mechanism != verify.MechanismX509 {
		t.Errorf("renewed by %s", mechanism)
	}
	m.connects(asks())
}

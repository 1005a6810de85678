package provisioning_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/verify"
	"github.com/passmuster/muster/verify/tpm"
)

// nuvoton is what the TPMs of these tests are.
var nuvoton = testkit.TPMModel{Manufacturer: "id:4E544300", Model: "NPCT75x", Version: "id:00070002"}

// certified is the certificate that a manufacturer made for the machine's endorsement key.
func (m *machine) certified(by *testkit.Entity, is testkit.TPMModel, opts ...testkit.Option) *testkit.Entity {
	m.w.t.Helper()
	ek, err := tpm.ParseEndorsementKey(m.EndorsementKey())
	m.w.must(err)
	public, err := x509.ParsePKIXPublicKey(ek.SPKI())
	m.w.must(err)
	return by.Certify(m.w.t, public, is, opts...)
}

// The road of an operator who holds the certificate of a TPM that was stolen.
func TestADisallowedEndorsementKeyIsRefusedEverywhere(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		m := newMachine(w, "press-1")
		entry := m.enrolled()
		m.registers()
		of := m.certified(testkit.Chain(t, "root > maker").Get("maker"), nuvoton).Cert.Raw

		if p := w.foresees(provisioning.DisallowRequest{Certificate: of}); p.Scope != provisioning.DisallowCertificate || p.Devices != 0 || len(p.Entries) != 0 {
			t.Errorf("its certificate alone would shut out %d devices and change %+v", p.Devices, p.Entries)
		}
		r := provisioning.DisallowRequest{Certificate: of, Scope: provisioning.DisallowKey}
		p := w.foresees(r)
		if p.Devices != 1 || len(p.Entries) != 1 || p.Entries[0] != (provisioning.EntryEffect{Owner: entry.Owner, Act: provisioning.EntryShut}) {
			t.Fatalf("foresees %d devices, %+v", p.Devices, p.Entries)
		}
		w.must(m.Activate(m.asks()))
		a := m.proves()
		w.disallow(r)
		m.refused(a, "enrollment-disabled")
		if w.at(builtIn, "press-1").Enabled {
			t.Error("its hub lets it in")
		}
		w.follow()
		w.enable(entry.Owner, true) // that alone does not bring it back
		m.refused(a, "disallowed")
		m.refused(m.showing(m.public()), "disallowed")
		m.pollsInVain(a, "disallowed")
		m.name = "press-2"
		m.enrolled()
		m.refused(m.showing(m.public()), "disallowed")
	})
}

// oaep is a certificate as some manufacturers make them: its key says what it is for, and cannot be read.
func oaep(t *testing.T, by *testkit.Entity) []byte {
	t.Helper()
	made := by.Issue(t, "oaep", testkit.WithKey(testkit.NewKey(t, "rsa")))
	const rsaEncryption, rsaesOAEP = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x07"
	if n := bytes.Count(made.Cert.Raw, []byte(rsaEncryption)); n != 1 {
		t.Fatalf("the certificate names its kind of key %d times", n)
	}
	return bytes.Replace(made.Cert.Raw, []byte(rsaEncryption), []byte(rsaesOAEP), 1)
}

func TestAKeyThatCannotBeReadIsNotDisallowedAsAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	of := oaep(t, testkit.Root(t, "maker"))
	for scope, rule := range map[provisioning.DisallowScope]string{provisioning.DisallowKey: "scope-key-unreadable", provisioning.DisallowCertificate: ""} {
		if _, err := w.engine.PreviewDisallow(w.ctx, provisioning.DisallowRequest{Certificate: of, Scope: scope}); fault.RuleOf(err) != rule {
			t.Errorf("scope %s: %v", scope, err)
		}
	}
}

// A hub that lives elsewhere is told the key of the device's TPM; until it confirms, the device
// knows that it is asked for no other mechanism.
func TestATPMOnAHubThatLivesElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.linked(elsewhere)
	m := newMachine(w, "press-1")
	m.enrolled(livingOn(elsewhere))
	w.must(m.Activate(m.asks()))
	a := m.proves()
	op, err := w.register(a)
	w.must(err)
	if op.State != provisioning.Assigning || op.Attested != verify.MechanismTPM || op.TPMKey != nil {
		t.Fatalf("%s, attested by %q, with a key of %d octets", op.State, op.Attested, len(op.TPMKey))
	}
	w.sweepHubs()
	op, err = w.engine.Poll(w.ctx, provisioning.PollRequest{Attempt: polling(a), OperationID: op.Operation.ID})
	w.must(err)
	m.connectsTo(elsewhere, op)
	told, there := hub.Device("press-1")
	if key := base64.StdEncoding.EncodeToString(w.hubKeyAt(elsewhere, "press-1").Reveal()); !there || !told.Enabled || told.Type != provisioning.HubSAS || told.Keys != [2]string{key, key} {
		t.Errorf("the hub was told %+v", told)
	}
}

// What is taken out of service and comes back is no longer let in by what it knew.
func TestARetiredTPMComesBackWithAnotherKeyForItsHub(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		m := newMachine(w, "press-1")
		entry := m.enrolled()
		m.registers()
		was := w.hubKey("press-1")
		w.retires("press-1", false)
		m.refused(m.showing(m.public()), "enrollment-disabled")
		w.pass(time.Second)
		w.enable(entry.Owner, true)
		m.connects(m.registers())
		if w.hubKey("press-1").Equal(was) {
			t.Error("it has the key from before it was retired")
		}
	})
}

package provisioning_test

import (
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/passmuster/muster/ca"
	chips "github.com/passmuster/muster/device/tpm"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/verify"
)

// admitting makes a group that admits the TPMs certified below an anchor.
func (w *world) admitting(name, anchor string, c provisioning.TPMConditions, edits ...edit) provisioning.Enrollment {
	w.t.Helper()
	a := provisioning.Attestation{Role: provisioning.RoleTPMCA, TPM: c}
	a.Slots[rotation.Primary].Anchor = anchor
	return w.put(provisioning.Group, name, a, edits...)
}

// maker is a manufacturer of TPMs whose root is an anchor.
func (w *world) maker(name string) *testkit.Entity {
	w.t.Helper()
	root := testkit.Root(w.t, name)
	w.anchor(root, true)
	return root.Issue(w.t, name+" EK CA", testkit.AsCA())
}

// shows has the machine show certificates with its keys from now on.
func (m *machine) shows(of *testkit.Entity) *machine {
	other := *m
	other.certificates = nil
	for _, c := range of.Chain() {
		other.certificates = append(other.certificates, verify.NewLink(c))
	}
	return &other
}

func TestAGroupAdmitsTheTPMsThatAManufacturerCertified(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		by := w.maker("nuvoton")
		w.admitting("presses", "nuvoton", provisioning.TPMConditions{Manufacturers: []string{"ID:4e544300"}, Models: []string{"other", "NPCT75x"}})
		m := newMachine(w, "press-1")
		m.refused(m.showing(m.public()), "no-enrollment")
		m = m.shows(m.certified(by, nuvoton))
		op := m.registers()
		if op.Group != "presses" || op.Attested != verify.MechanismTPM || len(op.Path) != 3 || op.Path[0].KeyHash != m.key() {
			t.Errorf("operation %+v", op)
		}
		m.connects(op)
		w.must(m.Activate(m.asks()))
		a := m.proves()
		for what, id := range map[string]string{"a lookup": "", "a poll": op.Operation.ID} {
			if _, err := w.engine.Poll(w.ctx, provisioning.PollRequest{Attempt: polling(a), OperationID: id}); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		x, err := w.engine.Explain(w.ctx, id(w, "press-1"), nil)
		w.must(err)
		if !x.Admitted || x.Entry.ID != id(w, "presses") {
			t.Errorf("explain says %+v", x)
		}
		w.pass(time.Second)
		w.must(m.Activate(m.asks()))
		leaf, err := w.enroll(m.proves())
		w.must(err)
		w.pass(time.Hour)
		_, err = w.enroll(w.presenting("press-1", leaf))
		w.must(err)
	})
}

// TestACertifiedTPMIsRefused is every way of a certified TPM to be turned away: each leaves what is on
// record as it was, and its reason for explain.
func TestACertifiedTPMIsRefused(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		by, another := w.maker("nuvoton"), w.maker("another")
		stranger := testkit.Root(t, "stranger").Issue(t, "stranger EK CA", testkit.AsCA())
		group := w.admitting("presses", "nuvoton", provisioning.TPMConditions{Manufacturers: []string{nuvoton.Manufacturer}})
		f := testkit.Chain(t, "factory > press-7")
		w.anchor(f.Get("factory"), true)
		m, other := newMachine(w, "press-1"), newMachine(w, "press-1")
		good := m.certified(by, nuvoton)
		m.shows(good).registers()
		infineon := testkit.TPMModel{Manufacturer: "id:49465800", Model: "SLB9670", Version: "id:00070055"}
		for name, c := range map[string]struct {
			a    provisioning.Attempt
			rule string
		}{
			"no certificate":                         {m.showing(m.public()), "no-enrollment"},
			"an unknown manufacturer":                {m.shows(m.certified(stranger, nuvoton)).showing(m.public()), "chain-incomplete"},
			"a manufacturer that no group admits":    {m.shows(m.certified(another, nuvoton)).showing(m.public()), "no-enrollment"},
			"another model":                          {m.shows(m.certified(by, infineon)).showing(m.public()), "tpm-other-model"},
			"a cloned certificate with another key":  {other.shows(good).showing(other.public()), "endorsement-other-key"},
			"the key of another device with its own": {other.shows(other.certified(by, nuvoton)).showing(other.public()), "tpm-name-taken"},
			"a certificate for clients":              {m.shows(by.Issue(t, "press-1", testkit.WithKey(good.Key))).showing(m.public()), "endorsement-eku"},
			"an expired certificate":                 {m.shows(m.certified(by, nuvoton, testkit.WithDates(w.clock.AddDate(-2, 0, 0), w.clock.AddDate(-1, 0, 0)))).showing(m.public()), "leaf-expired"},
			"a second name":                          {m.shows(good).named("press-2").showing(m.public()), "tpm-registered-otherwise"},
		} {
			t.Run(name, func(t *testing.T) { m.refused(c.a, c.rule) })
		}
		t.Run("a device's own chain below an anchor for TPMs", func(t *testing.T) {
			w.refused(w.presenting("press-7", by.Issue(t, "press-7").Chain()...), "no-enrollment")
		})
		t.Run("a cloned certificate and the key that it names, without the TPM", func(t *testing.T) {
			thief := other.named("press-8")
			clone := thief.shows(good)
			shown := provisioning.TPMPublic{Endorsement: m.EndorsementKey(), StorageRoot: other.StorageRootKey()}
			w.forget("press-1")
			_, err := w.register(clone.showing(shown))
			asked := fault.As(err)
			if asked == nil || asked.Challenge == nil {
				t.Fatalf("who shows what is public is asked: %v", err)
			}
			if err := thief.Activate(asked.Challenge); err == nil {
				t.Fatal("another TPM opened the challenge")
			}
			w.must(m.Activate(m.shows(good).asks()))
			w.assigned(m.shows(good).proves())
		})
		t.Run("the group wants other models between the steps", func(t *testing.T) {
			s := m.shows(good)
			w.must(m.Activate(s.asks()))
			a := s.proves()
			w.admitting("presses", "nuvoton", provisioning.TPMConditions{Models: []string{"SLB9670"}})
			defer w.admitting("presses", "nuvoton", provisioning.TPMConditions{})
			m.refused(a, "tpm-other-model")
		})
		t.Run("the group is disabled between the steps", func(t *testing.T) {
			s := m.shows(good)
			w.must(m.Activate(s.asks()))
			a := s.proves()
			w.enable(group.Owner, false)
			defer w.enable(group.Owner, true)
			m.refused(a, "held-by-disabled")
			m.pollsInVain(a, "held-by-disabled")
		})
		t.Run("its certificate is disallowed", func(t *testing.T) {
			s := m.shows(good)
			w.must(m.Activate(s.asks()))
			a := s.proves()
			r := provisioning.DisallowRequest{Certificate: good.Cert.Raw}
			if p := w.foresees(r); p.Devices != 1 {
				t.Errorf("foresees %d devices", p.Devices)
			}
			i := w.disallow(r)
			m.refused(a, "disallowed")
			m.pollsInVain(a, "disallowed")
			_, err := w.engine.LiftDisallowance(w.ctx, ann, i.ID)
			w.must(err)
		})
		t.Run("its manufacturer is disallowed", func(t *testing.T) {
			s := m.shows(good)
			w.must(m.Activate(s.asks()))
			a := s.proves()
			leaf, err := w.enroll(a)
			w.must(err)
			w.must(m.Activate(s.asks()))
			a = s.proves()
			if p := w.foresees(provisioning.DisallowRequest{Certificate: by.Cert.Raw}); p.Devices != 1 || p.Reason != ca.CACompromise {
				t.Errorf("foresees %+v", p.Devices)
			}
			w.disallow(provisioning.DisallowRequest{Certificate: by.Cert.Raw})
			m.refused(a, "disallowed")
			m.pollsInVain(a, "disallowed")
			w.refused(w.presenting("press-1", leaf), "disallowed") // nor does its certificate renew
			if w.at(builtIn, "press-1").Enabled {
				t.Error("its hub lets it in")
			}
			left := *s
			left.certificates = s.certificates[:1]
			m.refused(left.showing(m.public()), "disallowed") // the CA is left out
		})
	})
}

// Endorsement keys on curves come in as RSA ones do.
func TestCertifiedTPMsOnCurves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	by := w.maker("nuvoton")
	w.admitting("presses", "nuvoton", provisioning.TPMConditions{})
	for name, template := range map[string]tpm2.TPMTPublic{"p256": tpm2.ECCEKTemplate, "p384": p384EK()} {
		m := newMachineAs(w, "press-"+name, template)
		m = m.shows(m.certified(by, nuvoton))
		m.connects(m.registers())
	}
}

// newMachineAs is newMachine with an endorsement key of a template.
func newMachineAs(w *world, name string, endorsement tpm2.TPMTPublic) *machine {
	w.t.Helper()
	m := &machine{w: w, name: name, tpm: testkit.NewSWTPM(w.t)}
	var err error
	m.TPM, err = chips.OpenAs(m.tpm.Socket, endorsement)
	w.must(err)
	w.t.Cleanup(func() { _ = m.Close() })
	return m
}

// p384EK is the TCG's template H-3 for endorsement keys.
func p384EK() tpm2.TPMTPublic {
	template := tpm2.ECCEKTemplate
	template.NameAlg = tpm2.TPMAlgSHA384
	template.ObjectAttributes.UserWithAuth = true
	template.AuthPolicy = tpm2.TPM2BDigest{Buffer: make([]byte, 48)} // none that could be met: the password is
	template.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		Symmetric: tpm2.TPMTSymDefObject{
			Algorithm: tpm2.TPMAlgAES, KeyBits: tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(256)),
			Mode: tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
		},
		CurveID: tpm2.TPMECCNistP384,
	})
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	return template
}

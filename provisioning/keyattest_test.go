package provisioning_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/verify"
	"github.com/passmuster/muster/verify/tpm"
)

const attestedExtension = "1.3.6.1.4.1.99999.7"

// asksForAttestation has the profile demand keys that a TPM attested.
func (w *world) asksForAttestation(edits ...func(*policies.Profile)) {
	w.t.Helper()
	w.profile(func(p *policies.Profile) {
		p.KeyAttestation, p.KeyAttestationExtension = policies.KeyAttestationTPM, attestedExtension
		for _, edit := range edits {
			edit(p)
		}
	})
}

// naming is showing with the key that vouches for others.
func (m *machine) naming() provisioning.Attempt {
	m.w.t.Helper()
	return m.namingKey(m.ownAttestationKey())
}

func (m *machine) ownAttestationKey() []byte {
	m.w.t.Helper()
	raw, err := m.AttestationKey()
	m.w.must(err)
	return raw
}

func (m *machine) namingKey(raw []byte) provisioning.Attempt {
	m.w.t.Helper()
	a := m.showing(m.public())
	var err error
	a.Evidence.TPM.By, err = tpm.ParseAttestationKey(raw)
	m.w.must(err)
	return a
}

// asksFor registers without a token, and returns what the TPM's key has to be shown by.
func (m *machine) asksFor(a provisioning.Attempt) []byte {
	m.w.t.Helper()
	_, err := m.w.register(a)
	f := fault.As(err)
	if f == nil || f.Rule != provisioning.RuleTPMChallenge || len(f.KeyChallenge) == 0 {
		m.w.t.Fatalf("got %v, want a challenge about its key as well", err)
	}
	m.w.must(m.Activate(f.Challenge))
	return f.KeyChallenge
}

// attests is the request for a certificate of a key, with what the TPM says of it.
func (m *machine) attests(key crypto.Signer, challenge []byte) provisioning.RegisterRequest {
	m.w.t.Helper()
	r := m.asking(key)
	r.Evidence.TPM.By = m.naming().Evidence.TPM.By
	a := &r.Evidence.TPM.Attestation
	var err error
	a.CertifyInfo, a.Signature, a.KeyPublic, err = m.Attest(challenge, key)
	m.w.must(err)
	return r
}

// asking is the same without.
func (m *machine) asking(key crypto.Signer) provisioning.RegisterRequest {
	m.w.t.Helper()
	return provisioning.RegisterRequest{Attempt: m.proves(), CSR: testkit.CSR(m.w.t, key, m.name)}
}

func (m *machine) newKey() crypto.Signer {
	m.w.t.Helper()
	key, err := m.NewKey()
	m.w.must(err)
	return key
}

// issues is the certificate that a request got, and what is on record of it.
func (w *world) issues(r provisioning.RegisterRequest) (*x509.Certificate, ca.Certificate) {
	w.t.Helper()
	op, err := w.engine.Register(w.ctx, r)
	w.must(err)
	if len(op.Chain) == 0 {
		w.t.Fatal("there is no certificate")
	}
	leaf, err := x509.ParseCertificate(op.Chain[0])
	w.must(err)
	return leaf, w.onRecord(leaf)
}

func (w *world) onRecord(leaf *x509.Certificate) ca.Certificate {
	w.t.Helper()
	list, err := w.engine.Certificates(w.ctx, provisioning.CertificateFilter{Thumbprint: verify.ThumbprintOf(leaf.Raw), Limit: 2})
	w.must(err)
	if len(list) != 1 {
		w.t.Fatalf("on record are %d", len(list))
	}
	return list[0]
}

// named says whether a certificate has an extension.
func (w *world) named(leaf *x509.Certificate, extension string) bool {
	return slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool { return e.Id.String() == extension })
}

// marked says whether a certificate has the profile's extension, and that its record agrees.
func (w *world) marked(leaf *x509.Certificate) bool {
	w.t.Helper()
	said := ""
	for _, e := range leaf.Extensions {
		if e.Id.String() == attestedExtension {
			_, err := asn1.UnmarshalWithParams(e.Value, &said, "utf8")
			w.must(err)
		}
	}
	if kept := string(w.onRecord(leaf).KeyAttestation); kept != said {
		w.t.Fatalf("the certificate says %q and its record %q", said, kept)
	}
	return said == "tpm"
}

// inHardware are the serial numbers of the certificates whose key is attested, or is not.
func (w *world) inHardware(attested bool) (serials []ca.Serial) {
	w.t.Helper()
	list, err := w.engine.Certificates(w.ctx, provisioning.CertificateFilter{KeyAttested: &attested, Limit: 10})
	w.must(err)
	for _, c := range list {
		serials = append(serials, c.Serial)
	}
	return serials
}

func TestAKeyThatATPMAttestedGetsACertificateThatSaysSo(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		m := newMachine(w, "press-1")
		w.asksForAttestation()
		m.enrolled()
		w.pass(time.Second)
		key := m.newKey()
		first, kept := w.issues(m.attests(key, m.asksFor(m.naming())))
		if !w.marked(first) {
			t.Fatal("the certificate is like any other")
		}
		if newest := w.ledger(audit.Issued)[0]; !strings.Contains(string(newest.Body), `"keyAttestation":"tpm"`) {
			t.Errorf("the ledger says %s", newest.Body)
		}
		if got := w.inHardware(true); !slices.Equal(got, []ca.Serial{kept.Serial}) || slices.Contains(w.inHardware(false), kept.Serial) {
			t.Errorf("found %v", got)
		}

		t.Run("a renewal for the same key keeps it", func(t *testing.T) {
			w.pass(time.Hour)
			renewed, _ := w.issues(w.renewingWith(m, key, first))
			if !w.marked(renewed) || bytes.Equal(renewed.Raw, first.Raw) {
				t.Error("the renewed certificate is like any other")
			}
			first = renewed
		})
		t.Run("a renewal for another key is refused", func(t *testing.T) {
			w.pass(time.Hour)
			w.getsNone(w.renewingWith(m, m.newKey(), first), provisioning.RuleKeyAttestationRequired)
		})
		t.Run("the TPM attests another key", func(t *testing.T) {
			w.pass(time.Hour)
			next, _ := w.issues(m.attests(m.newKey(), m.asksFor(m.naming())))
			if !w.marked(next) {
				t.Error("the certificate is like any other")
			}
		})
	})
}

func (w *world) renewingWith(m *machine, key crypto.Signer, leaf *x509.Certificate) provisioning.RegisterRequest {
	w.t.Helper()
	return provisioning.RegisterRequest{Attempt: w.presenting(m.name, leaf), CSR: testkit.CSR(w.t, key, m.name), Renewal: true, HubOptional: true}
}

// getsNone insists that a request is refused by a rule that the device is told, that nothing was
// written, and that explain has it.
func (w *world) getsNone(r provisioning.RegisterRequest, rule string) {
	w.t.Helper()
	before := w.rows()
	_, err := w.engine.Register(w.ctx, r)
	if f := fault.As(err); f == nil || f.Kind != fault.Malformed || f.Rule != rule || len(f.Fields) != 1 {
		w.t.Fatalf("got %v (rule %q), want a refusal by %q", err, fault.RuleOf(err), rule)
	}
	if w.rows() != before {
		w.t.Fatal("a refusal wrote to the ledger")
	}
	x, err := w.engine.Explain(w.ctx, r.ID, nil)
	w.must(err)
	if x.LastRefusal == nil || x.LastRefusal.Rule != rule || len(x.LastRefusal.Trace) == 0 {
		w.t.Fatalf("explain remembers %+v, want rule %q", x.LastRefusal, rule)
	}
}

// looseKey is a key in the TPM that could be taken out of it.
func (m *machine) looseKey() crypto.Signer {
	m.w.t.Helper()
	link, err := linuxudstpm.Open(m.tpm.Socket)
	m.w.must(err)
	const storage = tpm2.TPMHandle(0x81000001)
	read, err := tpm2.ReadPublic{ObjectHandle: storage}.Execute(link)
	m.w.must(err)
	made, err := tpm2.Create{
		ParentHandle: tpm2.AuthHandle{Handle: storage, Name: read.Name, Auth: tpm2.PasswordAuth(nil)},
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{SensitiveDataOrigin: true, UserWithAuth: true, SignEncrypt: true},
			Parameters:       tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256}),
		}),
	}.Execute(link)
	m.w.must(err)
	der, err := asn1.Marshal(struct {
		Type            asn1.ObjectIdentifier
		EmptyAuth       bool `asn1:"optional,explicit,tag:0"`
		Parent          int64
		Public, Private []byte
	}{asn1.ObjectIdentifier{2, 23, 133, 10, 1, 3}, true, int64(storage), tpm2.Marshal(made.OutPublic), tpm2.Marshal(made.OutPrivate)})
	m.w.must(err)
	key, err := m.ParseKey(pem.EncodeToMemory(&pem.Block{Type: "TSS2 PRIVATE KEY", Bytes: der}))
	m.w.must(err)
	return key
}

// TestAKeyThatNothingVouchesForGetsNoCertificate is every way for an attestation to be wrong: each
// device has proved itself by then, and is told.
func TestAKeyThatNothingVouchesForGetsNoCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m, other := newMachine(w, "press-1"), newMachine(w, "press-1")
	w.asksForAttestation()
	m.enrolled()
	invalid := tpm.RuleKeyAttestation
	for name, request := range map[string]func() (provisioning.RegisterRequest, string){
		"none": func() (provisioning.RegisterRequest, string) {
			w.must(m.Activate(m.asks()))
			return m.asking(m.newKey()), provisioning.RuleKeyAttestationRequired
		},
		"an attestation key that says nothing": func() (provisioning.RegisterRequest, string) {
			m.asksFor(m.naming())
			r := m.asking(m.newKey())
			r.Evidence.TPM.By = m.naming().Evidence.TPM.By
			return r, provisioning.RuleKeyAttestationRequired
		},
		"of another key than the request's": func() (provisioning.RegisterRequest, string) {
			r := m.attests(m.newKey(), m.asksFor(m.naming()))
			r.CSR = testkit.CSR(t, m.newKey(), m.name)
			return r, invalid
		},
		"of a key outside": func() (provisioning.RegisterRequest, string) {
			r := m.attests(m.newKey(), m.asksFor(m.naming()))
			r.CSR = testkit.CSR(t, testkit.NewKey(t, "p256"), m.name)
			return r, invalid
		},
		"of a key that may leave the TPM": func() (provisioning.RegisterRequest, string) {
			return m.attests(m.looseKey(), m.asksFor(m.naming())), invalid
		},
		"by the challenge before": func() (provisioning.RegisterRequest, string) {
			key := m.newKey()
			old := m.attests(key, m.asksFor(m.naming())).Evidence.TPM.Attestation
			w.pass(6 * time.Minute) // half its life is over: another
			m.asksFor(m.naming())
			r := m.asking(key)
			r.Evidence.TPM.By, r.Evidence.TPM.Attestation = m.naming().Evidence.TPM.By, old
			return r, invalid
		},
		"by a TPM beside it": func() (provisioning.RegisterRequest, string) {
			// The other TPM has its own challenge opened by its own endorsement key; the device
			// passes on what that says of a key.
			key := other.newKey()
			other.enrolled()
			theirs := other.attests(key, other.asksFor(other.naming()))
			m.enrolled()
			m.asksFor(m.namingKey(other.ownAttestationKey()))
			r := m.asking(key)
			r.Evidence.TPM.By, r.Evidence.TPM.Attestation = theirs.Evidence.TPM.By, theirs.Evidence.TPM.Attestation
			return r, invalid
		},
		"by a key that was not named before": func() (provisioning.RegisterRequest, string) {
			key := m.newKey()
			r := m.attests(key, m.asksFor(m.naming()))
			r.Evidence.TPM.By = other.naming().Evidence.TPM.By
			return r, invalid
		},
		"cut short": func() (provisioning.RegisterRequest, string) {
			r := m.attests(m.newKey(), m.asksFor(m.naming()))
			a := &r.Evidence.TPM.Attestation
			a.CertifyInfo = a.CertifyInfo[:len(a.CertifyInfo)-1]
			return r, invalid
		},
		"too long": func() (provisioning.RegisterRequest, string) {
			r := m.attests(m.newKey(), m.asksFor(m.naming()))
			r.Evidence.TPM.Attestation.Signature = make([]byte, 1<<16)
			return r, invalid
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, rule := request()
			w.getsNone(r, rule)
		})
	}
	t.Run("by a key in no TPM, with all that the TPM would say", func(t *testing.T) {
		by, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		w.must(err)
		public := tpm2.TPMTPublic{
			Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, Restricted: true, SignEncrypt: true},
			Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256, Scheme: tpm2.TPMTECCScheme{
				Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
			}}),
			Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: by.X.FillBytes(make([]byte, 32))}, Y: tpm2.TPM2BECCParameter{Buffer: by.Y.FillBytes(make([]byte, 32))}}),
		}
		a := m.namingKey(tpm2.Marshal(tpm2.New2B(public)))
		m.asksFor(a)
		// The device may sign whatever it likes with the key of its token.
		guess, err := m.MAC(a.Evidence.TPM.By.Name())
		w.must(err)
		key := m.newKey()
		said := m.attests(key, m.asksFor(m.naming())).Evidence.TPM.Attestation
		info, err := tpm2.Unmarshal[tpm2.TPM2BAttest](said.CertifyInfo)
		w.must(err)
		contents, err := info.Contents()
		w.must(err)
		contents.ExtraData.Buffer = guess
		signed := tpm2.Marshal(*contents)
		digest := sha256.Sum256(signed)
		r, s, err := ecdsa.Sign(rand.Reader, by, digest[:])
		w.must(err)
		said.CertifyInfo = tpm2.Marshal(tpm2.New2B(*contents))
		said.Signature = tpm2.Marshal(tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{
			Hash: tpm2.TPMAlgSHA256, SignatureR: tpm2.TPM2BECCParameter{Buffer: r.Bytes()}, SignatureS: tpm2.TPM2BECCParameter{Buffer: s.Bytes()},
		})})
		spki, err := x509.MarshalPKIXPublicKey(key.Public())
		w.must(err)
		if err := said.Check(a.Evidence.TPM.By, spki, guess); err != nil {
			t.Fatalf("it is wrong in more than its secret: %v", err)
		}
		request := m.asking(key)
		request.Evidence.TPM.By, request.Evidence.TPM.Attestation = a.Evidence.TPM.By, said
		w.getsNone(request, invalid)
	})
	t.Run("without a challenge for the key of another TPM", func(t *testing.T) {
		// What opens the secret is the endorsement key with the very key that was named.
		challenge := m.asksFor(m.namingKey(other.ownAttestationKey()))
		for _, x := range []*machine{m, other} {
			if _, _, _, err := x.Attest(challenge, x.newKey()); err == nil {
				t.Error("one of two TPMs got the secret")
			}
		}
	})
	t.Run("the token that registered says nothing of the next key", func(t *testing.T) {
		r := m.attests(m.newKey(), m.asksFor(m.naming()))
		w.issues(r)
		w.pass(time.Second)
		r.CSR = testkit.CSR(t, m.newKey(), m.name)
		m.refused(r.Attempt, "tpm-challenge-spent")
		if _, err := w.engine.Register(w.ctx, r); fault.RuleOf(err) != "tpm-challenge-spent" {
			t.Error(err)
		}
	})
}

// TestAFalseAttestationIsRefusedWhereNoneIsAskedFor: and a true one is kept on record there.
func TestAFalseAttestationIsRefusedWhereNoneIsAskedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := newMachine(w, "press-1")
	m.enrolled()
	w.pass(time.Second)
	r := m.attests(m.newKey(), m.asksFor(m.naming()))
	good := r.CSR
	r.CSR = testkit.CSR(t, testkit.NewKey(t, "p256"), m.name)
	w.getsNone(r, tpm.RuleKeyAttestation)
	r.CSR = good
	leaf, kept := w.issues(r)
	if kept.KeyAttestation != policies.KeyAttestationTPM || w.named(leaf, attestedExtension) {
		t.Errorf("on record is %+v", kept)
	}
	w.pass(time.Hour)
	outside := testkit.NewKey(t, "p256")
	plain, err := w.enrollKey(w.presenting(m.name, leaf), outside)
	w.must(err)
	if w.onRecord(plain).KeyAttestation != policies.KeyAttestationNone {
		t.Error("a key outside is told to be in the TPM")
	}
	w.pass(time.Hour)
	again, err := w.enrollKey(w.presenting(m.name, plain), outside)
	w.must(err)
	if w.onRecord(again).KeyAttestation != policies.KeyAttestationNone {
		t.Error("a mark came back")
	}
}

// TestARetainedRequestKeepsTheMark: who signs it again knows the key by the certificate before.
func TestARetainedRequestKeepsTheMark(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := newMachine(w, "press-1")
	w.asksForAttestation(func(p *policies.Profile) { p.Renewal.Retain = true })
	m.enrolled()
	w.pass(time.Second)
	leaf, _ := w.issues(m.attests(m.newKey(), m.asksFor(m.naming())))
	if !w.marked(leaf) {
		t.Fatal("the certificate is like any other")
	}
	w.late()
	w.must(w.resign(m.name, ca.Superseded))
	if next := w.pending(m.name); next == nil || !w.marked(next) {
		t.Error("the successor is like any other")
	}
}

// TestOnlyADeviceWithATPMAttests: the mark is not for a key that is said to be somewhere.
func TestOnlyADeviceWithATPMAttests(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	w.asksForAttestation()
	r := provisioning.RegisterRequest{Attempt: device, CSR: testkit.CSR(t, testkit.NewKey(t, "p256"), device.Spelled)}
	w.getsNone(r, provisioning.RuleKeyAttestationRequired)
}

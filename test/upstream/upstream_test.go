package upstream_test

import (
	"bytes"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

// Long is more than anything here takes.
const long = 25 * time.Second

func TestADeviceIsGivenACertificateOfTheStepCA(t *testing.T) {
	w := newWorld(t, long, template)
	key := newKey(t)
	op, err := w.enroll("press-1", key)
	w.must(err)
	leaf := w.parse(op.Chain[0])
	if len(op.Chain) != 3 || !bytes.Equal(op.Chain[2], w.step.root.Raw) {
		t.Errorf("a chain of %d certificates, want leaf, intermediate and step-ca's root", len(op.Chain))
	}
	dir := t.TempDir()
	for i, name := range []string{"leaf.pem", "intermediate.pem"} {
		w.must(os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: op.Chain[i]}), 0o600))
	}
	if out, err := exec.Command("openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", w.step.path("root.crt"),
		"-untrusted", filepath.Join(dir, "intermediate.pem"), filepath.Join(dir, "leaf.pem")).CombinedOutput(); err != nil {
		t.Errorf("openssl: %v: %s", err, out)
	}
	if i := w.intent(ca.IntentIssued); i.Serial != ca.SerialOf(leaf.SerialNumber) || i.RegistrationID.String() != "press-1" {
		t.Errorf("the intent is %+v", i)
	}
	recorded, err := w.engine.Certificate(w.ctx, w.issuer.ID, ca.SerialOf(leaf.SerialNumber))
	w.must(err)
	if !bytes.Equal(recorded.DER, leaf.Raw) {
		t.Error("another certificate is on record")
	}
	if list, err := w.engine.Ledger(w.ctx, provisioning.LedgerFilter{Action: audit.Issued}); err != nil || len(list) != 1 {
		t.Errorf("%d entries of issuance in the ledger, %v", len(list), err)
	}
	if !w.step.renews(leaf, key) {
		t.Fatal("step-ca does not renew a good certificate: nothing can be learnt from that")
	}

	// A revocation is ours at once, and step-ca's as soon as it can be told.
	w.step.stop()
	_, err = w.engine.Revoke(w.ctx, actor, w.issuer.ID, recorded.Serial, ca.KeyCompromise)
	w.must(err)
	w.sweep()
	if b, err := w.authority.Backlog(w.ctx); err != nil || b.Revocations != 1 {
		t.Errorf("the backlog is %+v, %v, want one revocation", b, err)
	}
	w.step.start()
	w.sweep() // too early: it has just been tried
	if w.step.revoked()[string(recorded.Serial)] {
		t.Error("it was tried again at once")
	}
	w.pass(2 * long)
	w.sweep()
	if w.step.renews(leaf, key) || !w.step.revoked()[string(recorded.Serial)] {
		t.Error("step-ca does not know that the certificate is revoked")
	}
	if b, err := w.authority.Backlog(w.ctx); err != nil || b != (ca.UpstreamBacklog{}) {
		t.Errorf("the backlog is %+v, %v, want none", b, err)
	}
}

func TestAStoppedStepCA(t *testing.T) {
	w := newWorld(t, long, template)
	w.step.stop()
	w.proxy.close()
	for range 2 { // the first may still find the broken connection
		if _, err := w.enroll("press-1", newKey(t)); !fault.Is(err, fault.Unavailable) {
			t.Fatalf("%v, want unavailable", err)
		}
	}
	last := w.intents()[1]
	if last.State != ca.IntentRefused || last.Detail == "" || last.Serial != "" {
		t.Errorf("the intent is %+v, want it refused: there was nobody to sign", last)
	}
	w.step.start()
	w.proxy.open()
	if _, err := w.enroll("press-1", newKey(t)); err != nil {
		t.Errorf("after the step-ca is back: %v", err)
	}
}

func TestAnAnswerThatIsSwallowedLeavesAnOrphan(t *testing.T) {
	w := newWorld(t, 8*time.Second, template)
	_, err := w.enroll("press-0", newKey(t)) // the connection is there
	w.must(err)
	w.proxy.hold()
	before := w.step.signatures()
	if _, err := w.enroll("press-1", newKey(t)); fault.RuleOf(err) != "upstream-unanswered" || !fault.Is(err, fault.Unavailable) {
		t.Fatalf("%v, want unavailable, upstream-unanswered", err)
	}
	w.eventually("step-ca signs", func() bool { return w.step.signatures() == before+1 })
	w.proxy.cut() // the answer never comes
	w.proxy.release()
	orphan := func() ca.Intent { return w.intents()[1] }
	for range 3 {
		w.pass(24 * time.Hour)
		w.sweep()
		if i := orphan(); i.State != ca.IntentOrphaned || i.Serial != "" {
			t.Fatalf("the intent is %+v, want an orphan whose serial is not known", i)
		}
	}
	if list, err := w.engine.Ledger(w.ctx, provisioning.LedgerFilter{Action: audit.UpstreamOrphaned}); err != nil || len(list) != 1 {
		t.Errorf("%d entries of an orphan in the ledger, %v", len(list), err)
	}
	w.pass(-3 * 24 * time.Hour)

	// An operator finds it in step-ca's own log.
	serial := w.step.lastSerial()
	_, err = w.authority.ResolveIntent(w.ctx, actor, orphan().ID, ca.Resolution{Serial: serial, Note: "in the log of step-ca"})
	w.must(err)
	w.sweep()
	if orphan().State != ca.IntentRevoked || !w.step.revoked()[string(serial)] {
		t.Errorf("the intent is %+v, and step-ca has revoked %v", orphan(), w.step.revoked())
	}
}

func TestAnAnswerThatComesLateIsRevoked(t *testing.T) {
	w := newWorld(t, 8*time.Second, template)
	_, err := w.enroll("press-0", newKey(t))
	w.must(err)
	w.proxy.hold()
	if _, err := w.enroll("press-1", newKey(t)); fault.RuleOf(err) != "upstream-unanswered" {
		t.Fatalf("%v, want upstream-unanswered", err)
	}
	w.proxy.release()
	w.eventually("the late answer is on record", func() bool { return w.intents()[1].Serial != "" })
	w.sweep()
	if i := w.intents()[1]; i.State != ca.IntentRevoked || !w.step.revoked()[string(i.Serial)] {
		t.Errorf("the intent is %+v, and step-ca has revoked %v", i, w.step.revoked())
	}
}

func TestACommitThatFailsAfterTheSignature(t *testing.T) {
	t.Run("and is lost: the certificate is revoked at step-ca", func(t *testing.T) {
		w := newWorld(t, long, template)
		key := newKey(t)
		w.store.before = func() error { return errInjected }
		if _, err := w.enroll("press-1", key); err == nil {
			t.Fatal("it succeeded")
		}
		w.store.before = nil
		i := w.intent(ca.IntentOrphaned)
		leaf := w.parse(i.Certificate)
		if !w.step.renews(leaf, key) {
			t.Fatal("step-ca has not signed")
		}
		w.sweep()
		if w.step.renews(leaf, key) || w.intent(ca.IntentRevoked).Serial != i.Serial {
			t.Error("it is not revoked")
		}
		if list, err := w.engine.Certificates(w.ctx, provisioning.CertificateFilter{Limit: 1}); err != nil || len(list) != 0 {
			t.Errorf("%d certificates on record, %v", len(list), err)
		}
		if _, err := w.enroll("press-1", key); err != nil {
			t.Errorf("the device tries again: %v", err)
		}
	})
	t.Run("but was kept: the certificate stands", func(t *testing.T) {
		w := newWorld(t, long, template)
		key := newKey(t)
		w.store.after = func() error { return errInjected }
		if _, err := w.enroll("press-1", key); err == nil {
			t.Fatal("it succeeded")
		}
		w.pass(time.Hour)
		w.sweep()
		if i := w.intent(ca.IntentIssued); !w.step.renews(w.parse(i.Certificate), key) {
			t.Error("it was revoked, and the device has a right to it")
		}
	})
	t.Run("because the facts moved: the same certificate is recorded", func(t *testing.T) {
		w := newWorld(t, long, template)
		moves := 2
		w.store.before = func() error {
			if moves--; moves >= 0 {
				return fault.New(fault.Conflict, "registration-moved", "")
			}
			return nil
		}
		_, err := w.enroll("press-1", newKey(t))
		w.must(err)
		w.intent(ca.IntentIssued)
		if n := w.step.signatures(); n != 1 {
			t.Errorf("step-ca signed %d certificates, want 1", n)
		}
	})
}

func TestARequestThatEndsWithItsProcess(t *testing.T) {
	for name, tt := range map[string]struct {
		commits int32 // of the authority's before the end
		known   bool
	}{
		"after the intent, before the answer is on record: the orphan is listed": {1, false},
		"after the answer is on record: the orphan is revoked":                   {2, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, long, template)
			key := newKey(t)
			w.life.commits.Store(tt.commits)
			if _, err := w.enroll("press-1", key); err == nil {
				t.Fatal("it succeeded")
			}
			if n := w.step.signatures(); n != 1 {
				t.Fatalf("step-ca signed %d certificates, want 1", n)
			}
			w.open()
			w.sweep()
			if i := w.intent(ca.IntentOpen); (i.Serial != "") != tt.known {
				t.Fatalf("the intent is %+v", i) // another replica may be at work on it
			}
			w.pass(5 * time.Minute)
			w.sweep()
			if !tt.known {
				w.intent(ca.IntentOrphaned)
				return
			}
			if i := w.intent(ca.IntentRevoked); w.step.renews(w.parse(i.Certificate), key) {
				t.Error("step-ca still renews it")
			}
		})
	}
}

func TestACertificateThatIsNotWhatWasAskedForIsRevokedAtOnce(t *testing.T) {
	// step-ca's usual template: a web server's certificate too.
	w := newWorld(t, long, `{"subject": {{ toJson .Subject }}, "sans": {{ toJson .SANs }}, "keyUsage": ["digitalSignature"], "extKeyUsage": ["serverAuth", "clientAuth"]}`)
	key := newKey(t)
	if _, err := w.enroll("press-1", key); fault.RuleOf(err) != "upstream-certificate" || !fault.Is(err, fault.Unavailable) {
		t.Fatalf("%v, want unavailable, upstream-certificate", err)
	}
	i := w.intent(ca.IntentRevoked)
	if w.step.renews(w.parse(i.Certificate), key) {
		t.Error("it is not revoked")
	}
	if i.Detail != "wrong certificate: it has purposes that the profile has not" {
		t.Errorf("the intent says %q", i.Detail)
	}
}

package provisioning_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
)

// TestAWebhookOfBeforeItWasSealedIsReadAndSealed is INV-K1 for databases of before.
func TestAWebhookOfBeforeItWasSealedIsReadAndSealed(t *testing.T) {
	onBoth(t, func(t *testing.T, database store.Engine) {
		dir := t.TempDir()
		keks := shelf(t, dir)
		s := newSecrets(t, database, keks.Box())
		sealed := s.stored("asking-1")
		if bytes.Contains(sealed.Sealed, []byte("code=")) || seal.KEKID(sealed.Sealed[:8]) != keks.Box().Sealing() {
			t.Errorf("stored is %q", sealed.Sealed)
		}
		old := map[string][3]string{ // by group: as stored, the address and the version
			"asking-1": {"2021-10-01\nhttps://old.example.net/" + webhookKey, "https://old.example.net/" + webhookKey, "2021-10-01"},
			"asking-2": {"\nHTTP://127.0.0.1" + webhookKey, "HTTP://127.0.0.1" + webhookKey, ""},
			"asking-3": {"\nhttps://disabled.example.net/", "https://disabled.example.net/", ""},
		}
		s.webhooks("asking-3", "asking-4")
		for name, text := range old {
			s.stores(name, []byte(text[0]))
			s.reads(name, text[1], text[2])
		}
		was, err := s.world.engine.Enrollment(s.ctx, s.groupNamed("asking-1"))
		s.must(err)
		s.enable(s.groupNamed("asking-3"), false) // a write seals it
		untouched := s.stored("asking-4")

		done, err := provisioning.SealWebhooks(s.ctx, s.db.ProvisioningJobs(), keks.Box(), testkit.Now())
		if done != 2 || err != nil {
			t.Fatalf("sealed %d webhooks, %v", done, err)
		}
		for name, text := range old {
			if v := s.stored(name); seal.KEKID(v.Sealed[:8]) != keks.Box().Sealing() {
				t.Errorf("stored of %s is %q", name, v.Sealed)
			}
			s.reads(name, text[1], text[2])
		}
		if is, err := s.world.engine.Enrollment(s.ctx, was.Owner); err != nil || is.Version != was.Version {
			t.Errorf("its version went from %d to %d, %v", was.Version, is.Version, err)
		}
		if !bytes.Equal(s.stored("asking-4").Sealed, untouched.Sealed) {
			t.Error("one that was sealed is sealed anew")
		}
		if done, err = provisioning.SealWebhooks(s.ctx, s.db.ProvisioningJobs(), keks.Box(), testkit.Now()); done != 0 || err != nil {
			t.Errorf("then sealed %d webhooks, %v", done, err)
		}

		// What another key has sealed waits for Rewrap, which takes what is in the clear too.
		sealing, _, err := keks.Rotate(testkit.Now())
		s.must(err)
		if done, err = provisioning.SealWebhooks(s.ctx, s.db.ProvisioningJobs(), keks.Box(), testkit.Now()); done != 0 || err != nil {
			t.Errorf("under another key sealed %d webhooks, %v", done, err)
		}
		s.stores("asking-1", []byte(old["asking-1"][0]))
		if _, err := provisioning.Rewrap(s.ctx, s.db.ProvisioningJobs(), keks.Box(), testkit.Now()); err != nil {
			t.Fatal(err)
		}
		for name, text := range old {
			if v := s.stored(name); seal.KEKID(v.Sealed[:8]) != sealing {
				t.Errorf("stored of %s is %q", name, v.Sealed)
			}
			s.reads(name, text[1], text[2])
		}
	})
}

// TestAWebhookOpensInItsRowAlone is INV-K2. An entry is disabled and deleted all the same.
func TestAWebhookOpensInItsRowAlone(t *testing.T) {
	onBoth(t, func(t *testing.T, database store.Engine) {
		s := newSecrets(t, database, shelf(t, t.TempDir()).Box())
		moved := s.stored("asking-2").Sealed
		s.stores("asking-1", moved)
		if _, err := s.world.engine.Enrollment(s.ctx, s.groupNamed("asking-1")); fault.RuleOf(err) != "sealed-value-broken" {
			t.Errorf("read: %v", err)
		}
		if list, err := s.world.engine.Enrollments(s.ctx, provisioning.EnrollmentFilter{Kind: provisioning.Group}); fault.RuleOf(err) != "sealed-value-broken" {
			t.Errorf("listed: %d, %v", len(list), err)
		}
		s.enable(s.groupNamed("asking-1"), false)
		if !bytes.Equal(s.stored("asking-1").Sealed, moved) {
			t.Error("what does not open was written")
		}
		s.must(s.world.engine.Delete(s.ctx, "operator:test", s.groupNamed("asking-1"), provisioning.Precondition{Any: true}))
		for _, action := range []audit.Action{audit.EnrollmentCreated, audit.EnrollmentDisabled, audit.EnrollmentDeleted} {
			rows, err := s.world.engine.Ledger(s.ctx, provisioning.LedgerFilter{Action: action, Subject: "group:asking-1", Limit: 1})
			if err != nil || len(rows) != 1 || !strings.Contains(string(rows[0].Body), `"webhook"`) || strings.Contains(string(rows[0].Body), "a-key-of") {
				t.Errorf("%s: %+v, %v", action, rows, err)
			}
		}
	})
}

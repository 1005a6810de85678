package provisioning_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

func derive(groupKey []byte, name string) []byte {
	m := hmac.New(sha256.New, groupKey)
	m.Write([]byte(name))
	return m.Sum(nil)
}

// factory is a world with one group and one device below it.
func factory(t *testing.T) (*world, provisioning.Attempt) {
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > d1")
	w.anchor(f.Get("root"), true)
	w.group("g", f.Get("mid"))
	return w, w.presenting("d1", f.Get("d1").Chain()...)
}

func serial(c *x509.Certificate) ca.Serial { return ca.SerialOf(c.SerialNumber) }

func TestADeviceRenewsWithTheCertificateItWasGiven(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	first, err := w.enroll(device)
	w.must(err)
	w.pass(60 * 24 * time.Hour)
	second, err := w.enroll(w.presenting("d1", first)) // H7: without the factory chain
	w.must(err)
	reg := w.registration("d1")
	if s, _ := reg.Pair.Find(rotation.Ref(verify.ThumbprintOf(first.Raw))); reg.Pair.Cell(s).State != rotation.Active {
		t.Fatalf("the certificate that renewed is %s, want active", reg.Pair.Cell(s).State)
	}
	w.assigned(w.presenting("d1", second)) // first use: the cut-over
	w.assigned(w.presenting("d1", first))  // stands through the overlap
	w.pass(25 * time.Hour)
	w.refused(w.presenting("d1", first), "certificate-not-standing")
	w.assigned(w.presenting("d1", second))
	w.pass(90 * 24 * time.Hour)
	w.refused(w.presenting("d1", second), "leaf-expired")
	w.assigned(device) // the factory certificate brings it back
}

func TestARenewalRestsOnTheChainThatFirstAttested(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > d1; root > d2")
	w.anchor(f.Get("root"), true)
	w.reference("g", f.Get("root"))
	leaf, err := w.enroll(w.presenting("d1", f.Get("d1").Chain()...))
	w.must(err)
	held := w.group("mids", f.Get("mid"), disabled)
	w.refused(w.presenting("d1", leaf), "held-by-disabled")
	w.enable(held.Owner, true)
	w.assigned(w.presenting("d1", leaf))
	w.must(w.engine.DeleteAnchor(w.ctx, "operator:test", "root", provisioning.Precondition{Any: true}))
	w.refused(w.presenting("d1", leaf), "anchor-not-verified") // X3: fails closed
}

func TestALeafOfOursSpeaksOnlyWhileItStands(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	leaf, err := w.enroll(device)
	w.must(err)
	w.refused(w.presenting("d2", leaf), "certificate-not-standing") // another device's name
	owner := provisioning.Owner{Kind: provisioning.Group, ID: id(w, "g")}
	w.enable(owner, false)
	w.refused(w.presenting("d1", leaf), "enrollment-disabled") // INV-D5
	w.enable(owner, true)
	w.assigned(w.presenting("d1", leaf))
	w.must(w.engine.Delete(w.ctx, "operator:test", owner, provisioning.Precondition{Any: true}))
	w.refused(w.presenting("d1", leaf), "registration-orphaned")
}

func TestARevokedCertificateAndItsKeyAreRefused(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	key := testkit.NewKey(t, "p256")
	leaf, err := w.enrollKey(device, key)
	w.must(err)
	c, err := w.engine.Revoke(w.ctx, "operator:test", "", serial(leaf), ca.KeyCompromise)
	w.must(err)
	w.check()
	if c.Reason != ca.KeyCompromise {
		t.Fatalf("revoked for %q", c.Reason)
	}
	w.refused(w.presenting("d1", leaf), "certificate-revoked")
	if _, err := w.enrollKey(device, key); fault.KindOf(err) != fault.Malformed || fault.RuleOf(err) != "key-disallowed" { // INV-D3, I13
		t.Fatalf("the compromised key in a new CSR: %v", err)
	}
	if _, err := w.enroll(device); err != nil { // the device itself is not shut out
		t.Fatal(err)
	}
	if _, err := w.engine.Revoke(w.ctx, "operator:test", "", serial(leaf), ca.Superseded); fault.KindOf(err) != fault.Conflict {
		t.Fatalf("a second revocation: %v", err)
	}
	w.must(w.authority.SweepCRLs(w.ctx))
	crl, err := w.authority.PublishedCRL(w.ctx, c.Issuer, c.Shard)
	w.must(err)
	list, err := x509.ParseRevocationList(crl.DER)
	w.must(err)
	if len(list.RevokedCertificateEntries) != 1 || list.RevokedCertificateEntries[0].SerialNumber.Cmp(leaf.SerialNumber) != 0 {
		t.Fatalf("the CRL lists %v", list.RevokedCertificateEntries)
	}
}

func TestTheSameCSRGetsTheSameCertificateForTenMinutes(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	key := testkit.NewKey(t, "p256")
	csr := testkit.CSR(t, key, "d1")
	ask := func() *x509.Certificate {
		op, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: device, CSR: csr})
		w.must(err)
		c, err := x509.ParseCertificate(op.Chain[0])
		w.must(err)
		return c
	}
	w.pass(time.Second)
	first := ask()
	w.pass(time.Minute)
	if again := ask(); again.SerialNumber.Cmp(first.SerialNumber) != 0 { // T6, F9
		t.Fatal("a retry was answered with another certificate")
	}
	w.pass(10 * time.Minute)
	if later := ask(); later.SerialNumber.Cmp(first.SerialNumber) == 0 {
		t.Fatal("a renewal was answered from the record")
	}
	if _, err := w.engine.Revoke(w.ctx, "operator:test", "", serial(ask()), ca.Superseded); err != nil {
		t.Fatal(err)
	}
	if _, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: device, CSR: csr}); fault.RuleOf(err) != "certificate-not-standing" {
		t.Fatalf("a retry after the revocation: %v", err)
	}
}

func TestManyAtOnceLeaveOneRecord(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	var wg sync.WaitGroup
	for range 8 {
		csr := testkit.CSR(t, testkit.NewKey(t, "p256"), "d1")
		wg.Go(func() {
			if _, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: device, CSR: csr}); err != nil && fault.RuleOf(err) != "contended" {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	w.check()
	list, err := w.engine.Registrations(w.ctx, provisioning.RegistrationFilter{Limit: 10})
	w.must(err)
	if len(list) != 1 {
		t.Fatalf("%d registrations, want 1", len(list))
	}
}

func TestADisableAcknowledgedIsARefusalWhateverWasUnderWay(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	owner := provisioning.Owner{Kind: provisioning.Group, ID: id(w, "g")}
	_, err := w.enroll(device) // the issuer's first: it opens a CRL shard, which has a row of its own
	w.must(err)
	for range 10 {
		w.enable(owner, true)
		started := make(chan struct{})
		done := make(chan struct{})
		csr := testkit.CSR(t, testkit.NewKey(t, "p256"), "d1")
		go func() {
			close(started)
			defer close(done)
			// Admitted before the disable or refused after it: both are right.
			if _, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: device, CSR: csr}); err != nil && fault.KindOf(err) != fault.Unauthenticated {
				t.Error(err)
			}
		}()
		<-started
		w.enable(owner, false)
		disabledAt := w.rows()
		<-done
		list, err := w.engine.Ledger(w.ctx, provisioning.LedgerFilter{Limit: 1})
		w.must(err)
		if list[0].Seq > disabledAt { // INV-D1: nothing is recorded after the acknowledged disable
			t.Fatalf("entry %d (%s) was written after the disable at %d", list[0].Seq, list[0].Action, disabledAt)
		}
	}
}

func TestReprovisioning(t *testing.T) {
	t.Parallel()
	twin := []byte(`{"tags":{"floor":3},"properties":{"desired":{"telemetryDelay":"2"}}}`)
	tests := map[string]struct {
		policy    policies.ReprovisionPolicy
		hub       string
		substatus string
	}{
		"migrate moves the device to the hub the entry now names": {policies.ReprovisionPolicy{UpdateHubAssignment: true, MigrateDeviceData: true}, "hub-2.example.net", policies.DeviceDataMigrated},
		"reset moves it and starts afresh":                        {policies.ReprovisionPolicy{UpdateHubAssignment: true}, "hub-2.example.net", policies.DeviceDataReset},
		"never leaves it where it is":                             {policies.ReprovisionPolicy{}, builtIn, policies.ReprovisionedToInitialAssignment},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.hub("hub-2.example.net")
			settings := func(hub string) edit {
				return func(d *provisioning.Draft) {
					d.Hubs, d.Reprovision, d.InitialTwin = []string{hub}, tc.policy, twin
				}
			}
			key := w.keyed(provisioning.Individual, "d1", settings(builtIn))
			op := w.assigned(w.signing("d1", key))
			if op.Substatus != policies.InitialAssignment || op.Hub != builtIn {
				t.Fatalf("first: %s on %s", op.Substatus, op.Hub)
			}
			created := op.Created
			w.pass(time.Hour)
			w.put(provisioning.Individual, "d1", provisioning.Attestation{Role: provisioning.RoleKey}, settings("hub-2.example.net"))
			op = w.assigned(w.signing("d1", key))
			if op.Substatus != tc.substatus || op.Hub != tc.hub || !op.Created.Equal(created) {
				t.Fatalf("then: %s on %s, created %s; want %s on %s", op.Substatus, op.Hub, op.Created, tc.substatus, tc.hub)
			}
			d, err := w.engine.Device(w.ctx, id(w, "d1"))
			w.must(err)
			if d.Twin == nil || string(d.Twin.Desired) != `{"telemetryDelay":"2"}` {
				t.Fatalf("twin %+v", d.Twin)
			}
		})
	}
}

func TestARegistrationThatCannotBeAssignedFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.keyed(provisioning.Individual, "d1", func(d *provisioning.Draft) { d.DeviceID = "pump" })
	w.assigned(w.signing("d1", key))
	other := w.keyed(provisioning.Individual, "d2", func(d *provisioning.Draft) { d.DeviceID = "Pump" })
	op, err := w.register(w.signing("d2", other)) // C5
	w.must(err)
	if op.State != provisioning.Failed || op.ErrorMessage == "" {
		t.Fatalf("a taken device id: %s %q", op.State, op.ErrorMessage)
	}
	third := w.keyed(provisioning.Individual, "pump")
	if op, err = w.register(w.signing("pump", third)); err != nil || op.State != provisioning.Failed {
		t.Fatalf("a registration id taken as device id: %s, %v", op.State, err)
	}
	if reg := w.registration("d1"); reg.State != provisioning.Assigned || reg.Version != 1 {
		t.Fatalf("the first was not left alone: %+v", reg)
	}
}

func TestWithoutAHub(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(w.engine.DeleteHub(w.ctx, "operator:test", builtIn, provisioning.Precondition{Any: true}))
	key := w.keyed(provisioning.Individual, "d1")
	op, err := w.register(w.signing("d1", key)) // F2
	w.must(err)
	if op.State != provisioning.Failed {
		t.Fatalf("state %s, want failed", op.State)
	}
	op, err = w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: w.signing("d1", key), CSR: testkit.CSR(t, testkit.NewKey(t, "p256"), "d1"), HubOptional: true})
	w.must(err)
	if op.State != provisioning.Unassigned || len(op.Chain) != 3 {
		t.Fatalf("over EST: %s with %d certificates", op.State, len(op.Chain))
	}
}

func TestACertificateIsAskedForProperly(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	for name, tc := range map[string]struct {
		csr  []byte
		rule string
	}{
		"another device's name": {testkit.CSR(t, testkit.NewKey(t, "p256"), "d2"), "csr-names-other-device"},
		"not a CSR":             {[]byte("nonsense"), "csr-malformed"},
		"a weak key":            {testkit.CSR(t, testkit.NewKey(t, "rsa=1024"), "d1"), "key-too-small"},
	} {
		if _, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: device, CSR: tc.csr}); fault.RuleOf(err) != tc.rule || fault.KindOf(err) != fault.Malformed {
			t.Errorf("%s: %v (%s), want %s", name, err, fault.RuleOf(err), tc.rule)
		}
	}
	if list, err := w.engine.Registrations(w.ctx, provisioning.RegistrationFilter{Limit: 10}); err != nil || len(list) != 0 {
		t.Fatalf("bad requests left %d registrations, %v", len(list), err)
	}
	w.group("g2", testkit.Chain(t, "x > y").Get("x"), func(d *provisioning.Draft) { d.Profile = "" })
	key := w.keyed(provisioning.Individual, "plain", func(d *provisioning.Draft) { d.Profile = "" })
	if _, err := w.enroll(w.signing("plain", key)); fault.RuleOf(err) != "no-issuing-profile" {
		t.Fatalf("an entry without a profile: %v", err)
	}
	if _, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: device, CSR: testkit.CSR(t, testkit.NewKey(t, "p256"), "d1"), Renewal: true}); fault.RuleOf(err) != "renewal-needs-issued-certificate" {
		t.Fatalf("a renewal by a factory certificate: %v", err)
	}
}

func TestPollingIsAuthenticatedEveryTime(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	op, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: device, CSR: testkit.CSR(t, testkit.NewKey(t, "p256"), "d1")})
	w.must(err)
	polled, err := w.engine.Poll(w.ctx, provisioning.PollRequest{Attempt: device, OperationID: op.Operation.ID})
	w.must(err)
	if len(polled.Chain) != 3 || string(polled.Chain[0]) != string(op.Chain[0]) {
		t.Fatal("the poll does not carry the certificate that was issued")
	}
	looked, err := w.engine.Poll(w.ctx, provisioning.PollRequest{Attempt: device})
	w.must(err)
	if looked.Chain != nil || looked.State != provisioning.Assigned {
		t.Fatalf("status lookup: %s with %d certificates", looked.State, len(looked.Chain))
	}
	if _, err := w.engine.Poll(w.ctx, provisioning.PollRequest{Attempt: device, OperationID: "4.else"}); fault.KindOf(err) != fault.NotFound {
		t.Fatalf("another operation: %v", err)
	}
	w.enable(provisioning.Owner{Kind: provisioning.Group, ID: id(w, "g")}, false)
	if _, err := w.engine.Poll(w.ctx, provisioning.PollRequest{Attempt: device, OperationID: op.Operation.ID}); fault.KindOf(err) != fault.Unauthenticated {
		t.Fatalf("a poll after the disable: %v", err)
	}
}

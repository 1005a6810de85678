package provisioning_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/verify"
)

// retaining is a factory whose profile retains requests, with its device enrolled.
func retaining(t *testing.T) (*world, provisioning.Attempt, *x509.Certificate) {
	t.Helper()
	w, device := factory(t)
	w.profile(func(p *policies.Profile) { p.Renewal.Retain = true })
	leaf, err := w.enroll(device)
	w.must(err)
	return w, device, leaf
}

// late moves the clock to where a successor of the default profile's certificate is due.
func (w *world) late() { w.pass(61 * 24 * time.Hour) }

func (w *world) signDue() {
	w.t.Helper()
	_, err := w.engine.SweepRegistrations(w.ctx, w.db.ProvisioningJobs())
	w.must(err)
	w.check()
}

// pending is the certificate that waits for a device; nil if none does.
func (w *world) pending(name string) *x509.Certificate {
	w.t.Helper()
	p, err := w.engine.Pending(w.ctx, id(w, name))
	if fault.RuleOf(err) == "no-pending-certificate" {
		return nil
	}
	w.must(err)
	c, err := x509.ParseCertificate(p.DER)
	w.must(err)
	return c
}

// noted is muster.certificate in the device's desired properties; nil if it is not there.
func (w *world) noted(name string) map[string]string {
	w.t.Helper()
	d, err := w.engine.Device(w.ctx, id(w, name))
	w.must(err)
	if d.Twin == nil {
		return nil
	}
	var desired struct {
		Muster struct{ Certificate map[string]string }
	}
	w.must(json.Unmarshal(d.Twin.Desired, &desired))
	return desired.Muster.Certificate
}

func (w *world) resign(name string, reason ca.Reason) error {
	w.t.Helper()
	_, err := w.engine.Resign(w.ctx, ann, id(w, name), reason)
	w.check()
	return err
}

func ref(c *x509.Certificate) rotation.Ref { return rotation.Ref(verify.ThumbprintOf(c.Raw)) }

// H8 on both engines: same key, same name, new serial, later end; seen, then active.
func TestARequestOnRecordIsSignedAgainWhenASuccessorIsDue(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, shelf(t, t.TempDir()).Box())
		f := testkit.Chain(t, "root > mid > d1")
		w.anchor(f.Get("root"), true)
		w.group("g", f.Get("mid"), func(d *provisioning.Draft) {
			d.InitialTwin = []byte(`{"properties":{"desired":{"period":5,"muster":{"other":1}}}}`)
		})
		w.profile(func(p *policies.Profile) { p.Renewal.Retain = true })
		first, err := w.enroll(w.presenting("d1", f.Get("d1").Chain()...))
		w.must(err)
		w.assigned(w.presenting("d1", first)) // seen
		w.pass(59 * 24 * time.Hour)
		w.signDue()
		if w.pending("d1") != nil {
			t.Fatal("a successor was made before it was due")
		}
		w.pass(2 * 24 * time.Hour)
		w.signDue()
		w.signDue() // a second look makes no second one
		next := w.pending("d1")
		if next == nil {
			t.Fatal("no successor was made")
		}
		switch {
		case !bytes.Equal(next.RawSubjectPublicKeyInfo, first.RawSubjectPublicKeyInfo):
			t.Error("the key is another")
		case next.Subject.CommonName != "d1" || next.SerialNumber.Cmp(first.SerialNumber) == 0 || !next.NotAfter.After(first.NotAfter):
			t.Errorf("the successor is %s %s until %s", next.Subject, next.SerialNumber, next.NotAfter)
		}
		rows, err := w.engine.Ledger(w.ctx, provisioning.LedgerFilter{Action: audit.Issued, Actor: "job:rotation", Limit: 10})
		w.must(err)
		if len(rows) != 1 || rows[0].Subject != "registration:d1" || !bytes.Contains(rows[0].Body, []byte(`"why":"prepare-due"`)) {
			t.Errorf("ledger: %+v", rows)
		}
		if got := w.noted("d1"); got["thumbprint"] != verify.ThumbprintOf(next.Raw).String() || got["pem"] == "" || got["notAfter"] == "" {
			t.Errorf("the twin says %v", got)
		}
		list, more, err := w.engine.PendingCertificates(w.ctx, verify.RegistrationID{}, 10)
		w.must(err)
		if len(list) != 1 || list[0].RegistrationID.String() != "d1" || len(list[0].Above) != 2 || !more.IsZero() {
			t.Errorf("listed %d, more from %q", len(list), more)
		}

		w.assigned(w.presenting("d1", next)) // the proof of cut-over
		reg := w.registration("d1")
		if slot, _ := reg.Pair.Find(ref(next)); reg.Pair.Cell(slot).State != rotation.Active {
			t.Error("the successor is not active once it was seen")
		}
		if slot, _ := reg.Pair.Find(ref(first)); reg.Pair.Cell(slot).State != rotation.Retiring {
			t.Error("the first one does not retire")
		}
		d, err := w.engine.Device(w.ctx, id(w, "d1"))
		w.must(err)
		if w.pending("d1") != nil || w.noted("d1") != nil || string(d.Twin.Desired) != `{"muster":{"other":1},"period":5}` {
			t.Errorf("still pending, or in the twin: %s", d.Twin.Desired)
		}
		w.pass(25 * time.Hour)
		w.refused(w.presenting("d1", first), "certificate-not-standing")
	})
}

// A device that never comes back to us, only to its hub, is signed for all the same, time
// and again, and the later one takes the place of the one before.
func TestADeviceThatNeverComesBackIsSignedForAgain(t *testing.T) {
	t.Parallel()
	w, _, leaf := retaining(t)
	had := map[string]bool{string(leaf.Raw): true}
	for range 3 {
		w.late()
		w.signDue()
		next := w.pending("d1")
		if next == nil || had[string(next.Raw)] {
			t.Fatal("no new certificate is pending")
		}
		had[string(next.Raw)] = true
		w.assertNoted("d1", next)
	}
	w.must(w.engine.DeleteRegistration(w.ctx, ann, id(w, "d1"), provisioning.Precondition{Any: true}))
	w.must(w.db.ProvisioningJobs().View(w.ctx, func(tx provisioning.Tx) error {
		if _, err := tx.RetainedRequest(id(w, "d1")); !fault.Is(err, fault.NotFound) {
			t.Errorf("the request outlived the registration: %v", err)
		}
		return nil
	}))
}

func (w *world) assertNoted(name string, c *x509.Certificate) {
	w.t.Helper()
	if got := w.noted(name)["thumbprint"]; got != verify.ThumbprintOf(c.Raw).String() {
		w.t.Errorf("the twin says %q", got)
	}
}

// Everything that stops a renewal by the device stops this one: INV-D5, scenarios H8.
func TestARequestOnRecordIsRefusedAsARenewalWouldBe(t *testing.T) {
	t.Parallel()
	group := func(w *world) provisioning.Owner {
		return provisioning.Owner{Kind: provisioning.Group, ID: id(w, "g")}
	}
	for name, tt := range map[string]struct {
		before func(*world, *x509.Certificate)
		reason ca.Reason
		rule   string
	}{
		"nothing is wrong":                   {func(*world, *x509.Certificate) {}, ca.Superseded, ""},
		"because of a key compromise":        {func(*world, *x509.Certificate) {}, ca.KeyCompromise, "same-key"},
		"after the key was compromised":      {revokedFor(ca.KeyCompromise), ca.Superseded, "same-key"},
		"after its certificate was replaced": {revokedFor(ca.Superseded), ca.Superseded, "nothing-to-renew"},
		"its group is disabled":              {func(w *world, _ *x509.Certificate) { w.enable(group(w), false) }, ca.Superseded, "enrollment-disabled"},
		"its group is deleted": {func(w *world, _ *x509.Certificate) {
			w.must(w.engine.Delete(w.ctx, ann, group(w), provisioning.Precondition{Any: true}))
		}, ca.Superseded, "registration-orphaned"},
		"its anchor is gone": {func(w *world, _ *x509.Certificate) {
			w.must(w.engine.DeleteAnchor(w.ctx, ann, "root", provisioning.Precondition{Any: true}))
		}, ca.Superseded, "anchor-not-verified"},
		"it has an enrollment of its own now": {func(w *world, _ *x509.Certificate) {
			w.individual("d1", testkit.Chain(w.t, "other > d1").Get("d1"), nil)
		}, ca.Superseded, "certificate-not-enrolled"},
		"an enrollment pins the very leaf": {func(w *world, leaf *x509.Certificate) {
			w.individual("d1", &testkit.Entity{Name: "d1", Cert: leaf}, nil)
		}, ca.Superseded, "renewal-needs-issued-certificate"},
		"its profile retains no more": {func(w *world, _ *x509.Certificate) {
			w.profile(func(p *policies.Profile) { p.Renewal.Retain = false })
		}, ca.Superseded, "request-not-retained"},
		"its profile wants another kind of key": {func(w *world, _ *x509.Certificate) {
			w.profile(func(p *policies.Profile) { p.Keys = []policies.KeyType{policies.KeyECP384} })
		}, ca.Superseded, "key-type-not-allowed"},
		"its certificate has ended": {func(w *world, leaf *x509.Certificate) { w.clock = leaf.NotAfter.Add(time.Second) }, ca.Superseded, "leaf-expired"},
		"it has a successor already": {func(w *world, leaf *x509.Certificate) {
			w.assigned(w.presenting("d1", leaf))
			w.must(w.resign("d1", ca.Superseded))
		}, ca.Superseded, "already-staged"},
		"its successor would end no later": {func(w *world, _ *x509.Certificate) {
			w.profile(func(p *policies.Profile) { p.Lifetime = 24 * time.Hour })
		}, ca.Superseded, "successor-ends-earlier"},
	} {
		t.Run(name, func(t *testing.T) {
			w, _, leaf := retaining(t)
			w.pass(time.Hour)
			tt.before(w, leaf)
			before := w.rows()
			err := w.resign("d1", tt.reason)
			if fault.RuleOf(err) != tt.rule || (err == nil) != (tt.rule == "") {
				t.Fatalf("got %v (%q), want %q", err, fault.RuleOf(err), tt.rule)
			}
			if err != nil && (fault.KindOf(err) != fault.Conflict || w.rows() != before) {
				t.Errorf("a refusal of kind %v; ledger from %d to %d", fault.KindOf(err), before, w.rows())
			}
		})
	}
}

func revokedFor(reason ca.Reason) func(*world, *x509.Certificate) {
	return func(w *world, leaf *x509.Certificate) {
		_, err := w.engine.Revoke(w.ctx, ann, "", serial(leaf), reason)
		w.must(err)
	}
}

// The grace of the profile is for this renewal too.
func TestARequestOnRecordIsSignedWithinTheGrace(t *testing.T) {
	t.Parallel()
	w, _, leaf := retaining(t)
	w.profile(func(p *policies.Profile) { p.Renewal.Grace = 24 * time.Hour })
	w.clock = leaf.NotAfter.Add(24 * time.Hour)
	w.must(w.resign("d1", ca.Superseded))
	w.assigned(w.presenting("d1", w.pending("d1")))
}

// What may not be kept is not, and an older request does not outlive it.
func TestWhichRequestsAreKept(t *testing.T) {
	t.Parallel()
	challenge := pkix.AttributeTypeAndValueSET{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}, Value: [][]pkix.AttributeTypeAndValue{{{Type: asn1.ObjectIdentifier{1, 2, 3}, Value: "secret"}}}}
	key := testkit.NewKey(t, "p256")
	for name, tt := range map[string]struct {
		csr  func(*testing.T) []byte
		edit func(*provisioning.RegisterRequest)
		kept bool
	}{
		"another one": {plainCSR(key), func(*provisioning.RegisterRequest) {}, true},
		"one with a challenge password": {func(t *testing.T) []byte {
			return testkit.CSR(t, key, "d1", func(r *x509.CertificateRequest) { r.Attributes = append(r.Attributes, challenge) }) //nolint:staticcheck // the one way to set it
		}, func(*provisioning.RegisterRequest) {}, false},
		"one for a key made here": {plainCSR(key), func(r *provisioning.RegisterRequest) { r.ServerKey = true }, false},
		"none":                    {func(*testing.T) []byte { return nil }, func(*provisioning.RegisterRequest) {}, true},
	} {
		t.Run(name, func(t *testing.T) {
			w, device, _ := retaining(t)
			w.profile(func(p *policies.Profile) { p.ServerKeygen = true })
			w.pass(time.Hour)
			r := provisioning.RegisterRequest{Attempt: device, CSR: tt.csr(t)}
			tt.edit(&r)
			_, err := w.engine.Register(w.ctx, r)
			w.must(err)
			want := ""
			if !tt.kept {
				want = "request-not-retained"
			}
			w.pass(time.Hour)
			if err := w.resign("d1", ca.Superseded); fault.RuleOf(err) != want {
				t.Errorf("signing again: %v, want %q", err, want)
			}
		})
	}
	t.Run("of a profile that retains none", func(t *testing.T) {
		w, device := factory(t)
		_, err := w.enroll(device)
		w.must(err)
		w.profile(func(p *policies.Profile) { p.Renewal.Retain = true })
		if err := w.resign("d1", ca.Superseded); fault.RuleOf(err) != "request-not-retained" {
			t.Error(err)
		}
	})
}

func plainCSR(key crypto.Signer) func(*testing.T) []byte {
	return func(t *testing.T) []byte { return testkit.CSR(t, key, "d1") }
}

// between is a store in which something happens between a decision and its commit, once.
type between struct {
	provisioning.Store
	happens func()
}

func (b *between) View(ctx context.Context, f func(provisioning.Tx) error) error {
	err := b.Store.View(ctx, f)
	if happens := b.happens; happens != nil {
		b.happens = nil
		happens()
	}
	return err
}

// The answer that counts is the one read in the transaction that writes.
func TestWhatHappensWhileARequestIsSignedAgainCounts(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		happens func(*world, provisioning.Attempt, *x509.Certificate)
		pending bool
	}{
		"nothing": {func(*world, provisioning.Attempt, *x509.Certificate) {}, true},
		"its group is disabled": {func(w *world, _ provisioning.Attempt, _ *x509.Certificate) {
			w.enable(w.registration("d1").Owner, false)
		}, false},
		"its certificate is revoked": {func(w *world, _ provisioning.Attempt, leaf *x509.Certificate) {
			revokedFor(ca.KeyCompromise)(w, leaf)
		}, false},
		"its registration is deleted": {func(w *world, _ provisioning.Attempt, _ *x509.Certificate) {
			w.must(w.engine.DeleteRegistration(w.ctx, ann, id(w, "d1"), provisioning.Precondition{Any: true}))
		}, false},
		"the device registers": {func(w *world, device provisioning.Attempt, _ *x509.Certificate) { w.assigned(device) }, true},
		"the device renews by itself": {func(w *world, _ provisioning.Attempt, leaf *x509.Certificate) {
			_, err := w.enroll(w.presenting("d1", leaf))
			w.must(err)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w, device, leaf := retaining(t)
			w.late()
			jobs := &between{Store: w.db.ProvisioningJobs(), happens: func() { tt.happens(w, device, leaf) }}
			_, err := w.engine.SweepRegistrations(w.ctx, jobs)
			w.must(err)
			w.check()
			if got := w.pending("d1"); (got != nil) != tt.pending {
				t.Errorf("pending: %v", got != nil)
			}
		})
	}
}

// A pending certificate is handed out to nobody whose entry says no.
func TestAPendingCertificateIsWithheldAndTakenBack(t *testing.T) {
	t.Parallel()
	w, device, leaf := retaining(t)
	w.assigned(w.presenting("d1", leaf))
	w.late()
	w.signDue()
	next := w.pending("d1")
	got, err := w.engine.PendingFor(w.ctx, w.presenting("d1", leaf))
	w.must(err)
	if !bytes.Equal(got.DER, next.Raw) {
		t.Error("the device is given another certificate")
	}
	w.enable(w.registration("d1").Owner, false)
	list, _, err := w.engine.PendingCertificates(w.ctx, verify.RegistrationID{}, 10)
	w.must(err)
	if w.pending("d1") != nil || len(list) != 0 {
		t.Error("handed out while the group is disabled")
	}
	if _, err := w.engine.PendingFor(w.ctx, w.presenting("d1", leaf)); fault.RuleOf(err) != "enrollment-disabled" {
		t.Errorf("the device: %v", err)
	}
	w.enable(w.registration("d1").Owner, true)
	w.assertNoted("d1", next)
	_, err = w.engine.Revoke(w.ctx, ann, "", serial(next), ca.Superseded)
	w.must(err)
	w.check()
	if w.pending("d1") != nil || w.noted("d1") != nil {
		t.Error("handed out once it is revoked")
	}
	w.must(w.resign("d1", ca.Superseded)) // the slot is free again
	_, err = w.enroll(device)             // and the device asks for itself
	w.must(err)
	w.check()
	if w.pending("d1") != nil || w.noted("d1") != nil {
		t.Error("pending still, though the device has asked for another")
	}
}

// A crash between a claim and the signing costs the lease and no more.
func TestWhatASweepTookAndLeftIsTakenAgain(t *testing.T) {
	t.Parallel()
	w, _, _ := retaining(t)
	w.late()
	ctx, end := context.WithCancel(w.ctx)
	_, err := w.engine.SweepRegistrations(ctx, &ending{Store: w.db.ProvisioningJobs(), left: 2, end: end})
	if err == nil {
		t.Error("a sweep that was ended reports nothing")
	}
	w.signDue()
	if w.pending("d1") != nil {
		t.Error("another process took what was claimed")
	}
	w.pass(31 * time.Second)
	w.signDue()
	if w.pending("d1") == nil {
		t.Error("what was left is not taken again")
	}
}

// breaking is a store whose Update number at fails: what it wrote is lost, or is kept though
// nobody hears of it.
type breaking struct {
	provisioning.Store
	at   int
	kept bool
}

var errBroken = errors.New("the connection broke")

func (b *breaking) Update(ctx context.Context, f func(provisioning.Tx) error) error {
	b.at--
	if b.at != 0 {
		return b.Store.Update(ctx, f)
	}
	err := b.Store.Update(ctx, func(tx provisioning.Tx) error {
		if err := f(tx); err != nil || b.kept {
			return err
		}
		return errBroken
	})
	return errors.Join(err, errBroken)
}

// Every write of a sweep fails once, and is lost or kept: one certificate comes of it.
func TestABrokenWriteOfASweepCostsNoCertificate(t *testing.T) {
	t.Parallel()
	for at := 1; at <= 3; at++ {
		for _, kept := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d, kept %t", at, kept), func(t *testing.T) {
				w, _, _ := retaining(t)
				w.late()
				if _, err := w.engine.SweepRegistrations(w.ctx, &breaking{Store: w.db.ProvisioningJobs(), at: at, kept: kept}); err == nil {
					t.Error("the sweep reports nothing")
				}
				w.check()
				w.pass(31 * time.Second)
				w.signDue()
				if n := w.issued(); w.pending("d1") == nil || n != 2 {
					t.Errorf("%d certificates were issued, want the first and one more", n)
				}
			})
		}
	}
}

// To keep a request costs one statement, and a profile that keeps none nothing.
func TestWhatKeepingARequestCosts(t *testing.T) {
	t.Parallel()
	cost := func(retain bool) (statements int64) {
		w, device := factory(t)
		w.profile(func(p *policies.Profile) { p.Renewal.Retain = retain })
		for range 2 {
			before := w.db.Stats().Statements
			_, err := w.engine.Register(w.ctx, w.asking(device))
			w.must(err)
			statements = w.db.Stats().Statements - before
			w.pass(time.Hour)
		}
		return statements
	}
	if without, with := cost(false), cost(true); with != without+1 {
		t.Errorf("%d statements, %d without keeping it", with, without)
	}
}

// Several processes that sweep one store sign each request once.
func TestSeveralProcessesSignEachRequestOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, shelf(t, t.TempDir()).Box())
		w.profile(func(p *policies.Profile) { p.Renewal.Retain = true })
		const devices = 20
		key := w.keyed(provisioning.Group, "line")
		for i := range devices {
			name := fmt.Sprintf("d%d", i)
			_, err := w.engine.Register(w.ctx, w.asking(w.signing(name, derive(key, name))))
			w.must(err)
		}
		w.late()
		var sweeping sync.WaitGroup
		for range 4 {
			sweeping.Go(func() {
				for more := true; more; {
					var err error
					if more, err = w.engine.SweepRegistrations(w.ctx, w.db.ProvisioningJobs()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		sweeping.Wait()
		w.check()
		if n := w.issued(); n != 2*devices {
			t.Errorf("%d certificates for %d devices", n, devices)
		}
	})
}

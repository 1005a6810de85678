package ca_test

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

func TestACRLIsSignedWhenItIsDue(t *testing.T) {
	w, root, issuing := newHierarchy(t, "")
	c, _ := w.enroll(t, "dev", deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
	if _, err := w.PublishedCRL(t.Context(), issuing.ID, 0); !fault.Is(err, fault.NotFound) {
		t.Fatalf("before the first sweep: %v", err)
	}
	steps := []struct {
		what   string
		after  time.Duration
		before func()
		number int64
	}{
		{"the first, made with its shard: kept", 0, func() {}, 1},
		{"nothing changed: kept", 11 * time.Hour, func() {}, 1},
		{"half its life is over: renewed", 2 * time.Hour, func() {}, 2},
		{"a revocation: at once", time.Minute, func() {
			if err := w.revoke(t.Context(), c, ca.Superseded); err != nil {
				t.Fatal(err)
			}
		}, 3},
		{"the revocation is covered: kept", time.Minute, func() {}, 3},
		{"a stronger reason: at once", time.Minute, func() {
			if err := w.revoke(t.Context(), c, ca.KeyCompromise); err != nil {
				t.Fatal(err)
			}
		}, 4},
		{"a long sleep: renewed once", 100 * time.Hour, func() {}, 5},
	}
	for _, step := range steps {
		w.now = w.now.Add(step.after)
		step.before()
		w.sweep(t)
		list := w.crl(t, issuing.ID)
		if list.Number.Int64() != step.number {
			t.Errorf("%s: number %v, want %d", step.what, list.Number, step.number)
		}
		if !list.NextUpdate.After(w.now.Add(11 * time.Hour)) {
			t.Errorf("%s: next update %v at %v", step.what, list.NextUpdate, w.now)
		}
	}
	if n := w.crl(t, root.ID).Number.Int64(); n != 3 {
		t.Errorf("the root's CRL has number %d, want 3: nothing but time made one", n)
	}
	entries := w.crl(t, issuing.ID).RevokedCertificateEntries
	if len(entries) != 1 || ca.SerialOf(entries[0].SerialNumber) != c.Serial || entries[0].ReasonCode != 1 {
		t.Errorf("entries %+v", entries)
	}
	last := w.store.read().ledger
	if e := last[len(last)-1]; e.Action != audit.CRLPublished || e.Actor != "job:crl" {
		t.Errorf("entry %+v", e)
	}
}

func TestARevokedCertificateFailsAtOpenSSLFromTheNextCRLOn(t *testing.T) {
	w, _, issuing := newHierarchy(t, "")
	key := deviceKey(t, policies.KeyECP256)
	stolen, _ := w.enroll(t, "stolen", key, policies.DefaultProfile())
	kept, _ := w.enroll(t, "kept", key, policies.DefaultProfile())
	w.sweep(t)
	if out, good := w.opensslVerify(t, stolen); !good {
		t.Fatal(out)
	}
	w.now = w.now.Add(time.Minute)
	if err := w.revoke(t.Context(), stolen, ca.KeyCompromise); err != nil {
		t.Fatal(err)
	}
	w.sweep(t)
	if out, good := w.opensslVerify(t, stolen); good || !strings.Contains(out, "certificate revoked") {
		t.Errorf("the stolen one: %s", out)
	}
	if out, good := w.opensslVerify(t, kept); !good {
		t.Errorf("the other one: %s", out)
	}
	published, err := w.PublishedCRL(t.Context(), issuing.ID, 1)
	if err != nil || published.Entries != 1 || published.Covers != 1 || published.Number != 2 {
		t.Errorf("published %d entries, covers %d, number %d, %v", published.Entries, published.Covers, published.Number, err)
	}
}

func TestAnExpiredCertificateStaysForOneRegularCRL(t *testing.T) {
	w, _, issuing := newHierarchy(t, "")
	day := policies.DefaultProfile()
	day.Lifetime, day.Backdate = 24*time.Hour, 0
	c, _ := w.enroll(t, "dev", deviceKey(t, policies.KeyECP256), day)
	spare, _ := w.enroll(t, "spare", deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
	if err := w.revoke(t.Context(), c, ca.Superseded); err != nil {
		t.Fatal(err)
	}
	listed := func() bool {
		for _, e := range w.crl(t, issuing.ID).RevokedCertificateEntries {
			if ca.SerialOf(e.SerialNumber) == c.Serial {
				return true
			}
		}
		return false
	}
	w.sweep(t)
	w.now = c.NotAfter.Add(-time.Hour)
	w.sweep(t)
	if !listed() {
		t.Fatal("gone before it expired")
	}
	w.now = c.NotAfter.Add(time.Minute)
	if err := w.revoke(t.Context(), spare, ca.Superseded); err != nil { // brings about an early CRL
		t.Fatal(err)
	}
	w.sweep(t)
	if !listed() {
		t.Fatal("gone from the first CRL after its expiry, which was an early one")
	}
	w.now = w.now.Add(12 * time.Hour)
	w.sweep(t)
	if !listed() {
		t.Fatal("gone from the first regular CRL after its expiry")
	}
	for range 5 {
		w.now = w.now.Add(12 * time.Hour)
		w.sweep(t)
	}
	if listed() {
		t.Error("still there three days after its expiry: the CRL would only grow")
	}
	if n := len(w.crl(t, issuing.ID).RevokedCertificateEntries); n != 1 {
		t.Errorf("%d entries, want the unexpired one", n)
	}
}

func TestALongCRLIsReadInPages(t *testing.T) {
	w, _, issuing := newHierarchy(t, "")
	err := w.store.Update(t.Context(), func(tx ca.Tx) error {
		for n := range 1001 {
			c := ca.Certificate{Issuer: issuing.ID, Serial: ca.Serial(fmt.Sprintf("01%06x", n)), NotAfter: noon.Add(time.Hour)}
			c.Thumbprint[0], c.Thumbprint[1] = byte(n), byte(n>>8)
			if err := c.Revoke(ca.Unspecified, noon); err != nil {
				return err
			}
			if err := tx.InsertCertificate(c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.sweep(t)
	entries := w.crl(t, issuing.ID).RevokedCertificateEntries
	if len(entries) != 1001 {
		t.Errorf("%d entries, want 1001", len(entries))
	}
	for _, e := range entries {
		if len(e.Extensions) != 0 {
			t.Fatal("the reason unspecified is left out (RFC 5280 §5.3.1)")
		}
	}
}

func TestReplicasThatSweepAtOnceKeepOneCRLOfANumber(t *testing.T) {
	w, root, issuing := newHierarchy(t, "")
	others := []*ca.Authority{w.Authority, w.replica(t), w.replica(t)}
	var all sync.WaitGroup
	for _, a := range others {
		all.Go(func() {
			if err := a.SweepCRLs(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, id := range []ca.IssuerID{root.ID, issuing.ID} {
		number := int64(0)
		for _, crl := range w.store.read().crls {
			if crl.Issuer != id {
				continue
			}
			if number++; crl.Number != number {
				t.Errorf("CRL %d has number %d", number, crl.Number)
			}
		}
	}
}

func TestAFailedCRLCommit(t *testing.T) {
	boom := errors.New("power cut")
	tests := map[string]struct {
		arm    func(*memStore)
		number int64
	}{
		"that was lost leaves no CRL":             {func(s *memStore) { s.beforeCommit = func() error { return boom } }, 0},
		"that was kept all the same leaves a CRL": {func(s *memStore) { s.afterCommit = func() error { return boom } }, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w, root, issuing := newHierarchy(t, "")
			tt.arm(w.store)
			if err := w.SweepCRLs(t.Context()); !errors.Is(err, boom) {
				t.Fatalf("err = %v", err)
			}
			for _, id := range []ca.IssuerID{root.ID, issuing.ID} {
				if n := w.store.read().shard(id, 0).Number; n != tt.number {
					t.Errorf("number %d, want %d: the other issuer is not held up", n, tt.number)
				}
			}
			w.store.beforeCommit, w.store.afterCommit = nil, nil
			w.sweep(t)
			if list := w.crl(t, issuing.ID); list.Number.Int64() != 1 {
				t.Errorf("after the repair: number %v", list.Number)
			}
		})
	}
}

func TestAnExpiredIssuerSignsNoCRL(t *testing.T) {
	w, _, issuing := newHierarchy(t, "")
	certificate, _ := x509.ParseCertificate(issuing.Certificate)
	w.now = certificate.NotAfter.Add(time.Second)
	w.sweep(t)
	if _, err := w.PublishedCRL(t.Context(), issuing.ID, 0); !fault.Is(err, fault.NotFound) {
		t.Errorf("err = %v", err)
	}
}

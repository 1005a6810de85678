package ca_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

func (w *world) issuing(t testing.TB, root ca.IssuerID, r ca.IssuingRequest) ca.Issuer {
	t.Helper()
	i, err := w.CreateIssuing(t.Context(), operator, root, r)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (w *world) promote(t testing.TB, id ca.IssuerID) ca.Issuer {
	t.Helper()
	i, err := w.Promote(t.Context(), operator, id, ca.Promotion{})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (w *world) state(id ca.IssuerID) ca.IssuerState { return w.store.read().issuer(id).State }

func (w *world) enrolled(t testing.TB, id string) (ca.Certificate, *x509.Certificate) {
	t.Helper()
	return w.enroll(t, id, deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
}

func TestAnIssuingCARollsOver(t *testing.T) {
	w, root, one := newHierarchy(t, "")
	old, oldLeaf := w.enrolled(t, "dev-1")
	two := w.issuing(t, root.ID, ca.IssuingRequest{Name: "Issuing 2"})
	if two.State != ca.IssuerPrepared || two.Slot == one.Slot || one.State != ca.IssuerActive {
		t.Fatalf("beside %+v: %+v", one, two)
	}
	if c, _ := w.enrolled(t, "dev-2"); c.Issuer != one.ID {
		t.Error("a prepared issuer signed")
	}
	if !slices.ContainsFunc(w.Bundle(), func(der []byte) bool { return bytes.Equal(der, two.Certificate) }) {
		t.Error("a prepared issuer is not in the bundle")
	}

	w.now = w.now.Add(24 * time.Hour)
	if got := w.promote(t, two.ID); got.State != ca.IssuerActive {
		t.Errorf("promoted: %+v", got)
	}
	former := w.store.read().issuer(one.ID)
	if former.State != ca.IssuerRetiring || !former.RetireAt.Equal(oldLeaf.NotAfter) {
		t.Errorf("the former one is %s until %s; its last certificate ends %s", former.State, former.RetireAt, oldLeaf.NotAfter)
	}
	next, _ := w.enrolled(t, "dev-1")
	if next.Issuer != two.ID {
		t.Error("the former issuer signs still")
	}
	if err := w.revoke(t.Context(), old, ca.Superseded); err != nil {
		t.Fatal(err)
	}
	w.sweep(t)
	if list := w.crl(t, one.ID); len(list.RevokedCertificateEntries) != 1 {
		t.Error("the retiring issuer publishes no CRL")
	}
	if out, good := w.opensslVerify(t, next); !good {
		t.Error(out)
	}

	w.now = former.RetireAt.Add(-time.Minute)
	w.sweepIssuers(t)
	if w.state(one.ID) != ca.IssuerRetiring {
		t.Error("it retired before its time")
	}
	w.now = former.RetireAt
	w.sweepIssuers(t)
	if w.state(one.ID) != ca.IssuerRetired {
		t.Errorf("after its time it is %s", w.state(one.ID))
	}
	number := w.crl(t, one.ID).Number
	w.now = w.now.Add(23 * time.Hour)
	w.sweep(t)
	if w.crl(t, one.ID).Number.Cmp(number) != 0 || w.crl(t, two.ID).Number.Int64() < 2 {
		t.Error("the retired issuer signs CRLs, or the active one does not")
	}
	if chain := w.Chain(one.ID); len(chain) != 2 {
		t.Error("the retired issuer has no chain")
	}
	wantLast(t, w.store, audit.IssuerRetiring, audit.IssuerPromoted)
	wantLast(t, w.store, audit.IssuerRetired)
	if again := w.issuing(t, root.ID, ca.IssuingRequest{Name: "Issuing 3"}); again.Slot != one.Slot {
		t.Error("the next one does not go into the slot that is free")
	}
}

func (w *world) sweepIssuers(t testing.TB) {
	t.Helper()
	if err := w.SweepIssuers(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// wantLast finds the entries somewhere in the ledger, one behind the other.
func wantLast(t testing.TB, s *memStore, want ...audit.Action) {
	t.Helper()
	got := s.read().actions()
	for i := range got {
		if i+len(want) <= len(got) && slices.Equal(got[i:i+len(want)], want) {
			return
		}
	}
	t.Errorf("the ledger reads %v, without %v", got, want)
}

func TestAProfileHasItsOwnIssuer(t *testing.T) {
	w, root, general := newHierarchy(t, "")
	sensors := w.issuing(t, root.ID, ca.IssuingRequest{Name: "Sensors", Profile: "sensors"})
	if sensors.State != ca.IssuerActive {
		t.Fatalf("the first of its profile is %s", sensors.State)
	}
	p := policies.DefaultProfile()
	p.Name = "sensors"
	if c, _ := w.enroll(t, "dev-1", deviceKey(t, policies.KeyECP256), p); c.Issuer != sensors.ID {
		t.Error("another issuer signed for the profile")
	}
	if c, _ := w.enrolled(t, "dev-2"); c.Issuer != general.ID {
		t.Error("the profile's issuer signed for all")
	}
	got, err := w.Retire(t.Context(), operator, sensors.ID, false)
	if err != nil || got.State != ca.IssuerRetiring || got.RetireAt.Before(w.now) {
		t.Fatalf("without a successor: %+v, %v", got, err)
	}
	if c, _ := w.enroll(t, "dev-1", deviceKey(t, policies.KeyECP256), p); c.Issuer != general.ID {
		t.Error("the issuer for all did not take over")
	}
	if _, err := w.Retire(t.Context(), operator, general.ID, true); fault.RuleOf(err) != "issuer-active" {
		t.Errorf("the last active issuer retires: %v", err)
	}
}

func TestMovesThatAnIssuerRefuses(t *testing.T) {
	w, root, one := newHierarchy(t, "")
	w.enrolled(t, "dev-1")
	two := w.issuing(t, root.ID, ca.IssuingRequest{Name: "Issuing 2"})
	short := time.Hour
	promote := func(id ca.IssuerID, p ca.Promotion) error {
		_, err := w.Promote(t.Context(), operator, id, p)
		return err
	}
	retire := func(id ca.IssuerID, force bool) error {
		_, err := w.Retire(t.Context(), operator, id, force)
		return err
	}
	revoke := func(id ca.IssuerID, r ca.Reason) error {
		_, err := w.RevokeIssuer(t.Context(), operator, id, r)
		return err
	}
	for _, tt := range []struct {
		name string
		do   func() error
		rule string
	}{
		{"promoting what is not there", func() error { return promote("0000000000000000", ca.Promotion{}) }, "no-issuer"},
		{"promoting the active one", func() error { return promote(one.ID, ca.Promotion{}) }, "issuer-not-prepared"},
		{"an overlap that ends before the leaves", func() error { return promote(two.ID, ca.Promotion{Overlap: &short}) }, "issuer-in-use"},
		{"retiring the active one", func() error { return retire(one.ID, true) }, "issuer-active"},
		{"retiring what is not there", func() error { return retire("0000000000000000", false) }, "no-issuer"},
		{"the same overlap, forced", func() error { return promote(two.ID, ca.Promotion{Overlap: &short, Force: true}) }, ""},
		{"retiring one that has leaves", func() error { return retire(one.ID, false) }, "issuer-in-use"},
		{"the same, forced", func() error { return retire(one.ID, true) }, ""},
		{"retiring it again", func() error { return retire(one.ID, true) }, "issuer-ended"},
		{"promoting it again", func() error { return promote(one.ID, ca.Promotion{}) }, "issuer-not-prepared"},
		{"revoking for no reason", func() error { return revoke(one.ID, "because") }, "reason-unknown"},
		{"revoking what is not there", func() error { return revoke("0000000000000000", ca.KeyCompromise) }, "no-issuer"},
		{"revoking the retired one", func() error { return revoke(one.ID, ca.KeyCompromise) }, ""},
		{"revoking it again", func() error { return revoke(one.ID, ca.KeyCompromise) }, "issuer-ended"},
		{"retiring the revoked one", func() error { return retire(one.ID, true) }, "issuer-ended"},
	} {
		before := len(w.store.read().ledger)
		if err := tt.do(); fault.RuleOf(err) != tt.rule {
			t.Errorf("%s: %v, want rule %q", tt.name, err, tt.rule)
		}
		if after := len(w.store.read().ledger); (after == before) != (tt.rule != "") {
			t.Errorf("%s: %d entries in the ledger, %d before", tt.name, after, before)
		}
	}
}

func TestAPreparedIssuerIsWithdrawn(t *testing.T) {
	w, root, _ := newHierarchy(t, "")
	two := w.issuing(t, root.ID, ca.IssuingRequest{Name: "Issuing 2"})
	if got, err := w.Retire(t.Context(), operator, two.ID, false); err != nil || got.State != ca.IssuerRetired {
		t.Fatalf("%+v, %v", got, err)
	}
	w.issuing(t, root.ID, ca.IssuingRequest{Name: "Issuing 3"})
}

func TestThreeIssuersStandAtOnce(t *testing.T) {
	w, root, one := newHierarchy(t, "")
	w.enrolled(t, "dev-1")
	two := w.issuing(t, root.ID, ca.IssuingRequest{Name: "Issuing 2"})
	w.promote(t, two.ID)
	w.enrolled(t, "dev-2")
	three := w.issuing(t, root.ID, ca.IssuingRequest{Name: "Issuing 3"})
	if w.state(one.ID) != ca.IssuerRetiring || three.Slot != one.Slot {
		t.Fatalf("the first is %s, the third in slot %s", w.state(one.ID), three.Slot)
	}
	w.promote(t, three.ID)
	if w.state(one.ID) != ca.IssuerRetiring || w.state(two.ID) != ca.IssuerRetiring || w.state(three.ID) != ca.IssuerActive {
		t.Fatalf("%s, %s, %s", w.state(one.ID), w.state(two.ID), w.state(three.ID))
	}
	w.sweep(t)
	w.crl(t, one.ID)
	if got, err := w.Retire(t.Context(), operator, one.ID, true); err != nil || got.State != ca.IssuerRetired {
		t.Errorf("the one outside the pair: %+v, %v", got, err)
	}
	if w.state(two.ID) != ca.IssuerRetiring {
		t.Error("its neighbour in the slot went with it")
	}
}

func TestAReplicaThatHasNotHeardOfAPromotionSignsNothing(t *testing.T) {
	w, root, one := newHierarchy(t, "")
	two := w.issuing(t, root.ID, ca.IssuingRequest{Name: "Issuing 2"})
	late := w.replica(t)
	w.promote(t, two.ID)

	u, err := late.Issue(t.Context(), identity(t, "dev"), request(t, "dev", deviceKey(t, policies.KeyECP256)), policies.DefaultProfile(), verify.Thumbprint{}, w.now)
	if err != nil || u.Issuer() != one.ID {
		t.Fatalf("%s, %v", u.Issuer(), err)
	}
	if _, err := w.record(t.Context(), u); fault.RuleOf(err) != "issuer-not-active" {
		t.Fatalf("recorded all the same: %v", err)
	}
	if err := late.SweepIssuers(t.Context()); err != nil {
		t.Fatal(err)
	}
	u, err = late.Issue(t.Context(), identity(t, "dev"), request(t, "dev", deviceKey(t, policies.KeyECP256)), policies.DefaultProfile(), verify.Thumbprint{}, w.now)
	if err != nil || u.Issuer() != two.ID {
		t.Fatalf("after its sweep: %s, %v", u.Issuer(), err)
	}
	if _, err := w.record(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	if _, err := w.replica(t).Promote(t.Context(), operator, two.ID, ca.Promotion{}); fault.RuleOf(err) != "issuer-not-prepared" {
		t.Errorf("promoted twice: %v", err)
	}
}

func TestARevokedIssuerIsOnItsRootsCRL(t *testing.T) {
	w, root, one := newHierarchy(t, "")
	leaf, _ := w.enrolled(t, "dev")
	w.sweep(t)
	if out, good := w.opensslVerify(t, leaf); !good {
		t.Fatal(out)
	}
	got, err := w.RevokeIssuer(t.Context(), operator, one.ID, ca.CACompromise)
	if err != nil || !got.OnCRL || got.Issuer.State != ca.IssuerRevoked || got.Below != nil {
		t.Fatalf("%+v, %v", got, err)
	}
	w.sweep(t)
	certificate, _ := x509.ParseCertificate(one.Certificate)
	if list := w.crl(t, root.ID).RevokedCertificateEntries; len(list) != 1 || list[0].SerialNumber.Cmp(certificate.SerialNumber) != 0 || list[0].ReasonCode != 2 {
		t.Errorf("the root's CRL: %+v", list)
	}
	if out, good := w.opensslVerify(t, leaf); good {
		t.Errorf("openssl takes a leaf of it: %s", out)
	}
	for _, der := range w.Bundle() {
		if bytes.Equal(der, one.Certificate) {
			t.Error("the bundle has a revoked issuer")
		}
	}
	_, err = w.Issue(t.Context(), identity(t, "dev"), request(t, "dev", deviceKey(t, policies.KeyECP256)), policies.DefaultProfile(), verify.Thumbprint{}, w.now)
	if fault.RuleOf(err) != "no-active-issuer" {
		t.Errorf("it signs: %v", err)
	}
	if next := w.issuing(t, root.ID, ca.IssuingRequest{Name: "Next"}); next.State != ca.IssuerActive {
		t.Errorf("with no active issuer left, the next one is %s", next.State)
	}
}

func TestAnIssuerFromBeforeTheInventoryHeldCAsIsRevokedToo(t *testing.T) {
	w, root, one := newHierarchy(t, "")
	w.store.rows.certificates, w.store.rows.ledger = nil, nil
	if got, err := w.RevokeIssuer(t.Context(), operator, one.ID, ca.KeyCompromise); err != nil || !got.OnCRL {
		t.Fatalf("%+v, %v", got, err)
	}
	w.sweep(t)
	if list := w.crl(t, root.ID).RevokedCertificateEntries; len(list) != 1 {
		t.Errorf("the root's CRL: %+v", list)
	}
	wantLast(t, w.store, audit.IssuerRevoked, audit.Issued, audit.Revoked)
}

func TestARevokedRootTakesWhatIsBelowIt(t *testing.T) {
	w, root, one := newHierarchy(t, "")
	two := w.issuing(t, root.ID, ca.IssuingRequest{Name: "Sensors", Profile: "sensors"})
	got, err := w.RevokeIssuer(t.Context(), operator, root.ID, ca.KeyCompromise)
	if err != nil || got.OnCRL || len(got.Below) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if w.state(one.ID) != ca.IssuerRevoked || w.state(two.ID) != ca.IssuerRevoked || len(w.Bundle()) != 0 {
		t.Errorf("%s, %s, a bundle of %d", w.state(one.ID), w.state(two.ID), len(w.Bundle()))
	}
}

func TestARootRollsOverWithCrossCertificates(t *testing.T) {
	w, old, _ := newHierarchy(t, "")
	next, err := w.CreateRoot(t.Context(), operator, ca.RootRequest{Name: "Root 2"})
	if err != nil || next.State != ca.IssuerPrepared {
		t.Fatalf("%+v, %v", next, err)
	}
	below := w.issuing(t, next.ID, ca.IssuingRequest{Name: "Issuing 2"})
	newByOld, err := w.CrossSign(t.Context(), operator, next.ID, old.ID)
	if err != nil {
		t.Fatal(err)
	}
	oldByNew, err := w.CrossSign(t.Context(), operator, old.ID, next.ID)
	if err != nil {
		t.Fatal(err)
	}
	lintClean(t, newByOld.Certificate)
	if n := len(w.Bundle()); n != 6 {
		t.Errorf("the bundle has %d certificates", n)
	}
	w.promote(t, below.ID)
	w.promote(t, next.ID)
	if former := w.store.read().issuer(old.ID); former.State != ca.IssuerRetiring || former.RetireAt.Before(w.now.AddDate(4, 0, 0)) {
		t.Errorf("the old root is %s until %s: an issuing CA of five years stands below it", former.State, former.RetireAt)
	}
	_, leaf := w.enrolled(t, "dev")
	for name, trusted := range map[string][]byte{"the old root": old.Certificate, "the new root": next.Certificate} {
		roots, between := x509.NewCertPool(), x509.NewCertPool()
		root, _ := x509.ParseCertificate(trusted)
		roots.AddCert(root)
		for _, der := range append([][]byte{below.Certificate}, newByOld.Certificate, oldByNew.Certificate) {
			c, _ := x509.ParseCertificate(der)
			between.AddCert(c)
		}
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: w.now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			t.Errorf("who trusts %s alone: %v", name, err)
		}
		if out, good := opensslTrusts(t, w.now, trusted, [][]byte{below.Certificate, newByOld.Certificate, oldByNew.Certificate}, leaf.Raw); !good {
			t.Errorf("openssl, trusting %s alone: %s", name, out)
		}
	}
	key := deviceKey(t, policies.KeyECP256)
	sent, err := w.IssueServer(t.Context(), "job:test", key.Public(), []string{"muster.example.net"}, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, trusted := range map[string][]byte{"the old root": old.Certificate, "the new root": next.Certificate} {
		roots, between := x509.NewCertPool(), x509.NewCertPool()
		for i, der := range append([][]byte{trusted}, sent...) {
			c, _ := x509.ParseCertificate(der)
			if i == 0 {
				roots.AddCert(c)
			}
			between.AddCert(c)
		}
		server, _ := x509.ParseCertificate(sent[0])
		if _, err := server.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: w.now}); err != nil {
			t.Errorf("a device that trusts %s alone does not reach the server: %v", name, err)
		}
	}
	w.now = w.now.AddDate(30, 0, 0)
	if n := len(w.Bundle()); n != 0 {
		t.Errorf("when all have ended the bundle has %d certificates", n)
	}
	w.now = w.now.AddDate(-30, 0, 0)
	for name, tt := range map[string]struct {
		of, by ca.IssuerID
		rule   string
	}{
		"twice":              {next.ID, old.ID, "cross-certificate-exists"},
		"a root by itself":   {old.ID, old.ID, "issuer-not-root"},
		"an issuing CA":      {below.ID, old.ID, "issuer-not-root"},
		"by an issuing CA":   {next.ID, below.ID, "issuer-not-root"},
		"what is not there":  {"0000000000000000", old.ID, "no-issuer"},
		"by what is nowhere": {next.ID, "0000000000000000", "no-issuer"},
	} {
		if _, err := w.CrossSign(t.Context(), operator, tt.of, tt.by); fault.RuleOf(err) != tt.rule {
			t.Errorf("%s: %v, want rule %q", name, err, tt.rule)
		}
	}
	if _, err := w.RevokeIssuer(t.Context(), operator, next.ID, ca.KeyCompromise); err != nil {
		t.Fatal(err)
	}
	w.sweep(t)
	if list := w.crl(t, old.ID).RevokedCertificateEntries; len(list) != 1 {
		t.Errorf("the cross certificate of the revoked root is not revoked: %+v", list)
	}
}

func TestACrashWhileIssuersMoveLeavesAllOrNothing(t *testing.T) {
	boom := errors.New("power cut")
	moves := map[string]func(*world, ca.Issuer, ca.Issuer) error{
		"promote": func(w *world, _, two ca.Issuer) error {
			_, err := w.Promote(t.Context(), operator, two.ID, ca.Promotion{})
			return err
		},
		"withdraw": func(w *world, _, two ca.Issuer) error {
			_, err := w.Retire(t.Context(), operator, two.ID, false)
			return err
		},
		"revoke": func(w *world, one, _ ca.Issuer) error {
			_, err := w.RevokeIssuer(t.Context(), operator, one.ID, ca.KeyCompromise)
			return err
		},
	}
	for name, move := range moves {
		for _, kept := range []bool{false, true} {
			w, root, one := newHierarchy(t, "")
			two := w.issuing(t, root.ID, ca.IssuingRequest{Name: "Issuing 2"})
			before := w.store.read()
			if kept {
				w.store.afterCommit = func() error { return boom }
			} else {
				w.store.beforeCommit = func() error { return boom }
			}
			if err := move(w, one, two); !errors.Is(err, boom) {
				t.Fatalf("%s: %v", name, err)
			}
			w.store.beforeCommit, w.store.afterCommit = nil, nil
			after := w.store.read()
			if moved := !slices.EqualFunc(before.issuers, after.issuers, func(a, b ca.Issuer) bool { return a.State == b.State }); moved != kept || (len(after.ledger) > len(before.ledger)) != kept {
				t.Errorf("%s, kept %v: moved %v, %d entries after %d", name, kept, moved, len(after.ledger), len(before.ledger))
			}
			again := move(w, one, two)
			if (again == nil) == kept {
				t.Errorf("%s, kept %v, again: %v", name, kept, again)
			}
		}
	}
}

func TestTheServersCertificateFollowsItsIssuers(t *testing.T) {
	w, root, one := newHierarchy(t, "")
	serve := func() *x509.Certificate {
		chain, err := w.IssueServer(t.Context(), "job:server-certificate", deviceKey(t, policies.KeyECP256).Public(), []string{"localhost"}, 30*24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		leaf, _ := x509.ParseCertificate(chain[0])
		return leaf
	}
	before := serve()
	two := w.issuing(t, root.ID, ca.IssuingRequest{Name: "Issuing 2"})
	late := w.replica(t)
	w.promote(t, two.ID)
	w.Authority = late // a process that has not heard of it
	after := serve()
	issuer, _ := x509.ParseCertificate(two.Certificate)
	if after.CheckSignatureFrom(issuer) != nil || !w.StandsBehind(before) || !w.StandsBehind(after) {
		t.Error("the next one is not from the next issuer, or one has fallen")
	}
	if _, err := w.RevokeIssuer(t.Context(), operator, one.ID, ca.KeyCompromise); err != nil {
		t.Fatal(err)
	}
	if w.StandsBehind(before) || !w.StandsBehind(after) {
		t.Error("who stands behind which")
	}
}

func TestARevocationIsNotOutlivedByItsCertificate(t *testing.T) {
	w, root, one := newHierarchy(t, "")
	c, leaf := w.enrolled(t, "dev")
	if err := w.revoke(t.Context(), c, ca.KeyCompromise); err != nil {
		t.Fatal(err)
	}
	two := w.issuing(t, root.ID, ca.IssuingRequest{Name: "Issuing 2"})
	w.promote(t, two.ID)
	if former := w.store.read().issuer(one.ID); former.RetireAt.Before(leaf.NotAfter) {
		t.Errorf("the former issuer signs CRLs until %s; a certificate that it revoked ends %s", former.RetireAt, leaf.NotAfter)
	}
	if _, err := w.Retire(t.Context(), operator, one.ID, false); fault.RuleOf(err) != "issuer-in-use" {
		t.Errorf("retired before that: %v", err)
	}
}

func TestAProcessThatHasNotHeardOfARevokedRootSignsNoCA(t *testing.T) {
	w, root, _ := newHierarchy(t, "")
	late := w.replica(t)
	if _, err := w.RevokeIssuer(t.Context(), operator, root.ID, ca.KeyCompromise); err != nil {
		t.Fatal(err)
	}
	if i, err := late.CreateIssuing(t.Context(), operator, root.ID, ca.IssuingRequest{Name: "Next"}); fault.RuleOf(err) != "issuer-not-root" {
		t.Errorf("below a revoked root: %+v, %v", i, err)
	}
	late = w.replica(t)
	csr := requestFor(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Factory"}}, deviceKey(t, policies.KeyECP256))
	if _, err := late.SignCA(t.Context(), operator, root.ID, csr, 0); fault.RuleOf(err) != "issuer-not-root" {
		t.Errorf("signed by a revoked root: %v", err)
	}
}

func TestALeafIsOursWhateverKeyItNames(t *testing.T) {
	w, _, issuing := newHierarchy(t, "")
	signer, err := w.keys.Open(t.Context(), issuing.KeyURI)
	if err != nil {
		t.Fatal(err)
	}
	stranger := deviceKey(t, policies.KeyECP256)
	above, _ := x509.ParseCertificate(issuing.Certificate)
	for name, tt := range map[string]struct {
		key  crypto.Signer
		ours bool
	}{
		"signed by ours, naming another key": {signer, true},
		"signed by a CA of the same name":    {stranger, false},
	} {
		parent := *above
		parent.PublicKey, parent.SubjectKeyId = tt.key.Public(), []byte("another key")
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(7), NotBefore: noon, NotAfter: noon.Add(time.Hour)}, &parent, stranger.Public(), tt.key)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if w.IsOurs(leaf) != tt.ours {
			t.Errorf("%s: ours %v, want %v", name, w.IsOurs(leaf), tt.ours)
		}
	}
}

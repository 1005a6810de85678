package provisioning_test

import (
	"crypto/x509"
	"log/slog"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store/storetest"
)

// replica is another process on the same database and keys.
func (w *world) replica() *world {
	w.t.Helper()
	other := *w
	var err error
	other.authority, err = ca.New(w.ctx, w.db.CA(), w.folder, ca.Config{PKIURL: "http://pki.example.net"}, w.now)
	w.must(err)
	other.engine = provisioning.New(provisioning.Config{
		IDScope: scope, Store: w.db.Provisioning(), Authority: other.authority, Box: w.box, Now: w.now,
		Log: slog.New(slog.DiscardHandler), Allocator: &w.webhook, LocalWebhooks: true,
	})
	return &other
}

// issuers are the root and the active issuing CA.
func (w *world) issuers() (root, active ca.Issuer) {
	w.t.Helper()
	list, err := w.authority.Issuers(w.ctx)
	w.must(err)
	for _, i := range list {
		switch {
		case i.Role == ca.RoleRoot:
			root = i
		case i.State == ca.IssuerActive:
			active = i
		}
	}
	return root, active
}

// successor prepares and promotes the next issuing CA.
func (w *world) successor() ca.Issuer {
	w.t.Helper()
	root, _ := w.issuers()
	next, err := w.authority.CreateIssuing(w.ctx, "operator:test", root.ID, ca.IssuingRequest{Name: "Next Issuing"})
	w.must(err)
	next, err = w.authority.Promote(w.ctx, "operator:test", next.ID, ca.Promotion{})
	w.must(err)
	w.check()
	return next
}

func (w *world) signedBy(leaf *x509.Certificate, i ca.Issuer) {
	w.t.Helper()
	c, err := x509.ParseCertificate(i.Certificate)
	w.must(err)
	if err := leaf.CheckSignatureFrom(c); err != nil {
		w.t.Errorf("signed by %s, not %s: %v", leaf.Issuer, i.Name, err)
	}
}

func outsider(w *world) provisioning.Attempt {
	f := testkit.Chain(w.t, "root > mid > d1")
	w.anchor(f.Get("root"), true)
	w.group("g", f.Get("mid"))
	w.pass(time.Minute)
	return w.presenting("d1", f.Get("d1").Chain()...)
}

func TestLeavesOfTheFormerIssuerRenewWithTheNext(t *testing.T) { // H13
	w := newWorld(t)
	device := outsider(w)
	leaf, err := w.enroll(device)
	w.must(err)
	_, former := w.issuers()
	w.signedBy(leaf, former)
	next := w.successor()
	w.assigned(w.presenting("d1", leaf))
	renewed, err := w.enroll(w.presenting("d1", leaf))
	w.must(err)
	w.signedBy(renewed, next)

	w.pass(100 * 24 * time.Hour)
	w.must(w.authority.SweepIssuers(w.ctx))
	list, err := w.authority.Issuers(w.ctx)
	w.must(err)
	for _, i := range list {
		if i.ID == former.ID && i.State != ca.IssuerRetired {
			t.Errorf("the former issuer is %s", i.State)
		}
	}
	w.check()
}

func TestAReplicaIssuesWithTheIssuerThatAnotherPromoted(t *testing.T) {
	w := newWorld(t)
	late := w.replica()
	device := outsider(w)
	next := w.successor()
	leaf, err := late.enroll(device)
	w.must(err)
	late.signedBy(leaf, next)
	again, err := w.replica().enroll(w.presenting("d1", leaf))
	w.must(err)
	w.signedBy(again, next)
}

func TestARetryOnAReplicaIsAnsweredWithTheWholeChain(t *testing.T) {
	w := newWorld(t)
	late := w.replica()
	device := outsider(w)
	w.successor()
	csr := testkit.CSR(t, testkit.NewKey(t, "p256"), "d1")
	first, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: device, CSR: csr})
	w.must(err)
	retried, err := late.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: device, CSR: csr})
	w.must(err)
	if len(first.Chain) != 3 || len(retried.Chain) != 3 || string(first.Chain[0]) != string(retried.Chain[0]) {
		t.Errorf("chains of %d and %d", len(first.Chain), len(retried.Chain))
	}
}

func TestALeafOfARevokedIssuerIsRefused(t *testing.T) {
	w := newWorld(t)
	late := w.replica()
	device := outsider(w)
	csr := testkit.CSR(t, testkit.NewKey(t, "p256"), "d1")
	op, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: device, CSR: csr})
	w.must(err)
	leaf, err := x509.ParseCertificate(op.Chain[0])
	w.must(err)
	_, active := w.issuers()
	issuing, err := x509.ParseCertificate(active.Certificate)
	w.must(err)
	pinned := &testkit.Entity{Cert: leaf}
	w.assigned(w.presenting("d1", leaf))
	late.assigned(w.presenting("d1", leaf))

	_, err = w.authority.RevokeIssuer(w.ctx, "operator:test", active.ID, ca.CACompromise)
	w.must(err)
	for _, at := range []*world{w, late} { // at once, whether it has heard of it or not
		at.refused(w.presenting("d1", leaf), "issuer-revoked")
		at.refused(w.presenting("d1", leaf, issuing), "issuer-revoked")
		_, err := at.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: w.presenting("d1", leaf), CSR: csr, Renewal: true})
		if fault.RuleOf(err) != "issuer-revoked" {
			t.Errorf("a renewal: %v", err)
		}
		if _, err := at.enroll(device); fault.RuleOf(err) != "no-active-issuer" {
			t.Errorf("a new CSR, with nobody to sign: %v", err)
		}
	}
	root, _ := w.issuers()
	next, err := w.authority.CreateIssuing(w.ctx, "operator:test", root.ID, ca.IssuingRequest{Name: "After the breach"})
	w.must(err)
	w.must(late.authority.SweepIssuers(w.ctx))
	fresh, err := late.enroll(device)
	w.must(err)
	w.signedBy(fresh, next)
	w.individual("d1", pinned, nil)
	w.refused(w.presenting("d1", leaf), "issuer-revoked")
	storetest.Check(t, w.db)
}

func TestARetryIsNotAnsweredWithTheCertificateOfARevokedIssuer(t *testing.T) {
	w := newWorld(t)
	device := outsider(w)
	r := provisioning.RegisterRequest{Attempt: device, CSR: testkit.CSR(t, testkit.NewKey(t, "p256"), "d1")}
	_, err := w.engine.Register(w.ctx, r)
	w.must(err)
	_, active := w.issuers()
	_, err = w.authority.RevokeIssuer(w.ctx, "operator:test", active.ID, ca.CACompromise)
	w.must(err)
	if _, err := w.engine.Register(w.ctx, r); fault.RuleOf(err) != "issuer-revoked" {
		t.Errorf("got %v", err)
	}
	storetest.Check(t, w.db)
}

func TestTheLongestCertificateIsTheLongestThatATemplateMayChoose(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.profile(func(p *policies.Profile) { p.Lifetime, p.MaxLifetime = 48*time.Hour, 96*time.Hour })
	longest, err := w.engine.Lifetimes(w.ctx)
	w.must(err)
	if got := longest("default"); got != 96*time.Hour {
		t.Errorf("the longest lives %s", got)
	}
}
func TestWhatARevokedIssuerSignsOffTheRecordIsRefused(t *testing.T) {
	for name, below := range map[string]bool{"a leaf of its own, naming another key": false, "a CA below its root, and a leaf of that": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			root, active := w.issuers()
			stolen := active
			if below {
				stolen = root
			}
			thief := w.thief(stolen)
			thief.Cert.SubjectKeyId = []byte("another key") // what is named as the key that signed
			if below {
				thief = thief.Issue(t, "evil", testkit.AsCA())
			}
			leaf := thief.Issue(t, "d1")
			w.trustOwn(root)
			sent := append(leaf.Chain(), w.entity(active).Cert)
			w.pass(time.Minute)
			if below {
				w.assigned(w.presenting("d1", sent...)) // the anchor vouches for it until then
			} else {
				w.refused(w.presenting("d1", sent...), "certificate-not-on-record")
			}
			_, err := w.authority.RevokeIssuer(w.ctx, "operator:test", stolen.ID, ca.CACompromise)
			w.must(err)
			if below {
				w.refused(w.presenting("d1", sent...), "issuer-revoked")
			} else {
				w.refused(w.presenting("d1", sent...), "certificate-not-on-record")
			}
		})
	}
}

// trustOwn makes a root of ours a verified anchor with a group.
func (w *world) trustOwn(root ca.Issuer) {
	w.t.Helper()
	top := w.thief(root)
	_, err := w.engine.UploadAnchor(w.ctx, "operator:test", "ours", top.PEM(), false, provisioning.Precondition{})
	w.must(err)
	a, err := w.engine.NewVerificationCode(w.ctx, "operator:test", "ours", provisioning.Precondition{})
	w.must(err)
	_, err = w.engine.ProveAnchor(w.ctx, "operator:test", "ours", top.Prove(w.t, a.Record().Code).Raw, provisioning.Precondition{})
	w.must(err)
	reference := provisioning.Attestation{Role: provisioning.RoleCARef}
	reference.Slots[0].Anchor = "ours"
	w.put(provisioning.Group, "g", reference)
}

// entity is an issuer's certificate; thief has its key too.
func (w *world) entity(i ca.Issuer) *testkit.Entity {
	w.t.Helper()
	c, err := x509.ParseCertificate(i.Certificate)
	w.must(err)
	return &testkit.Entity{Cert: c}
}

func (w *world) thief(i ca.Issuer) *testkit.Entity {
	w.t.Helper()
	e := w.entity(i)
	key, err := w.folder.Open(w.ctx, i.KeyURI)
	w.must(err)
	e.Key = key
	return e
}

package ca_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// elsewhere is a small real CA of somebody else's, with ways to break it.
type elsewhere struct {
	root, signer       *x509.Certificate
	rootKey, signerKey crypto.Signer

	change  func(*x509.Certificate) // what it makes of a request
	parent  *x509.Certificate       // signs instead of signer
	public  crypto.PublicKey        // of somebody else
	wait    time.Duration           // before it answers
	fail    error                   // instead of an answer
	deaf    error                   // instead of a revocation
	made    []*x509.Certificate     // what it has signed, given or not
	revoked []ca.UpstreamRevocation
}

func newElsewhere(t testing.TB) *elsewhere {
	t.Helper()
	e := &elsewhere{rootKey: deviceKey(t, policies.KeyECP256), signerKey: deviceKey(t, policies.KeyECP256)}
	e.root = e.certify(t, "Elsewhere Root", nil, e.rootKey)
	e.signer = e.certify(t, "Elsewhere Issuing", e.root, e.signerKey)
	return e
}

func (e *elsewhere) certify(t testing.TB, name string, parent *x509.Certificate, key crypto.Signer) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: noon.Add(-time.Hour), NotAfter: noon.AddDate(5, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte(name),
	}
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), e.rootKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (e *elsewhere) Sign(_ context.Context, r ca.UpstreamRequest) (*x509.Certificate, error) {
	if errors.Is(e.fail, ca.ErrNotSigned) {
		return nil, e.fail
	}
	t := *r.Template
	t.SerialNumber = big.NewInt(int64(0x4d00 + len(e.made)))
	if e.change != nil {
		e.change(&t)
	}
	public, parent := r.CSR.PublicKey, e.signer
	if e.public != nil {
		public = e.public
	}
	key := e.signerKey
	if e.parent != nil {
		parent, key = e.parent, e.rootKey
	}
	der, err := x509.CreateCertificate(rand.Reader, &t, parent, public, key)
	if err != nil {
		panic(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	e.made = append(e.made, c)
	time.Sleep(e.wait) // in a bubble of synctest
	return c, e.fail
}

func (e *elsewhere) Revoke(_ context.Context, r ca.UpstreamRevocation) error {
	if e.deaf != nil {
		return e.deaf
	}
	e.revoked = append(e.revoked, r)
	return nil
}

func (e *elsewhere) Chain(context.Context) ([]*x509.Certificate, error) {
	return []*x509.Certificate{e.signer, e.root}, nil
}

// newRegistrationAuthority is a world whose one issuer is elsewhere.
func newRegistrationAuthority(t testing.TB) (*world, *elsewhere, ca.Issuer) {
	t.Helper()
	w, e := newWorld(t), newElsewhere(t)
	w.Authority = w.inFrontOf(t, e)
	issuer, err := w.Adopt(t.Context(), operator, ca.AdoptRequest{Upstream: "factory"})
	if err != nil {
		t.Fatal(err)
	}
	return w, e, issuer
}

func (w *world) inFrontOf(t testing.TB, e *elsewhere) *ca.Authority {
	t.Helper()
	a, err := ca.New(t.Context(), w.store, w.keys, ca.Config{PKIURL: "http://pki.example/", Upstreams: map[string]ca.Upstream{"factory": e}}, func() time.Time { return w.now })
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (w *world) askUpstream(t testing.TB, key crypto.Signer) (ca.Unrecorded, error) {
	t.Helper()
	return w.Issue(t.Context(), identity(t, "press-1"), request(t, "press-1", key), policies.DefaultProfile(), verify.Thumbprint{}, w.now)
}

func (w *world) sweepUpstreams(t testing.TB) {
	t.Helper()
	if err := w.SweepUpstreams(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (w *world) wantIntent(t testing.TB, state ca.IntentState, known bool) ca.Intent {
	t.Helper()
	list := w.store.read().upstream.intents
	if len(list) != 1 || list[0].State != state || (list[0].Serial != "") != known {
		t.Fatalf("the intents are %+v, want one that is %s, serial known: %v", list, state, known)
	}
	return list[0]
}

func TestAnUpstreamIsAdopted(t *testing.T) {
	w, e, issuer := newRegistrationAuthority(t)
	if issuer.Upstream != "factory" || issuer.KeyURI != "" || issuer.State != ca.IssuerActive {
		t.Errorf("the issuer is %+v", issuer)
	}
	if chain := w.Chain(issuer.ID); len(chain) != 2 || string(chain[1]) != string(e.root.Raw) {
		t.Errorf("a chain of %d, want the upstream's", len(chain))
	}
	if _, err := w.Adopt(t.Context(), operator, ca.AdoptRequest{Upstream: "factory"}); fault.RuleOf(err) != "upstream-adopted" {
		t.Errorf("twice: %v", err)
	}
	other, err := w.Adopt(t.Context(), operator, ca.AdoptRequest{Upstream: "factory", Profile: "line-2"})
	if err != nil || other.State != ca.IssuerActive || len(w.store.read().issuers) != 3 {
		t.Errorf("for another profile: %+v, %v, %d issuers, want the external root shared", other, err, len(w.store.read().issuers))
	}
	if _, err := w.Adopt(t.Context(), operator, ca.AdoptRequest{Upstream: "nowhere"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("an unknown upstream: %v", err)
	}
	wantActions(t, w.store, audit.IssuerCreated, audit.IssuerCreated, audit.IssuerCreated)
}

func TestAChainThatCannotBeUsedIsNotAdopted(t *testing.T) {
	for name, breakIt := range map[string]func(*testing.T, *elsewhere){
		"the links do not fit": func(t *testing.T, e *elsewhere) { e.root = newElsewhere(t).root },
		"the one that signs is no CA": func(t *testing.T, e *elsewhere) {
			w, _, _ := newHierarchy(t, "")
			_, e.signer = w.enroll(t, "press-1", deviceKey(t, "EC-P256"), policies.DefaultProfile())
		},
		"it does not end in a root":      func(_ *testing.T, e *elsewhere) { e.root = e.signer },
		"the one that signs has expired": func(t *testing.T, e *elsewhere) { e.signer.NotAfter = noon.Add(-time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			w, e := newWorld(t), newElsewhere(t)
			breakIt(t, e)
			if _, err := w.inFrontOf(t, e).Adopt(t.Context(), operator, ca.AdoptRequest{Upstream: "factory"}); fault.RuleOf(err) != "upstream-chain" {
				t.Errorf("%v, want upstream-chain", err)
			}
			wantActions(t, w.store)
		})
	}
}

func TestAnIntentIsOnRecordBeforeTheUpstreamIsAsked(t *testing.T) {
	w, e, _ := newRegistrationAuthority(t)
	lost := errors.New("disk on fire")
	w.store.beforeCommit = func() error { return lost }
	if _, err := w.askUpstream(t, deviceKey(t, policies.KeyECP256)); !errors.Is(err, lost) || len(e.made) != 0 {
		t.Errorf("%v, and the upstream has signed %d times", err, len(e.made))
	}
	w.store.beforeCommit = nil
	u, err := w.askUpstream(t, deviceKey(t, policies.KeyECP256))
	if err != nil {
		t.Fatal(err)
	}
	w.wantIntent(t, ca.IntentOpen, true)
	if _, err := w.record(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	w.wantIntent(t, ca.IntentIssued, true)
	if err := w.Abandon(t.Context(), u, "a mistake"); err != nil {
		t.Fatal(err)
	}
	w.wantIntent(t, ca.IntentIssued, true) // what is on record stays
	w.sweepUpstreams(t)
	if len(e.revoked) != 0 {
		t.Errorf("revoked: %+v", e.revoked)
	}
}

// A person may have typed the challenge password of a request.
func TestARequestWithAChallengePasswordIsNotKept(t *testing.T) {
	for name, attribute := range map[string]string{"without one": "", "with one": "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x07\x31\x08\x0c\x06hunter"} {
		t.Run(name, func(t *testing.T) {
			w, _, _ := newRegistrationAuthority(t)
			csr := request(t, "press-1", deviceKey(t, policies.KeyECP256))
			csr.Raw = append(slices.Clone(csr.Raw), attribute...)
			if _, err := w.Issue(t.Context(), identity(t, "press-1"), csr, policies.DefaultProfile(), verify.Thumbprint{}, w.now); err != nil {
				t.Fatal(err)
			}
			if kept := w.wantIntent(t, ca.IntentOpen, true).CSR; (len(kept) == 0) != (attribute != "") {
				t.Errorf("the intent has %d octets of the request", len(kept))
			}
		})
	}
}

func TestEveryCommitAfterTheSignatureMayFail(t *testing.T) {
	for name, tt := range map[string]struct {
		failing int // which commit fails: 1 the answer, 2 the recording one
		kept    bool
		revoked bool
	}{
		"the answer is not noted, and lost":             {1, false, true},
		"the answer is not noted, but was kept":         {1, true, true},
		"the certificate is not recorded, and lost":     {2, false, true},
		"the certificate is not recorded, but was kept": {2, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			w, e, _ := newRegistrationAuthority(t)
			commits := -1 // the intent's own is not counted
			fail := func() error {
				if commits++; commits == tt.failing {
					return errors.New("injected")
				}
				return nil
			}
			if tt.kept {
				w.store.afterCommit = fail
			} else {
				w.store.beforeCommit = fail
			}
			u, err := w.askUpstream(t, deviceKey(t, policies.KeyECP256))
			if (err == nil) != (tt.failing == 2) {
				t.Fatal(err)
			}
			if err == nil {
				if _, err := w.record(t.Context(), u); err == nil {
					t.Fatal("it was recorded")
				}
				if err := w.Abandon(t.Context(), u, "it was not recorded"); err != nil {
					t.Fatal(err)
				}
			}
			w.now = w.now.Add(time.Hour)
			w.sweepUpstreams(t)
			if tt.revoked {
				w.wantIntent(t, ca.IntentRevoked, true)
			} else {
				w.wantIntent(t, ca.IntentIssued, true)
			}
			if (len(e.revoked) == 1) != tt.revoked {
				t.Errorf("revoked at the upstream: %+v", e.revoked)
			}
		})
	}
}

func TestAnUpstreamThatDoesNotAnswer(t *testing.T) {
	for name, tt := range map[string]struct {
		fail  error
		wait  time.Duration
		rule  string
		state ca.IntentState // in the end
		known bool
	}{
		"refuses: there is nothing to tidy up":         {errors.Join(ca.ErrNotSigned, errors.New("no such role")), 0, "upstream-refused", ca.IntentRefused, false},
		"breaks off: nobody knows":                     {errors.New("connection reset"), 0, "upstream-unanswered", ca.IntentOrphaned, false},
		"answers too late: its certificate is revoked": {nil, time.Minute, "upstream-unanswered", ca.IntentRevoked, true},
		"breaks off too late: nobody knows":            {errors.New("connection reset"), time.Minute, "upstream-unanswered", ca.IntentOrphaned, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, e, _ := newRegistrationAuthority(t)
				e.fail, e.wait = tt.fail, tt.wait
				_, err := w.askUpstream(t, deviceKey(t, policies.KeyECP256))
				if fault.RuleOf(err) != tt.rule || !fault.Is(err, fault.Unavailable) {
					t.Fatalf("%v, want unavailable, %s", err, tt.rule)
				}
				time.Sleep(2 * tt.wait)
				synctest.Wait()
				w.now = w.now.Add(24 * time.Hour)
				w.sweepUpstreams(t)
				w.wantIntent(t, tt.state, tt.known)
			})
		})
	}
}

func TestWhatAnUpstreamSignedIsCheckedAsOurs(t *testing.T) {
	other := deviceKey(t, policies.KeyECP256)
	for name, tt := range map[string]struct {
		breakIt func(*elsewhere)
		why     string
	}{
		"another key":            {func(e *elsewhere) { e.public = other.Public() }, "another key"},
		"another CA":             {func(e *elsewhere) { e.parent = e.root }, "not signed by the issuer"},
		"another device":         {changed(func(c *x509.Certificate) { c.Subject.CommonName = "press-2" }), "its subject"},
		"an organization":        {changed(func(c *x509.Certificate) { c.Subject.Organization = []string{"system:masters"} }), "its subject"},
		"another name":           {changed(func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "press-2") }), "names that were not asked for"},
		"an address":             {changed(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1).To4()} }), "names that were not asked for"},
		"a name of another kind": {changed(withOtherName), "names that were not asked for"},
		"a CA":                   {changed(func(c *x509.Certificate) { c.IsCA = true }), "powers"},
		"a key that signs CRLs":  {changed(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign }), "powers"},
		"more purposes":          {changed(func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) }), "purposes"},
		"a purpose nobody knows": {changed(func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3}} }), "purposes"},
		"no purpose":             {changed(func(c *x509.Certificate) { c.ExtKeyUsage = nil }), "every purpose"},
		"no signature":           {changed(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }), "digitalSignature"},
		"a longer life":          {changed(func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(time.Hour) }), "longer"},
		"an earlier beginning":   {changed(func(c *x509.Certificate) { c.NotBefore = c.NotBefore.Add(-time.Hour) }), "longer"},
		"a later beginning":      {changed(func(c *x509.Certificate) { c.NotBefore = noon.Add(time.Hour) }), "not valid yet"},
		"an end that has passed": {changed(func(c *x509.Certificate) { c.NotAfter = noon }), "expired"},
		"a critical extension": {changed(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		}), "critical"},
		"what the linter refuses": {changed(func(c *x509.Certificate) {
			c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.net"}, true
		}), "a rule"},
	} {
		t.Run(name, func(t *testing.T) {
			w, e, _ := newRegistrationAuthority(t)
			tt.breakIt(e)
			_, err := w.askUpstream(t, deviceKey(t, policies.KeyECP256))
			if fault.RuleOf(err) != "upstream-certificate" || !strings.Contains(err.Error(), tt.why) {
				t.Fatalf("%v, want upstream-certificate: …%s…", err, tt.why)
			}
			i := w.wantIntent(t, ca.IntentRevoked, true)
			if len(e.revoked) != 1 || e.revoked[0].Serial != i.Serial || string(e.revoked[0].Certificate) != string(e.made[0].Raw) {
				t.Errorf("revoked at the upstream: %+v", e.revoked)
			}
		})
	}
	t.Run("a shorter life is fine", func(t *testing.T) {
		w, e, _ := newRegistrationAuthority(t)
		changed(func(c *x509.Certificate) { c.NotAfter = noon.Add(24 * time.Hour) })(e)
		if _, err := w.askUpstream(t, deviceKey(t, policies.KeyECP256)); err != nil {
			t.Error(err)
		}
	})
}

func changed(f func(*x509.Certificate)) func(*elsewhere) {
	return func(e *elsewhere) { e.change = f }
}

// withOtherName gives a certificate a user principal name beside its host name.
func withOtherName(c *x509.Certificate) {
	type otherName struct {
		ID    asn1.ObjectIdentifier
		Value string `asn1:"explicit,tag:0,utf8"`
	}
	upn, err := asn1.MarshalWithParams(otherName{asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}, "root"}, "tag:0")
	if err != nil {
		panic(err)
	}
	names, err := asn1.Marshal([]asn1.RawValue{{Class: 2, Tag: 2, Bytes: []byte(c.DNSNames[0])}, {FullBytes: upn}})
	if err != nil {
		panic(err)
	}
	c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: names}}
}

func TestASerialGivenTwiceRevokesNothing(t *testing.T) {
	w, e, _ := newRegistrationAuthority(t)
	changed(func(c *x509.Certificate) { c.SerialNumber = big.NewInt(7) })(e)
	first, err := w.askUpstream(t, deviceKey(t, policies.KeyECP256))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.record(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	second, err := w.askUpstream(t, deviceKey(t, policies.KeyECP256))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.record(t.Context(), second); fault.RuleOf(err) != "serial-taken" {
		t.Fatalf("%v, want serial-taken", err)
	}
	if err := w.Abandon(t.Context(), second, "serial-taken"); err != nil {
		t.Fatal(err)
	}
	w.sweepUpstreams(t)
	if len(e.revoked) != 0 {
		t.Errorf("revoked at the upstream: %+v: it is the first device's", e.revoked)
	}
	orphan := w.store.read().upstream.intents[1]
	if orphan.State != ca.IntentOrphaned {
		t.Errorf("the second intent is %+v", orphan)
	}
	if i, err := w.ResolveIntent(t.Context(), operator, orphan.ID, ca.Resolution{Note: "asked the vendor"}); err != nil || i.State != ca.IntentRefused {
		t.Errorf("resolved: %+v, %v", i, err)
	}
}

func TestAnOperatorResolvesAnOrphan(t *testing.T) {
	orphaned := func(t *testing.T) (*world, *elsewhere, ca.Intent) {
		w, e, _ := newRegistrationAuthority(t)
		e.fail = errors.New("connection reset")
		if _, err := w.askUpstream(t, deviceKey(t, policies.KeyECP256)); err == nil {
			t.Fatal("it was signed")
		}
		return w, e, w.wantIntent(t, ca.IntentOrphaned, false)
	}
	t.Run("with the serial number: it is revoked there", func(t *testing.T) {
		w, e, i := orphaned(t)
		if _, err := w.ResolveIntent(t.Context(), operator, i.ID, ca.Resolution{Serial: "4d00", Note: "in its log"}); err != nil {
			t.Fatal(err)
		}
		w.sweepUpstreams(t)
		w.wantIntent(t, ca.IntentRevoked, true)
		if len(e.revoked) != 1 || e.revoked[0].Serial != "4d00" {
			t.Errorf("revoked at the upstream: %+v", e.revoked)
		}
		if _, err := w.ResolveIntent(t.Context(), operator, i.ID, ca.Resolution{Note: "again"}); fault.RuleOf(err) != "intent-not-orphaned" {
			t.Errorf("again: %v", err)
		}
		wantActions(t, w.store, audit.IssuerCreated, audit.IssuerCreated, audit.UpstreamOrphaned, audit.UpstreamOrphaned, audit.UpstreamResolved, audit.UpstreamRevoked)
	})
	t.Run("with the word that there is none: it is on record whose", func(t *testing.T) {
		w, e, i := orphaned(t)
		if _, err := w.ResolveIntent(t.Context(), operator, i.ID, ca.Resolution{}); fault.RuleOf(err) != "intent-note" {
			t.Errorf("without a note: %v", err)
		}
		if _, err := w.ResolveIntent(t.Context(), operator, i.ID, ca.Resolution{Note: "not in its log"}); err != nil {
			t.Fatal(err)
		}
		w.sweepUpstreams(t)
		w.wantIntent(t, ca.IntentRefused, false)
		if len(e.revoked) != 0 {
			t.Errorf("revoked at the upstream: %+v", e.revoked)
		}
	})
}

func TestARevocationIsToldUntilItIsConfirmed(t *testing.T) {
	w, e, issuer := newRegistrationAuthority(t)
	u, err := w.askUpstream(t, deviceKey(t, policies.KeyECP256))
	if err != nil {
		t.Fatal(err)
	}
	c, err := w.record(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	e.deaf = errors.New("connection refused")
	if err := w.revoke(t.Context(), c, ca.KeyCompromise); err != nil {
		t.Fatal(err)
	}
	tries := 0
	for range 24 * 60 {
		w.now = w.now.Add(time.Minute)
		w.sweepUpstreams(t)
		tries = w.store.read().revocation(issuer.ID, c.Serial).Tries
	}
	if tries < 24 || tries > 40 {
		t.Errorf("%d tries in a day, want one an hour after a quick beginning", tries)
	}
	if b, err := w.Backlog(t.Context()); err != nil || b.Revocations != 1 {
		t.Errorf("the backlog is %+v, %v", b, err)
	}
	e.deaf = nil
	w.now = w.now.Add(time.Hour)
	for range 3 {
		w.sweepUpstreams(t)
	}
	if len(e.revoked) != 1 || e.revoked[0].Reason != ca.KeyCompromise || string(e.revoked[0].Certificate) != string(c.DER) {
		t.Errorf("revoked at the upstream: %+v", e.revoked)
	}
}

func TestAnUpstreamThatIsNotConfigured(t *testing.T) {
	w, _, _ := newRegistrationAuthority(t)
	w.Authority = w.replica(t)
	if _, err := w.askUpstream(t, deviceKey(t, policies.KeyECP256)); fault.RuleOf(err) != "upstream-missing" || !fault.Is(err, fault.Unavailable) {
		t.Errorf("%v, want unavailable, upstream-missing", err)
	}
	if list := w.store.read().upstream.intents; len(list) != 0 {
		t.Errorf("intents: %+v", list)
	}
}

func TestAnUpstreamTakesOverFromAnIssuerOfOurs(t *testing.T) {
	w, _, own := newHierarchy(t, "")
	e := newElsewhere(t)
	w.Authority = w.inFrontOf(t, e)
	next, err := w.Adopt(t.Context(), operator, ca.AdoptRequest{Upstream: "factory"})
	if err != nil || next.State != ca.IssuerPrepared || next.Slot == own.Slot {
		t.Fatalf("beside %+v: %+v, %v", own, next, err)
	}
	w.promote(t, next.ID)
	if w.state(own.ID) != ca.IssuerRetiring || w.state(next.ID) != ca.IssuerActive {
		t.Errorf("ours is %s, the upstream's %s", w.state(own.ID), w.state(next.ID))
	}
	u, err := w.askUpstream(t, deviceKey(t, policies.KeyECP256))
	if err != nil || u.Issuer() != next.ID {
		t.Errorf("%s signs, %v", u.Issuer(), err)
	}
}

func TestARevokedUpstreamIsRevokedForEveryProfileAndStaysSo(t *testing.T) {
	w, _, one := newRegistrationAuthority(t)
	two, err := w.Adopt(t.Context(), operator, ca.AdoptRequest{Upstream: "factory", Profile: "line-2"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := w.RevokeIssuer(t.Context(), operator, one.ID, ca.Superseded)
	if err != nil || len(got.Below) != 1 || w.state(two.ID) != ca.IssuerRevoked {
		t.Errorf("%+v, %v: the same CA signs for another profile: %s", got, err, w.state(two.ID))
	}
	if i, err := w.Adopt(t.Context(), operator, ca.AdoptRequest{Upstream: "factory"}); fault.RuleOf(err) != "issuer-revoked" {
		t.Errorf("adopted again: %+v, %v", i, err)
	}
}

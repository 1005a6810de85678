package verify_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/verify"
)

func extension(t testing.TB, id int, critical bool, value []byte) pkix.Extension {
	t.Helper()
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, id}, Critical: critical, Value: value}
}

func strange(c *x509.Certificate) {
	c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
}

// directoryConstraint is a NameConstraints extension with one directoryName: O = name,
// permitted (0) or excluded (1).
func directoryConstraint(t testing.TB, tag byte, name string) []byte {
	t.Helper()
	wrap := func(tag byte, content []byte) []byte { return append([]byte{tag, byte(len(content))}, content...) }
	dn, err := asn1.Marshal(pkix.Name{Organization: []string{name}}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	return wrap(0x30, wrap(0xa0|tag, wrap(0x30, wrap(0xa4, dn))))
}

// Protocol contract 2.4, scenarios A13 and C3: what a leaf must be, whoever signed it.
func TestX509AsksTheLeaf(t *testing.T) {
	cn := asn1.ObjectIdentifier{2, 5, 4, 3}
	for _, tc := range []struct {
		name string
		opts []testkit.Option
		rule string
	}{
		{"an ordinary leaf", nil, ""},
		{"its CN in another case", []testkit.Option{testkit.WithCommonName("DEV-1")}, ""},
		{"no extended key usage", []testkit.Option{testkit.WithPurposes()}, ""},
		{"clientAuth among others", []testkit.Option{testkit.WithPurposes(x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)}, ""},
		{"no key usage", []testkit.Option{testkit.WithTemplate(func(c *x509.Certificate) { c.KeyUsage = 0 })}, ""},
		{"keyAgreement in place of digitalSignature", []testkit.Option{testkit.WithTemplate(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement })}, ""},

		{"another device's CN", []testkit.Option{testkit.WithCommonName("dev-2")}, "leaf-names-other-device"},
		{"a CN that only begins alike", []testkit.Option{testkit.WithCommonName("dev-11")}, "leaf-names-other-device"},
		{"a CN with a space behind", []testkit.Option{testkit.WithCommonName("dev-1 ")}, "leaf-names-other-device"},
		{"no CN", []testkit.Option{testkit.WithCommonName("")}, "leaf-names-other-device"},
		{"the id as an alternative name only", []testkit.Option{testkit.WithCommonName("x"), testkit.WithTemplate(func(c *x509.Certificate) { c.DNSNames = []string{"dev-1"} })}, "leaf-names-other-device"},
		{"two CNs, the right one first", []testkit.Option{testkit.WithTemplate(func(c *x509.Certificate) {
			c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: cn, Value: "dev-1"}, {Type: cn, Value: "dev-2"}}
		})}, "leaf-names-other-device"},
		{"two CNs, the right one last", []testkit.Option{testkit.WithTemplate(func(c *x509.Certificate) {
			c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: cn, Value: "dev-2"}, {Type: cn, Value: "dev-1"}}
		})}, "leaf-names-other-device"},
		{"A13: CA:TRUE, certGen's Edge CA", []testkit.Option{testkit.AsCA()}, "leaf-is-ca"},
		{"A13: CA:TRUE with clientAuth", []testkit.Option{testkit.AsCA(), testkit.WithPurposes(x509.ExtKeyUsageClientAuth)}, "leaf-is-ca"},
		{"keyCertSign without CA:TRUE", []testkit.Option{testkit.WithTemplate(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign })}, "leaf-is-ca"},
		{"serverAuth alone", []testkit.Option{testkit.WithPurposes(x509.ExtKeyUsageServerAuth)}, "leaf-eku"},
		{"any purpose but not this one", []testkit.Option{testkit.WithPurposes(x509.ExtKeyUsageAny)}, "leaf-eku"},
		{"an unknown purpose alone", []testkit.Option{testkit.WithPurposes(), testkit.WithTemplate(func(c *x509.Certificate) {
			c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3}}
		})}, "leaf-eku"},
		{"key usage for encryption only", []testkit.Option{testkit.WithTemplate(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })}, "leaf-key-usage"},
		{"expired yesterday", []testkit.Option{testkit.WithDates(testkit.Now().AddDate(-1, 0, 0), testkit.Now().AddDate(0, 0, -1))}, "leaf-expired"},
		{"an extended key usage without a purpose", []testkit.Option{testkit.WithPurposes(), testkit.WithExtension(extension(t, 37, false, []byte{0x30, 0}))}, "leaf-eku"},
		{"valid to this second", []testkit.Option{testkit.WithDates(testkit.Now().AddDate(-1, 0, 0), testkit.Now())}, ""},
		{"valid from this second", []testkit.Option{testkit.WithDates(testkit.Now(), testkit.Now().AddDate(1, 0, 0))}, ""},
		{"valid from the next second", []testkit.Option{testkit.WithDates(testkit.Now().Add(time.Second), testkit.Now().AddDate(1, 0, 0))}, "leaf-not-yet-valid"},
	} {
		root := testkit.Root(t, "root")
		t.Run(tc.name+", below an anchor", func(t *testing.T) {
			leaf := root.Issue(t, "dev-1", tc.opts...)
			who, err := verify.X509(verify.X509Evidence{ID: mustID(t, "dev-1"), Chain: mustChain(t, leaf.Cert)},
				verify.Anchors{Verified: []verify.Link{verify.NewLink(root.Cert)}}, testkit.Now())
			checkOutcome(t, who, err, tc.rule)
			if err == nil && (who.ID() != mustID(t, "dev-1") || who.Mechanism() != verify.MechanismX509 || len(who.Path()) != 2 || !who.At().Equal(testkit.Now())) {
				t.Errorf("got %+v", who)
			}
		})
		t.Run(tc.name+", pinned", func(t *testing.T) {
			leaf := verify.NewLink(testkit.SelfSigned(t, "dev-1", tc.opts...).Cert)
			who, err := verify.X509(verify.X509Evidence{ID: mustID(t, "dev-1"), Chain: verify.Chain{leaf}},
				verify.Anchors{Pinned: []verify.Thumbprint{leaf.Thumbprint}}, testkit.Now())
			checkOutcome(t, who, err, tc.rule)
			if err == nil && (len(who.Path()) != 1 || who.Path()[0].Thumbprint != leaf.Thumbprint) {
				t.Errorf("got %+v", who)
			}
		})
	}
}

func TestDatesCountInWholeSeconds(t *testing.T) {
	now := testkit.Now()
	root := testkit.Root(t, "root")
	leaf := root.Issue(t, "dev-1", testkit.WithDates(now.Add(-time.Hour), now)).Cert
	for at, rule := range map[time.Time]string{
		now.Add(999 * time.Millisecond): "", now.Add(time.Second): "leaf-expired",
		now.Add(-time.Hour): "", now.Add(-time.Hour - time.Millisecond): "leaf-not-yet-valid",
	} {
		if _, err := verify.CheckChain(mustChain(t, leaf), []verify.Link{verify.NewLink(root.Cert)}, at, nil); fault.RuleOf(err) != rule {
			t.Errorf("at %v: want rule %q, got %v", at, rule, err)
		}
	}
}

// Scenario C3.
func TestAPinnedLeafIsThatVeryCertificate(t *testing.T) {
	f := testkit.Chain(t, "root > dev-1; root > again [cn=dev-1, key=dev-1]; unknown > stranger [cn=dev-1]")
	pinned := verify.NewLink(f.Get("dev-1").Cert)
	other := verify.NewLink(testkit.SelfSigned(t, "dev-1").Cert)
	rootLink := verify.NewLink(f.Get("root").Cert)
	for _, tc := range []struct {
		name string
		sent []*x509.Certificate
		pins []verify.Thumbprint
		rule string
	}{
		{"the very certificate, primary", []*x509.Certificate{pinned.Cert}, []verify.Thumbprint{pinned.Thumbprint}, ""},
		{"the very certificate, secondary", []*x509.Certificate{pinned.Cert}, []verify.Thumbprint{other.Thumbprint, pinned.Thumbprint}, ""},
		{"with rubbish above it", []*x509.Certificate{pinned.Cert, other.Cert}, []verify.Thumbprint{pinned.Thumbprint}, ""},
		{"same CN and same key but other bytes", []*x509.Certificate{f.Get("again").Cert}, []verify.Thumbprint{pinned.Thumbprint}, "leaf-not-pinned"},
		{"a chain that ends in it", []*x509.Certificate{f.Get("again").Cert, pinned.Cert}, []verify.Thumbprint{pinned.Thumbprint}, "leaf-not-pinned"},
		{"a leaf below the pinned CA", []*x509.Certificate{pinned.Cert, rootLink.Cert}, []verify.Thumbprint{rootLink.Thumbprint}, "leaf-not-pinned"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			who, err := verify.X509(verify.X509Evidence{ID: mustID(t, "dev-1"), Chain: mustChain(t, tc.sent...)}, verify.Anchors{Pinned: tc.pins}, testkit.Now())
			checkOutcome(t, who, err, tc.rule)
		})
	}
	_, err := verify.X509(verify.X509Evidence{ID: mustID(t, "dev-1"), Chain: mustChain(t, f.Get("again").Cert)},
		verify.Anchors{Pinned: []verify.Thumbprint{pinned.Thumbprint}, Verified: []verify.Link{rootLink}}, testkit.Now())
	if fault.RuleOf(err) != "leaf-not-pinned" {
		t.Errorf("with pins, anchors do not count: %v", err)
	}
}

func TestX509NeedsAnchorsAnIDAndAChain(t *testing.T) {
	f := testkit.Chain(t, "root > dev-1")
	chain, root := mustChain(t, f.Leaf().Cert), verify.Anchors{Verified: anchors(f, "root")}
	for name, run := range map[string]func() (verify.Identity, error){
		"nobody's id": func() (verify.Identity, error) {
			return verify.X509(verify.X509Evidence{Chain: chain}, root, testkit.Now())
		},
		"no chain": func() (verify.Identity, error) {
			return verify.X509(verify.X509Evidence{ID: mustID(t, "dev-1")}, root, testkit.Now())
		},
		"no anchors": func() (verify.Identity, error) {
			return verify.X509(verify.X509Evidence{ID: mustID(t, "dev-1"), Chain: chain}, verify.Anchors{}, testkit.Now())
		},
	} {
		if who, err := run(); !fault.Is(err, fault.Unauthenticated) || !who.IsZero() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestACAForServersDoesNotVouchForDevices(t *testing.T) {
	f := testkit.Chain(t, "root > servers [eku=server] > dev-1; root > both [eku=server+client] > dev-2")
	for name, rule := range map[string]string{"dev-1": "chain-eku", "dev-2": ""} {
		chain := mustChain(t, f.Get(name).Chain()...)
		who, err := verify.X509(verify.X509Evidence{ID: mustID(t, name), Chain: chain}, verify.Anchors{Verified: anchors(f, "root")}, testkit.Now())
		checkOutcome(t, who, err, rule)
		if _, err := verify.CheckChain(chain, anchors(f, "root"), testkit.Now(), nil); err != nil {
			t.Errorf("%s: a check of the chain alone asks for no purpose: %v", name, err)
		}
	}
}

func TestAMemoRemembersNeitherDatesNorOtherQuestions(t *testing.T) {
	now := testkit.Now()
	root, stranger := testkit.Root(t, "root"), testkit.Root(t, "root")
	mid := root.Issue(t, "mid", testkit.AsCA(), testkit.WithDates(now.Add(-time.Hour), now.Add(time.Hour)))
	f := map[string]*testkit.Entity{"dev-1": mid.Issue(t, "dev-1"), "dev-2": mid.Issue(t, "dev-2")}
	memo := new(verify.Memo)
	ask := func(id string, anchor *testkit.Entity, at time.Time) error {
		_, err := verify.X509(verify.X509Evidence{ID: mustID(t, id), Chain: mustChain(t, f[id].Chain()...), Memo: memo},
			verify.Anchors{Verified: []verify.Link{verify.NewLink(anchor.Cert)}}, at)
		return err
	}
	for _, tc := range []struct {
		name   string
		id     string
		anchor *testkit.Entity
		at     time.Time
		rule   string
	}{
		{"at first", "dev-1", root, now, ""},
		{"again", "dev-1", root, now, ""},
		{"another device", "dev-2", root, now, ""},
		{"another anchor", "dev-1", stranger, now, "chain-bad-signature"},
		{"when the CA in the middle has expired", "dev-1", root, now.Add(2 * time.Hour), "chain-expired"},
		{"before it began", "dev-1", root, now.Add(-2 * time.Hour), "chain-not-yet-valid"},
		{"back in its time", "dev-1", root, now, ""},
	} {
		if err := ask(tc.id, tc.anchor, tc.at); fault.RuleOf(err) != tc.rule {
			t.Errorf("%s: want rule %q, got %v", tc.name, tc.rule, err)
		}
	}
}

func TestAMemoIsSafeAndBounded(t *testing.T) {
	f := testkit.Chain(t, "root")
	root := anchors(f, "root")
	memo := new(verify.Memo)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 20 {
				chain := verify.Chain{verify.NewLink(f.Get("root").Issue(t, "dev-1").Cert)}
				for range 2 {
					path, err := verify.CheckChain(chain, root, testkit.Now(), memo)
					if err != nil || len(path) != 2 {
						t.Errorf("%v", err)
						return
					}
					path[0] = verify.Link{} // the caller's own
				}
			}
		})
	}
	group.Wait()
}

func TestAnIdentitysPathIsItsCallersOwn(t *testing.T) {
	f := testkit.Chain(t, "root > dev-1")
	who, err := verify.X509(verify.X509Evidence{ID: mustID(t, "dev-1"), Chain: mustChain(t, f.Leaf().Cert)}, verify.Anchors{Verified: anchors(f, "root")}, testkit.Now())
	if err != nil {
		t.Fatal(err)
	}
	who.Path()[0] = verify.Link{}
	if who.Path()[0].Thumbprint.IsZero() {
		t.Error("the path can be changed from outside")
	}
	if !(verify.Identity{}).IsZero() || who.IsZero() {
		t.Error("IsZero is wrong")
	}
}

// One link costs about one ECDSA verification; on a kept connection next to nothing.
func BenchmarkX509(b *testing.B) {
	for _, bc := range []struct{ name, notation string }{
		{"one link", "root > dev-1"}, {"two links", "root > mid > dev-1"},
	} {
		f := testkit.Chain(b, bc.notation)
		ev := verify.X509Evidence{ID: mustID(b, "dev-1"), Chain: mustChain(b, f.Leaf().Chain()...)}
		roots := verify.Anchors{Verified: anchors(f, "root")}
		run := func(b *testing.B, ev verify.X509Evidence) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := verify.X509(ev, roots, testkit.Now()); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.Run("fresh connection, "+bc.name, func(b *testing.B) { run(b, ev) })
		kept := ev
		kept.Memo = new(verify.Memo)
		b.Run("kept connection, "+bc.name, func(b *testing.B) { run(b, kept) })
		b.Run("signatures alone, "+bc.name, func(b *testing.B) {
			path := append(f.Leaf().Chain(), f.Get("root").Cert)
			for b.Loop() {
				for i := range path[1:] {
					if err := path[i].CheckSignatureFrom(path[i+1]); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

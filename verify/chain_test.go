package verify_test

import (
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/verify"
)

func mustChain(t testing.TB, certs ...*x509.Certificate) verify.Chain {
	t.Helper()
	chain, err := verify.ReadChain(certs)
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

func anchors(f *testkit.Family, names ...string) (links []verify.Link) {
	for _, name := range names {
		links = append(links, verify.NewLink(f.Get(name).Cert))
	}
	return links
}

func commonNames(path []verify.Link) string {
	names := make([]string, len(path))
	for i, l := range path {
		names[i] = l.Cert.Subject.CommonName
	}
	return strings.Join(names, " < ")
}

func TestReadChainIsBounded(t *testing.T) {
	leaf := testkit.SelfSigned(t, "dev-1").Cert
	// A key of this size takes minutes to make; nothing here verifies a signature.
	huge := *leaf
	huge.PublicKey = &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 8192), E: 65537}
	slow := *leaf
	slow.PublicKey = &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 1<<31 - 1}
	var sameName []*x509.Certificate
	for range 4 {
		sameName = append(sameName, testkit.Root(t, "same").Cert)
	}
	many := make([]*x509.Certificate, 11)
	for i := range many {
		many[i] = leaf
	}
	for _, tc := range []struct {
		name  string
		certs []*x509.Certificate
		rule  string
	}{
		{"one certificate", many[:1], ""},
		{"ten certificates", many[:10], ""},
		{"none", nil, "chain-empty"},
		{"eleven", many, "chain-too-long"},
		{"RSA of more than 8192 bits", []*x509.Certificate{leaf, &huge}, "chain-key-too-large"},
		{"an RSA exponent that is slow on purpose", []*x509.Certificate{leaf, &slow}, "chain-key-too-large"},
		{"three certificates of one name", sameName[:3], ""},
		{"four certificates of one name", sameName, "chain-too-complex"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			chain, err := verify.ReadChain(tc.certs)
			if fault.RuleOf(err) != tc.rule || err != nil && !fault.Is(err, fault.Unauthenticated) || err == nil && len(chain) != len(tc.certs) {
				t.Errorf("got %d links, %v", len(chain), err)
			}
		})
	}
}

func TestAnEmptyChainHasNoLeaf(t *testing.T) {
	if !(verify.Chain{}).Leaf().Thumbprint.IsZero() {
		t.Error("an empty chain has a leaf")
	}
}

func TestSignedByAsksTheKey(t *testing.T) {
	f := testkit.Chain(t, "root > mid > dev-1; twin [cn=mid]; dev-2 [leaf] ; root > new-mid [ca, key=mid, cn=renamed]")
	link := func(name string) verify.Link { return verify.NewLink(f.Get(name).Cert) }
	imposter := verify.NewLink(f.Get("dev-2").Issue(t, "dev-3").Cert)
	for _, tc := range []struct {
		name          string
		child, parent verify.Link
		want          bool
	}{
		{"its issuer", link("dev-1"), link("mid"), true},
		{"the issuer's key under another name", link("dev-1"), link("new-mid"), true},
		{"the issuer's name with another key", link("dev-1"), link("twin"), false},
		{"its issuer's issuer", link("dev-1"), link("root"), false},
		{"a leaf that really signed", imposter, link("dev-2"), false},
	} {
		if got := verify.SignedBy(tc.child, tc.parent); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

// Invariants C1 and C4, scenarios A4 to A6: what CheckChain makes of a chain.
func TestCheckChain(t *testing.T) {
	f := testkit.Chain(t, `
		root > i1 > i2 > i3 > dev-3
		root > dev-0; i1 > dev-1; i2 > dev-2
		root-b [cn=root] > dev-b
		root > false-ca [leaf] > under-false
		root > short [pathlen=0] > too-deep [ca] > under-short
		root > old [expired] > under-old
		root > young [future] > under-young
		gone [expired] > under-gone; gone > fresh > dev-f
		root > weak [rsa=1024] > under-weak
		root > p224-ca [p224] > under-p224
		root > dev-weak [p224]
		root > zero [serial=0]
		root > dev-old [expired]; root > dev-young [future]
		lonely [leaf]
		root > nameless [cn=, ca] > under-nameless
		root > sign-only-crl [ca] > under-crl
		root > signing-leaf; root > constrained-leaf
		root > strange-ca [ca] > under-strange; root > strange-leaf
		root > dns-ca [ca] > inside; dns-ca > outside
		root > empty-usage [ca] > under-empty-usage
		root > soft-names [ca] > under-soft-names
		root > no-purpose [ca] > under-no-purpose`,
		testkit.Edit("soft-names", func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.com"} }),
		testkit.Edit("no-purpose", func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, extension(t, 37, false, []byte{0x30, 0}))
		}),
		testkit.Edit("sign-only-crl", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }),
		testkit.Edit("signing-leaf", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }),
		testkit.Edit("empty-usage", func(c *x509.Certificate) {
			c.KeyUsage = 0
			c.ExtraExtensions = append(c.ExtraExtensions, extension(t, 15, true, []byte{3, 2, 7, 0}))
		}),
		testkit.Edit("constrained-leaf", func(c *x509.Certificate) {
			c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.com"}, true
		}),
		testkit.Edit("strange-ca", strange), testkit.Edit("strange-leaf", strange),
		testkit.Edit("dns-ca", func(c *x509.Certificate) {
			c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.com"}, true
		}),
		testkit.Edit("inside", func(c *x509.Certificate) { c.DNSNames = []string{"a.example.com"} }),
		testkit.Edit("outside", func(c *x509.Certificate) { c.DNSNames = []string{"a.example.net"} }))
	sent := func(names ...string) (certs []*x509.Certificate) {
		for _, name := range names {
			certs = append(certs, f.Get(name).Cert)
		}
		return certs
	}
	for _, tc := range []struct {
		name    string
		sent    []*x509.Certificate
		anchors []string
		want    string // the path, or
		rule    string
	}{
		{"A5: signed by the root", sent("dev-0"), []string{"root"}, "dev-0 < root", ""},
		{"A5: signed by I1", sent("dev-1", "i1"), []string{"root"}, "dev-1 < i1 < root", ""},
		{"A5: signed by I2", sent("dev-2", "i2", "i1"), []string{"root"}, "dev-2 < i2 < i1 < root", ""},
		{"A5: signed by I3", sent("dev-3", "i3", "i2", "i1"), []string{"root"}, "dev-3 < i3 < i2 < i1 < root", ""},
		{"A5: with the root in the chain", sent("dev-3", "i3", "i2", "i1", "root"), []string{"root"}, "dev-3 < i3 < i2 < i1 < root", ""},
		{"in disorder and with a stranger", sent("dev-2", "root-b", "i1", "lonely", "i2"), []string{"root"}, "dev-2 < i2 < i1 < root", ""},
		{"B6: an intermediate is an anchor like another", sent("dev-2"), []string{"i2"}, "dev-2 < i2", ""},
		{"B6: above a verified intermediate nothing is needed", sent("dev-3", "i3", "i2"), []string{"i2"}, "dev-3 < i3 < i2", ""},
		{"the longest path counts where two anchors do", sent("dev-2", "i2", "i1"), []string{"i2", "root"}, "dev-2 < i2 < i1 < root", ""},
		{"an anchor that was sent and leads no further", sent("dev-1", "i1"), []string{"i1"}, "dev-1 < i1", ""},
		{"an anchor in force although the one above has expired", sent("dev-f", "fresh"), []string{"fresh", "gone"}, "dev-f < fresh", ""},
		{"a device inside the names of its CA", sent("inside", "dns-ca"), []string{"root"}, "inside < dns-ca < root", ""},

		{"A4: another owner's root of the same name", sent("dev-b", "root-b"), []string{"root"}, "", "chain-not-trusted"},
		{"A4: the same without sending that root", sent("dev-b"), []string{"root"}, "", "chain-bad-signature"},
		{"A6: the walk ends at nothing trusted", sent("dev-1", "i1", "root"), []string{"root-b"}, "", "chain-not-trusted"},
		{"A6: no anchors at all", sent("dev-0", "root"), nil, "", "chain-not-trusted"},
		{"A6: a link is missing", sent("dev-3", "i2", "i1"), []string{"root"}, "", "chain-incomplete"},
		{"A6: the last link is missing", sent("dev-2", "i2"), []string{"root"}, "", "chain-incomplete"},
		{"A6: a non-CA in the middle", sent("under-false", "false-ca"), []string{"root"}, "", "chain-not-a-ca"},
		{"A6: a path length breached", sent("under-short", "too-deep", "short"), []string{"root"}, "", "chain-path-length"},
		{"a CA whose key usage is for CRLs only", sent("under-crl", "sign-only-crl"), []string{"root"}, "", "chain-not-a-ca"},
		{"a CA whose key usage is there and empty", sent("under-empty-usage", "empty-usage"), []string{"root"}, "", "chain-not-a-ca"},
		{"a CA without a name", sent("under-nameless", "nameless"), []string{"root"}, "", "chain-name"},
		{"an expired intermediate", sent("under-old", "old"), []string{"root"}, "", "chain-expired"},
		{"an intermediate of tomorrow", sent("under-young", "young"), []string{"root"}, "", "chain-not-yet-valid"},
		{"an expired anchor, sent", sent("under-gone", "gone"), []string{"gone"}, "", "chain-expired"},
		{"an expired anchor, not sent", sent("under-gone"), []string{"gone"}, "", "chain-expired"},
		{"an expired leaf", sent("dev-old"), []string{"root"}, "", "leaf-expired"},
		{"a leaf of tomorrow", sent("dev-young"), []string{"root"}, "", "leaf-not-yet-valid"},
		{"an RSA-1024 intermediate", sent("under-weak", "weak"), []string{"root"}, "", "chain-weak-key"},
		{"a P-224 intermediate", sent("under-p224", "p224-ca"), []string{"root"}, "", "chain-weak-key"},
		{"a P-224 leaf", sent("dev-weak"), []string{"root"}, "", "chain-weak-key"},
		{"a serial number of zero", sent("zero"), []string{"root"}, "", "chain-serial"},
		{"a self-signed leaf", sent("lonely"), []string{"root"}, "", "chain-not-trusted"},
		{"a leaf that may sign certificates but is no CA", sent("signing-leaf"), []string{"root"}, "", "chain-key-usage"},
		{"a leaf with name constraints", sent("constrained-leaf"), []string{"root"}, "", "chain-name-constraints"},
		{"a device outside the names of its CA", sent("outside", "dns-ca"), []string{"root"}, "", "chain-name-constraints"},
		{"a critical extension nobody knows, in a CA", sent("under-strange", "strange-ca"), []string{"root"}, "", "chain-critical-extension"},
		{"a critical extension nobody knows, in the leaf", sent("strange-leaf"), []string{"root"}, "", "chain-critical-extension"},
		{"name constraints that are not critical", sent("under-soft-names", "soft-names"), []string{"root"}, "", "chain-critical-extension"},
		{"a CA whose extended key usage is there and empty", sent("under-no-purpose", "no-purpose"), []string{"root"}, "", "chain-eku"},
		{"nothing sent", nil, []string{"root"}, "", "chain-empty"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			chain := make(verify.Chain, 0, len(tc.sent))
			for _, c := range tc.sent {
				chain = append(chain, verify.NewLink(c))
			}
			path, err := verify.CheckChain(chain, anchors(f, tc.anchors...), testkit.Now(), nil)
			if got := commonNames(path); got != tc.want || fault.RuleOf(err) != tc.rule || err != nil && !fault.Is(err, fault.Unauthenticated) {
				t.Errorf("got %q, rule %q: %v", got, fault.RuleOf(err), err)
			}
		})
	}
}

func TestALoopIsRefused(t *testing.T) {
	a, b := testkit.Root(t, "a"), testkit.Root(t, "b")
	bFromA := a.Issue(t, "b", testkit.AsCA(), testkit.WithKey(b.Key))
	aFromB := b.Issue(t, "a", testkit.AsCA(), testkit.WithKey(a.Key))
	chain := mustChain(t, a.Issue(t, "dev-1").Cert, aFromB.Cert, bFromA.Cert)
	root := verify.NewLink(testkit.Root(t, "root").Cert)
	if _, err := verify.CheckChain(chain, []verify.Link{root}, testkit.Now(), nil); fault.RuleOf(err) != "chain-incomplete" {
		t.Errorf("got %v", err)
	}
}

func TestSelfIssuedCAsAreFreeOfThePathLength(t *testing.T) {
	f := testkit.Chain(t, "root [pathlen=0]")
	root := f.Get("root")
	newKey := root.Issue(t, "root", testkit.AsCA())
	mid := newKey.Issue(t, "mid", testkit.AsCA())
	now := testkit.Now()
	if path, err := verify.CheckChain(mustChain(t, newKey.Issue(t, "dev-1").Cert, newKey.Cert), anchors(f, "root"), now, nil); err != nil || len(path) != 3 {
		t.Errorf("new key of the same CA: %v", err)
	}
	if _, err := verify.CheckChain(mustChain(t, mid.Issue(t, "dev-1").Cert, mid.Cert, newKey.Cert), anchors(f, "root"), now, nil); fault.RuleOf(err) != "chain-path-length" {
		t.Errorf("another CA below it: %v", err)
	}
}

// The real names within a chain are the factory's; a directory name outside of what a
// CA may certify is refused however it is spelled.
func TestDirectoryNameConstraints(t *testing.T) {
	organisation := func(name string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.Subject.Organization = []string{name} }
	}
	constrain := func(tag byte) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, extension(t, 30, true, directoryConstraint(t, tag, "Factory A")))
		}
	}
	f := testkit.Chain(t, "root > only-a > in-a; only-a > in-b; only-a > spelled; root > not-a > ex-a; not-a > ex-spelled; not-a > ex-b",
		testkit.Edit("only-a", constrain(0)), testkit.Edit("not-a", constrain(1)),
		testkit.Edit("in-a", organisation("Factory A")), testkit.Edit("in-b", organisation("Factory B")), testkit.Edit("spelled", organisation("factory  a")),
		testkit.Edit("ex-a", organisation("Factory A")), testkit.Edit("ex-spelled", organisation(" FACTORY A")), testkit.Edit("ex-b", organisation("Factory B")))
	for name, rule := range map[string]string{
		"in-a": "", "spelled": "", "in-b": "chain-name-constraints",
		"ex-b": "", "ex-a": "chain-name-constraints", "ex-spelled": "chain-name-constraints",
	} {
		_, err := verify.CheckChain(mustChain(t, f.Get(name).Chain()...), anchors(f, "root"), testkit.Now(), nil)
		if fault.RuleOf(err) != rule {
			t.Errorf("%s: want rule %q, got %v", name, rule, err)
		}
	}
}

func TestManyCertificatesOfOneNameAreRefusedInBoundedTime(t *testing.T) {
	f := testkit.Chain(t, "root > dev-1")
	var certs []*x509.Certificate
	previous := testkit.Root(t, "same")
	for range 3 {
		previous = previous.Issue(t, "same", testkit.AsCA(), testkit.WithTemplate(func(c *x509.Certificate) { c.SubjectKeyId = []byte{1} }))
		certs = append(certs, previous.Cert)
	}
	leaf := previous.Issue(t, "dev-1").Cert
	if _, err := verify.CheckChain(mustChain(t, append([]*x509.Certificate{leaf}, certs...)...), anchors(f, "root"), testkit.Now(), nil); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("got %v", err)
	}
}

func FuzzCheckChain(f *testing.F) {
	family := testkit.Chain(f, "root > mid > dev-1; other > dev-2")
	join := func(certs []*x509.Certificate) (der []byte) {
		for _, c := range certs {
			der = append(der, c.Raw...)
		}
		return der
	}
	f.Add(join(family.Get("dev-1").Chain()))
	f.Add(join(family.Get("dev-1").FullChain()))
	f.Add(join(family.Get("dev-2").FullChain()))
	root := verify.NewLink(family.Get("root").Cert)
	f.Fuzz(func(t *testing.T, der []byte) {
		certs, err := x509.ParseCertificates(der)
		if err != nil {
			return
		}
		chain, err := verify.ReadChain(certs)
		if err != nil {
			return
		}
		path, err := verify.CheckChain(chain, []verify.Link{root}, testkit.Now(), new(verify.Memo))
		if err != nil {
			if !fault.Is(err, fault.Unauthenticated) || fault.RuleOf(err) == "" {
				t.Errorf("%v", err)
			}
			return
		}
		for i := range path[1:] {
			if !verify.SignedBy(path[i], path[i+1]) {
				t.Errorf("%d is not signed by the next", i)
			}
		}
		if path[len(path)-1].Thumbprint != root.Thumbprint {
			t.Error("the path does not end at the anchor")
		}
	})
}

package provisioning_test

import (
	"crypto/x509"
	"fmt"
	"testing"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

func (w *world) lineage(c *x509.Certificate, edit func(*provisioning.LineageQuery)) provisioning.Lineage {
	w.t.Helper()
	q := provisioning.LineageQuery{Thumbprint: verify.ThumbprintOf(c.Raw), Limit: 100}
	if edit != nil {
		edit(&q)
	}
	l, err := w.engine.Lineage(w.ctx, q)
	w.must(err)
	return l
}

// tree is a lineage in names: what it came from, nearest first, and what came of it.
func tree(l provisioning.Lineage, names map[verify.Thumbprint]string) string {
	up, down := "", ""
	for _, a := range l.Ancestors {
		up += " " + names[a.Thumbprint]
		if a.Issued == nil {
			for _, h := range a.Holders {
				up += " (" + h.Owner.String() + ")"
			}
		}
	}
	for _, d := range l.Descendants {
		down += fmt.Sprintf(" %s/%d", names[d.Thumbprint], d.Depth)
	}
	return "up:" + up + " down:" + down
}

func TestLineageIsWalkedBothWays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > d1; mid > d2")
	w.anchor(f.Get("root"), true)
	w.group("g", f.Get("mid"))
	w.individual("p1", testkit.SelfSigned(t, "p1"), nil)
	names := map[verify.Thumbprint]string{}
	named := func(name string, c *x509.Certificate, err error) *x509.Certificate {
		t.Helper()
		w.must(err)
		names[verify.ThumbprintOf(c.Raw)] = name
		return c
	}
	issue := func(name string, certs ...*x509.Certificate) *x509.Certificate {
		t.Helper()
		c, err := w.enroll(w.presenting("d1", certs...))
		return named(name, c, err)
	}
	factoryLeaf := named("factory", f.Get("d1").Cert, nil)
	a := issue("a", f.Get("d1").Chain()...)
	b := issue("b", a)
	c := issue("c", b)
	d := issue("d", b)
	fresh := issue("fresh", f.Get("d1").Chain()...)
	_, err := w.enroll(w.presenting("d2", f.Get("d2").Chain()...))
	w.must(err)

	for name, tt := range map[string]struct {
		of   *x509.Certificate
		edit func(*provisioning.LineageQuery)
		want string
	}{
		"from the first":            {a, nil, "up: factory down: b/1 c/2 d/2"},
		"from the middle":           {b, nil, "up: a factory down: c/1 d/1"},
		"from the last":             {d, nil, "up: b a factory down:"},
		"of one that began anew":    {fresh, nil, "up: factory down:"},
		"bounded upward":            {c, func(q *provisioning.LineageQuery) { q.Limit = 1 }, "up: b down:"},
		"a page of what came of it": {a, func(q *provisioning.LineageQuery) { q.Limit = 2 }, "up: factory down: b/1 c/2"},
	} {
		if got := tree(w.lineage(tt.of, tt.edit), names); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}

	page := w.lineage(a, func(q *provisioning.LineageQuery) { q.Limit = 2 })
	rest := w.lineage(a, func(q *provisioning.LineageQuery) { q.Limit, q.After = 2, page.Next })
	if got := tree(rest, names); page.Next == 0 || got != "up: factory down: d/2" || rest.Next != 0 {
		t.Errorf("the next page is %q, after %d", got, page.Next)
	}
	if up := w.lineage(c, func(q *provisioning.LineageQuery) { q.Limit = 1 }); !up.MoreAncestors {
		t.Error("a walk up that ended early does not say so")
	}

	outside := w.lineage(factoryLeaf, nil)
	if outside.Issued != nil || len(outside.Registrations) != 1 || outside.Registrations[0].Spelled != "d1" {
		t.Errorf("the factory's leaf: %+v", outside)
	}
	above := w.lineage(f.Get("mid").Cert, func(q *provisioning.LineageQuery) { q.Limit = 1 })
	last := w.lineage(f.Get("mid").Cert, func(q *provisioning.LineageQuery) { q.Limit, q.AfterDevice = 1, above.NextDevice })
	if len(above.Holders) != 1 || above.Registrations[0].Spelled != "d1" || last.Registrations[0].Spelled != "d2" || !last.NextDevice.IsZero() {
		t.Errorf("the factory's CA: %+v, then %+v", above, last)
	}
	for _, unknown := range []verify.Thumbprint{{1}, {}} {
		_, err = w.engine.Lineage(w.ctx, provisioning.LineageQuery{Thumbprint: unknown, Limit: 1})
		if !fault.Is(err, fault.NotFound) {
			t.Errorf("a certificate that nothing knows: %v", err)
		}
	}
}

func TestTheLineageOfACodeBeginsWithoutACertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keyed(provisioning.Individual, "d1")
	leaf, err := w.enroll(w.typing("d1", w.code("d1", "", 0)))
	w.must(err)
	next, err := w.enroll(w.presenting("d1", leaf))
	w.must(err)
	l := w.lineage(next, nil)
	if len(l.Ancestors) != 1 || l.Ancestors[0].Issued == nil || !l.Ancestors[0].Issued.Parent.IsZero() {
		t.Errorf("%+v", l.Ancestors)
	}
}

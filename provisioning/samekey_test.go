package provisioning_test

import (
	"crypto"
	"crypto/x509"
	"slices"
	"testing"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/verify"
)

// showsWith insists on the other certificates with its key that a preview names, and on whether they are refused.
func (w *world) showsWith(cert *x509.Certificate, scope provisioning.DisallowScope, refused bool, others ...*x509.Certificate) {
	w.t.Helper()
	got := w.foresees(provisioning.DisallowRequest{Certificate: cert.Raw, Scope: scope}).SameKey
	for _, x := range others {
		i := slices.IndexFunc(got, func(s provisioning.SameKey) bool { return s.Thumbprint == verify.ThumbprintOf(x.Raw) })
		if i < 0 {
			w.t.Errorf("scope %s: %s is not shown with it: %+v", scope, x.Subject, got)
		} else if got[i].Refused != refused || got[i].Subject != "" && got[i].Subject != x.Subject.String() || got[i].Subject == "" && got[i].Registration != id(w, x.Subject.CommonName) {
			w.t.Errorf("scope %s: shown as %+v", scope, got[i])
		}
	}
	if len(got) != len(others) {
		w.t.Errorf("scope %s: %d are shown, want %d", scope, len(got), len(others))
	}
}

// A key that was stolen from one device was certified for another, which proves itself with something clean.
func TestAKeyIsRevokedWhereverItWasCertified(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		hub := w.linked(elsewhere)
		f := testkit.Chain(t, "root > mid > d1; mid > d2; mid > d3")
		w.anchor(f.Get("root"), true)
		w.group("g", f.Get("mid"), livingOn(elsewhere))
		stolen := testkit.NewKey(t, "p256")
		leaves := map[string]*x509.Certificate{}
		for name, key := range map[string]crypto.Signer{"d1": stolen, "d2": stolen, "d3": testkit.NewKey(t, "p256")} {
			leaf, err := w.enrollKey(w.presenting(name, f.Get(name).Chain()...), key)
			w.must(err)
			leaves[name] = leaf
		}
		w.sweepHubs()
		i := w.disallow(provisioning.DisallowRequest{Certificate: leaves["d1"].Raw, Scope: provisioning.DisallowKey})
		if i.Revoked != 2 || i.Devices != 2 {
			t.Errorf("%d revoked, %d devices", i.Revoked, i.Devices)
		}
		for name, leaf := range leaves {
			_, err := w.register(w.presenting(name, leaf))
			if good := name == "d3"; good != (err == nil) {
				t.Errorf("%s comes in with Muster's certificate: %v", name, err)
			}
		}
		w.settles()
		w.isDone(i.ID)
		for name, leaf := range leaves {
			d, _ := hub.Device(name)
			if good := name == "d3"; good != slices.Contains(d.Thumbprints[:], hexOf(leaf.Raw)[0]) {
				t.Errorf("%s is let in by its hub: %t", name, !good)
			}
		}
		w.enrolled(w.presenting("d2", f.Get("d2").Chain()...)) // what it proves itself with is clean
	})
}

func TestAPreviewShowsWhatElseHasItsKey(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		key := testkit.NewKey(t, "p256")
		f := testkit.Chain(t, "root > mid > d4; other > d3")
		w.anchor(f.Get("root"), true)
		w.group("g", f.Get("mid"))
		factory := f.Get("mid").Issue(t, "d1", testkit.WithKey(key))
		first, err := w.enrollKey(w.presenting("d1", factory.Chain()...), key)
		w.must(err)
		w.pass(oneDay)
		second, err := w.enrollKey(w.presenting("d1", first), key)
		w.must(err)
		twin := f.Get("mid").Issue(t, "d2", testkit.WithKey(key)) // the image of one device in two
		w.assigned(w.presenting("d2", twin.Chain()...))
		w.assigned(w.presenting("d4", f.Get("d4").Chain()...))

		all := []*x509.Certificate{factory.Cert, first, second, twin.Cert}
		for _, scope := range []provisioning.DisallowScope{provisioning.DisallowCertificate, provisioning.DisallowKey} {
			for n, cert := range all {
				w.showsWith(cert, scope, scope == provisioning.DisallowKey, slices.Delete(slices.Clone(all), n, n+1)...)
			}
		}

		t.Log("what an entry of its own pins, and a CA that is cross-signed")
		pinned := f.Get("other").Issue(t, "d3", testkit.WithKey(f.Get("d3").Key))
		w.individual("d3", f.Get("d3"), pinned)
		w.showsWith(f.Get("d3").Cert, provisioning.DisallowCertificate, false, pinned.Cert)
		crossed := f.Get("other").Issue(t, "mid", testkit.AsCA(), testkit.WithKey(f.Get("mid").Key))
		w.showsWith(crossed.Cert, provisioning.DisallowBelow, true, f.Get("mid").Cert)
	})
}

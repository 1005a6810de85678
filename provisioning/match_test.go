package provisioning_test

import (
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

func TestAGroupAdmitsWhatHangsBelowAVerifiedAnchor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > i1 > i2 > i3 > d3; i2 > d2; i1 > d1; root > d0; other > stranger")
	w.anchor(f.Get("root"), true)
	w.reference("g", f.Get("root"))

	for _, name := range []string{"d0", "d1", "d2", "d3"} { // scenarios A5, with and without the root sent
		w.assigned(w.presenting(name, f.Get(name).Chain()...))
		w.assigned(w.presenting(name, f.Get(name).FullChain()...))
	}
	w.refused(w.presenting("stranger", f.Get("stranger").FullChain()...), "no-enrollment") // A4, A6
	w.refused(w.presenting("d3", f.Get("d3").Cert), "chain-incomplete")                    // a link missing
}

func TestTheGroupNearestTheLeafDecides(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > d1; mid > d2")
	w.anchor(f.Get("root"), true)
	w.reference("far", f.Get("root"))
	near := w.group("near", f.Get("mid"))

	if op := w.assigned(w.presenting("d1", f.Get("d1").Chain()...)); op.Group != "near" {
		t.Fatalf("admitted by %q, want near", op.Group)
	}
	w.enable(near.Owner, false) // E3: found but disabled is an answer
	w.refused(w.presenting("d1", f.Get("d1").Chain()...), "held-by-disabled")
	w.refused(w.presenting("d2", f.Get("d2").Chain()...), "held-by-disabled")
	w.must(w.engine.Delete(w.ctx, "operator:test", near.Owner, provisioning.Precondition{Any: true}))
	if op := w.assigned(w.presenting("d2", f.Get("d2").Chain()...)); op.Group != "far" { // I6
		t.Fatalf("admitted by %q, want far", op.Group)
	}
}

func TestAnUnverifiedAnchorVouchesForNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > d1")
	w.anchor(f.Get("root"), false)
	w.group("g", f.Get("mid"))
	device := w.presenting("d1", f.Get("d1").Chain()...)

	w.refused(device, "anchor-not-verified") // B5
	w.prove(f.Get("root"))
	w.assigned(device) // the next registration, no restart

	// B7: other bytes under the name are unverified, and its groups stop at once.
	other := testkit.Chain(t, "root[cn=root] > x").Get("root")
	_, err := w.engine.UploadAnchor(w.ctx, "operator:test", "root", other.PEM(), false, provisioning.Precondition{Any: true})
	w.must(err)
	w.refused(device, "anchor-not-verified")
}

func TestOnlyAnIntermediateNeedsProof(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > d1; mid > low > d2")
	w.anchor(f.Get("mid"), true) // B6: the root is not needed, not even known
	w.group("g", f.Get("mid"))
	w.assigned(w.presenting("d1", f.Get("d1").Cert))
	w.assigned(w.presenting("d1", f.Get("d1").FullChain()...))
	w.assigned(w.presenting("d2", f.Get("d2").Chain()...))
}

func TestAnIndividualEntryDecidesAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > d1; mid > twin[cn=d1]")
	w.anchor(f.Get("root"), true)
	w.reference("g", f.Get("root"))
	chain := f.Get("d1").Chain()
	w.assigned(w.presenting("d1", chain...))

	w.individual("d1", f.Get("d1"), nil)
	w.assigned(w.presenting("d1", chain...))
	w.refused(w.presenting("d1", f.Get("twin").Chain()...), "certificate-not-enrolled") // C3

	w.keyed(provisioning.Individual, "d2") // E1: another kind of attestation shadows too
	w.put(provisioning.Individual, "d1", provisioning.Attestation{Role: provisioning.RoleKey})
	w.refused(w.presenting("d1", chain...), "attestation-mismatch")

	w.put(provisioning.Individual, "d1", provisioning.Attestation{Role: provisioning.RoleKey}, disabled) // I2
	w.refused(w.presenting("d1", chain...), "enrollment-disabled")
	w.must(w.engine.Delete(w.ctx, "operator:test", provisioning.Owner{Kind: provisioning.Individual, ID: id(w, "d1")}, provisioning.Precondition{Any: true}))
	w.assigned(w.presenting("d1", chain...)) // deleting it re-admits
}

func TestWhatADisabledEntryHoldsIsRefusedEverywhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > low > d1; low > d2; low > d3; other > o1")
	w.anchor(f.Get("root"), true)
	w.reference("top", f.Get("root"))
	w.anchor(f.Get("other"), true)
	w.reference("others", f.Get("other"))

	// E4 (a), (b): a leaf in a disabled individual's primary or secondary slot, under another id.
	pin := testkit.Chain(t, "self > p[cn=d9]").Get("p")
	w.put(provisioning.Individual, "d9", provisioning.Attestation{Role: provisioning.RoleClient, Slots: slots(pin, nil)}, disabled)
	w.refused(w.presenting("d9", pin.Cert), "enrollment-disabled")

	// (c), (d): a signing certificate in a disabled group and below an enabled nearer one.
	w.group("near", f.Get("low"))
	w.assigned(w.presenting("d1", f.Get("d1").Chain()...))
	held := w.group("held", f.Get("mid"), disabled)
	w.refused(w.presenting("d1", f.Get("d1").Chain()...), "held-by-disabled")
	w.refused(w.presenting("d2", f.Get("d2").Chain()...), "held-by-disabled")

	// (e): the disabled CA left out of the chain by the device still counts (X2): low's
	// signature verifies under mid, which Muster holds.
	w.anchor(f.Get("low"), true)
	w.refused(w.presenting("d1", f.Get("d1").Chain()[:2]...), "held-by-disabled")

	// (f): nor does a forgery put on top, naming another issuer, hide what is above.
	forged := testkit.Chain(t, "fake > mid[ca]")
	w.refused(w.presenting("d1", append(f.Get("d1").Chain()[:2:2], forged.Get("mid").Cert)...), "held-by-disabled")

	// The one exception: an enabled individual that pins this very leaf.
	w.individual("d3", f.Get("d3"), nil)
	w.assigned(w.presenting("d3", f.Get("d3").Chain()...))

	w.assigned(w.presenting("o1", f.Get("o1").Chain()...)) // A7: others stay
	w.enable(held.Owner, true)
	w.assigned(w.presenting("d1", f.Get("d1").Chain()...)) // I4
}

func TestSymmetricKeysAdmitTheirDevice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	own := w.keyed(provisioning.Individual, "own")
	w.assigned(w.signing("own", own)) // C2
	w.refused(w.signing("own", []byte("0123456789abcdef")), "sas-signature")

	groupKey := w.keyed(provisioning.Group, "g") // D2
	w.assigned(w.signing("Member-1", derive(groupKey, "Member-1")))
	w.refused(w.signing("member-2", groupKey), "no-enrollment")                     // never the group's own key
	w.refused(w.signing("member-2", derive(groupKey, "member-3")), "no-enrollment") // nor another device's
	w.refused(w.signing("own", derive(groupKey, "own")), "sas-signature")           // the individual shadows
	w.enable(provisioning.Owner{Kind: provisioning.Group, ID: id(w, "g")}, false)
	w.refused(w.signing("member-1", derive(groupKey, "member-1")), "enrollment-disabled")

	late := w.signing("own", own)
	w.pass(2 * time.Hour)
	_, err := w.register(late)
	if fault.KindOf(err) != fault.Unauthenticated {
		t.Fatalf("an expired token: %v", err)
	}
}

func TestARefusalIsExplainedByTheRunThatDecided(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > d1")
	w.anchor(f.Get("root"), true)
	w.group("g", f.Get("mid"))
	device := w.presenting("d1", f.Get("d1").Chain()...)
	w.assigned(device)
	w.put(provisioning.Individual, "d1", provisioning.Attestation{Role: provisioning.RoleKey}, disabled)
	w.refused(device, "enrollment-disabled")

	x, err := w.engine.Explain(w.ctx, id(w, "d1"), nil)
	w.must(err)
	if x.Admitted || x.Refused.Rule != "enrollment-disabled" || x.Refused.Object != "enrollment d1" {
		t.Fatalf("explained as %+v", x)
	}
	if x.LastRefusal == nil || x.LastRefusal.Rule != "enrollment-disabled" || x.LastRefusal.Count < 2 {
		t.Fatalf("last refusal %+v", x.LastRefusal)
	}
	w.must(w.engine.Delete(w.ctx, "operator:test", provisioning.Owner{Kind: provisioning.Individual, ID: id(w, "d1")}, provisioning.Precondition{Any: true}))
	if x, err = w.engine.Explain(w.ctx, id(w, "d1"), nil); err != nil || !x.Admitted || x.Entry.String() != "group g" || x.Hub != builtIn {
		t.Fatalf("explained as %+v, %v", x, err)
	}
	if x, err = w.engine.Explain(w.ctx, id(w, "d1"), device.Evidence.Chain); err != nil || rules(x.Trace) != "individual-enrollment standing anchor-verified group allocation" {
		t.Fatalf("trace %q, %v", rules(x.Trace), err)
	}
}

func TestAnEntryIsWarnedAboutBeforeItSurprises(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > d1")
	put := func(name string) []string {
		_, warnings, err := w.engine.Put(w.ctx, "operator:test", provisioning.Draft{
			Owner: provisioning.Owner{Kind: provisioning.Group, ID: id(w, name)}, Spelled: name, Enabled: true, Allocation: policies.Hashed,
			Attestation: provisioning.Attestation{Role: provisioning.RoleSigning, Slots: slots(f.Get("mid"))},
		}, provisioning.Precondition{})
		w.must(err)
		return warnings
	}
	w.anchor(f.Get("root"), false)
	if got := put("a"); len(got) != 1 || !strings.Contains(got[0], "no verified trust anchor") { // B5
		t.Fatalf("below an unverified root: %q", got)
	}
	w.prove(f.Get("root"))
	if got := put("b"); len(got) != 1 || !strings.Contains(got[0], "stands in group a too") { // D6
		t.Fatalf("a certificate in two groups: %q", got)
	}
	w.enable(provisioning.Owner{Kind: provisioning.Group, ID: id(w, "a")}, false)
	if got := put("c"); len(got) != 2 || !strings.Contains(strings.Join(got, "\n"), "group a, which is disabled: it will be refused") { // E7
		t.Fatalf("a certificate that a disabled entry holds: %q", got)
	}
}

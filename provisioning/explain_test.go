package provisioning_test

import (
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/store"
	"github.com/passmuster/muster/verify"
)

func (w *world) explained(name string, chain verify.Chain) provisioning.Explanation {
	w.t.Helper()
	x, err := w.engine.Explain(w.ctx, id(w, name), chain)
	w.must(err)
	return x
}

// blames wants an explanation to name a disallowance, and behind it what became of an entry.
func (w *world) blames(x provisioning.Explanation, incident, entry, consequence string) {
	w.t.Helper()
	if x.Admitted || x.Refused == nil || x.Refused.Rule != "disallowed" || x.Refused.Object != "disallowance "+incident {
		w.t.Fatalf("refused by %+v", x.Refused)
	}
	for i, step := range x.Trace {
		if step.Rule != "disallowed" {
			continue
		}
		if i+1 == len(x.Trace) {
			break
		}
		if next := x.Trace[i+1]; next.Rule == "enrollment-disabled" && next.Object == entry && next.Verdict == provisioning.Note && strings.Contains(next.Detail, consequence) {
			return
		}
	}
	w.t.Errorf("nothing says that %s %s: %+v", entry, consequence, x.Trace)
}

func TestTheDisallowanceIsNamedBeforeTheEntryThatItDisabled(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		f := testkit.Chain(t, "root > mid > d1; mid > d2; mid > d3; root > d4; root > d5")
		w.anchor(f.Get("root"), true)
		w.group("line", f.Get("mid"))
		w.individual("d4", f.Get("d4"), nil)
		w.individual("d5", f.Get("d5"), nil)
		_, err := w.enroll(w.presenting("d1", f.Get("d1").Chain()...))
		w.must(err)
		w.assigned(w.presenting("d2", f.Get("d2").Chain()...))
		w.assigned(w.presenting("d4", f.Get("d4").Chain()...))
		ca := w.disallow(provisioning.DisallowRequest{Certificate: f.Get("mid").Cert.Raw})
		w.blames(w.explained("d1", nil), ca.ID, "group line", "was disabled by that disallowance")                             // with a certificate of ours
		w.blames(w.explained("d2", nil), ca.ID, "group line", "was disabled by that disallowance")                             // with what the record has of it
		if x := w.explained("d3", w.presenting("d3", f.Get("d3").Chain()...).Evidence.Chain); x.Refused.Rule != "disallowed" { // the door says so itself
			t.Errorf("refused by %+v", x.Refused)
		}
		for _, name := range []string{"d4", "d5"} { // one has registered, the other has not
			leaf := w.disallow(provisioning.DisallowRequest{Certificate: f.Get(name).Cert.Raw})
			w.blames(w.explained(name, nil), leaf.ID, "enrollment "+name, "was disabled by that disallowance")
			w.blames(w.explained(name, w.presenting(name, f.Get(name).Chain()...).Evidence.Chain), leaf.ID, "enrollment "+name, "was disabled by that disallowance")
		}
		// Somebody disables the device's own entry besides.
		w.put(provisioning.Individual, "d2", provisioning.Attestation{Role: provisioning.RoleKey}, disabled)
		w.blames(w.explained("d2", nil), ca.ID, "enrollment d2", "it is disabled as well")
		_, err = w.engine.LiftDisallowance(w.ctx, ann, ca.ID)
		w.must(err)
		if x := w.explained("d2", nil); x.Refused.Rule != "enrollment-disabled" || x.Refused.Object != "enrollment d2" {
			t.Errorf("once it is lifted: %+v", x.Refused)
		}
	})
}

// What is clean is not blamed: the entry alone refuses.
func TestADisabledEntryIsNamedWhereNothingIsDisallowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > d1; root > other > d9")
	w.anchor(f.Get("root"), true)
	w.group("line", f.Get("mid"))
	w.assigned(w.presenting("d1", f.Get("d1").Chain()...))
	w.disallow(provisioning.DisallowRequest{Certificate: f.Get("other").Cert.Raw})
	w.enable(provisioning.Owner{Kind: provisioning.Group, ID: id(w, "line")}, false)
	if x := w.explained("d1", nil); x.Refused.Rule != "enrollment-disabled" || x.Refused.Object != "group line" {
		t.Errorf("refused by %+v", x.Refused)
	}
}

func TestAPinnedCertificateIsJudgedAsIfItWereShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > d1; mid > d2")
	w.individual("d1", f.Get("d1"), nil)
	if x := w.explained("d1", nil); !x.Admitted || x.Hub != builtIn || x.Basis != "the certificate that its enrollment pins" {
		t.Errorf("explained as %+v", x)
	}
	i := w.disallow(provisioning.DisallowRequest{Certificate: f.Get("mid").Cert.Raw})
	if x := w.explained("d1", nil); x.Admitted || x.Refused.Rule != "disallowed" || x.Refused.Object != "disallowance "+i.ID {
		t.Errorf("its CA is disallowed, and it is explained as %+v", x)
	}
}

func TestAnExplanationShowsHoldsAndTripwires(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := twoFactories(t, w)
	for range 2 {
		w.assigned(a)
		w.assigned(b)
	}
	w.tripped()
	w.hold("d1")
	x := w.explained("d1", nil)
	if x.Refused == nil || x.Refused.Rule != "registration-held" || len(x.Tripwires) != 1 || x.Tripwires[0].Kind != provisioning.TwoChains {
		t.Errorf("explained as %+v", x)
	}
	if x := w.explained("d1", a.Evidence.Chain); x.Refused.Rule != "registration-held" {
		t.Errorf("with a chain: %+v", x.Refused)
	}
	w.release("d1")
	if x := w.explained("d1", nil); !x.Admitted || len(x.Tripwires) != 1 {
		t.Errorf("released: %+v", x)
	}
}

// An admitted device whose request is refused is remembered, with what admitted it.
func TestARefusedRequestIsRemembered(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	op, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: device, CSR: testkit.CSR(t, testkit.NewKey(t, "p256"), "another")})
	if !fault.Is(err, fault.Malformed) || op.Chain != nil {
		t.Fatal(err)
	}
	r := w.explained("d1", nil).LastRefusal
	if r == nil || r.Rule != fault.RuleOf(err) || r.Count != 1 || r.Door != "test" || rules(r.Trace) != "individual-enrollment standing anchor-verified group "+fault.RuleOf(err) {
		t.Errorf("remembered %+v", r)
	}
	w.pass(time.Minute)
	if x := w.explained("d1", nil); x.Refused != nil && x.Registration != nil {
		t.Errorf("explained as %+v", x)
	}
}

// E7, D6: what is saved is disallowed, its key is, or it is below a CA that is.
func TestAnEntryIsWarnedOfADisallowance(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database store.Engine) {
		w := newWorldOn(t, database, newBox(t))
		f := testkit.Chain(t, "root > mid > low > d1; root > other[ca]")
		w.anchor(f.Get("root"), true)
		warned := func(kind provisioning.Kind, name string, role provisioning.Role, cert *testkit.Entity) string {
			t.Helper()
			_, warnings, err := w.engine.Put(w.ctx, ann, provisioning.Draft{
				Owner: provisioning.Owner{Kind: kind, ID: id(w, name)}, Spelled: name, Enabled: false, Allocation: policies.Hashed,
				Attestation: provisioning.Attestation{Role: role, Slots: slots(cert)},
			}, provisioning.Precondition{})
			w.must(err)
			return strings.Join(warnings, "\n")
		}
		before := warned(provisioning.Group, "before", provisioning.RoleSigning, f.Get("low"))
		if strings.Contains(before, "disallowed") {
			t.Errorf("nothing is disallowed yet: %q", before)
		}
		i := w.disallow(provisioning.DisallowRequest{Certificate: f.Get("mid").Cert.Raw})
		want := "disallowed (disallowance " + i.ID + "): it will be refused"
		again := f.Get("root").Issue(t, "mid-again", testkit.AsCA(), testkit.WithKey(f.Get("mid").Key))
		for name, got := range map[string]string{
			"itself":                         warned(provisioning.Group, "itself", provisioning.RoleSigning, f.Get("mid")),
			"its key":                        warned(provisioning.Group, "its-key", provisioning.RoleSigning, again),
			"right below it":                 warned(provisioning.Group, "below", provisioning.RoleSigning, f.Get("low")),
			"a leaf below a CA that is held": warned(provisioning.Individual, "d1", provisioning.RoleClient, f.Get("d1")),
		} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q", name, got)
			}
		}
		if got := warned(provisioning.Group, "clean", provisioning.RoleSigning, f.Get("other")); strings.Contains(got, "disallowed") {
			t.Errorf("a clean one: %q", got)
		}
	})
}

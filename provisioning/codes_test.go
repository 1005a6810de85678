package provisioning_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"sync"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

const ann = "operator:ann"

// code makes a one-time code; group "" means the device's own enrollment.
func (w *world) code(device, group string, lifetime time.Duration) string {
	w.t.Helper()
	r := provisioning.CodeRequest{ID: id(w, device), Lifetime: lifetime}
	if group != "" {
		r.Group = id(w, group)
	}
	text, _, err := w.engine.CreateCode(w.ctx, ann, r)
	w.must(err)
	return text
}

// typing is a device that shows a code.
func (w *world) typing(name, text string) provisioning.Attempt {
	w.t.Helper()
	code, is := verify.ParseCode(text)
	if !is {
		w.t.Fatalf("%q is no code", text)
	}
	return provisioning.Attempt{ID: id(w, name), Spelled: name, Evidence: provisioning.Evidence{Code: code}, Door: "test"}
}

// turnedAway asks with a CSR and insists on a refusal by a rule that writes nothing.
func (w *world) turnedAway(r provisioning.RegisterRequest, rule string) {
	w.t.Helper()
	before := w.rows()
	_, err := w.engine.Register(w.ctx, r)
	if fault.KindOf(err) != fault.Unauthenticated || fault.RuleOf(err) != rule {
		w.t.Fatalf("got %v (rule %q), want a refusal by %q", err, fault.RuleOf(err), rule)
	}
	if w.rows() != before {
		w.t.Fatal("a refusal wrote to the ledger")
	}
	w.check()
}

func (w *world) asking(a provisioning.Attempt) provisioning.RegisterRequest {
	return provisioning.RegisterRequest{Attempt: a, CSR: testkit.CSR(w.t, testkit.NewKey(w.t, "p256"), a.Spelled), HubOptional: true}
}

// found says how many ledger rows of an action there are.
func (w *world) found(action audit.Action) int {
	w.t.Helper()
	rows, err := w.engine.Ledger(w.ctx, provisioning.LedgerFilter{Action: action, Limit: 100})
	w.must(err)
	return len(rows)
}

// issued counts certificates of devices: the world's issuing CA has one too.
func (w *world) issued() int { return w.found(audit.Issued) - 1 }

// Whatever its entry attests with, a code admits the device once, and its certificate
// carries on from there.
func TestACodeEnrollsOnceAndItsCertificateRenews(t *testing.T) {
	t.Parallel()
	f := testkit.Chain(t, "root > mid > d1")
	entries := map[string]struct {
		group string
		make  func(*world)
	}{
		"an individual enrollment with a key":       {"", func(w *world) { w.keyed(provisioning.Individual, "d1") }},
		"an individual enrollment that pins a leaf": {"", func(w *world) { w.individual("d1", f.Get("d1"), nil) }},
		"a group of certificates":                   {"g", func(w *world) { w.anchor(f.Get("root"), true); w.group("g", f.Get("mid")) }},
		"a group of keys":                           {"g", func(w *world) { w.keyed(provisioning.Group, "g") }},
	}
	for name, entry := range entries {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			entry.make(w)
			text := w.code("d1", entry.group, 0)
			leaf, err := w.enroll(w.typing("d1", text))
			w.must(err)
			reg := w.registration("d1")
			if reg.Mechanism != verify.MechanismCode || reg.State != provisioning.Assigned {
				t.Errorf("%s by %s", reg.State, reg.Mechanism)
			}
			w.turnedAway(w.asking(w.typing("d1", text)), "code-spent")
			w.pass(time.Hour)
			renewal := w.asking(w.presenting("d1", leaf))
			renewal.Renewal = true
			op, err := w.engine.Register(w.ctx, renewal)
			w.must(err)
			cert, err := x509.ParseCertificate(op.Chain[0])
			w.must(err)
			w.assigned(w.presenting("d1", cert))
			w.check()
			if w.found(audit.CodeMade) != 1 || w.found(audit.CodeSpent) != 1 {
				t.Error("the ledger does not tell of the code once")
			}
		})
	}
}

// Whoever holds an older certificate got it by another entry's word, or by a CA that nobody
// trusts any more: the code is not for them.
func TestACodeDoesNotBringBackWhatTheDeviceHadBefore(t *testing.T) {
	t.Parallel()
	f := testkit.Chain(t, "root > mid > d1; other > mid2")
	for name, c := range map[string]struct {
		group  string
		cut    func(*world)
		stands bool
	}{
		"its group was disabled, and it joins another": {"g2", func(w *world) { w.enable(provisioning.Owner{Kind: provisioning.Group, ID: id(w, "g")}, false) }, false},
		"its group was deleted, and it joins another": {"g2", func(w *world) {
			w.must(w.engine.Delete(w.ctx, ann, provisioning.Owner{Kind: provisioning.Group, ID: id(w, "g")}, provisioning.Precondition{Any: true}))
		}, false},
		"it is given an enrollment of its own":          {"", func(w *world) { w.keyed(provisioning.Individual, "d1") }, false},
		"the CA that attested it is held by a disabled": {"g", func(w *world) { w.group("x", f.Get("mid"), disabled) }, false},
		"nothing has happened":                          {"g", func(*world) {}, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.anchor(f.Get("root"), true)
			w.group("g", f.Get("mid"))
			w.keyed(provisioning.Group, "g2")
			before, err := w.enroll(w.presenting("d1", f.Get("d1").Cert, f.Get("mid").Cert))
			w.must(err)
			w.pass(time.Hour)
			c.cut(w)
			w.pass(time.Minute)
			leaf, err := w.enroll(w.typing("d1", w.code("d1", c.group, 0)))
			w.must(err)
			w.pass(time.Minute)
			if c.stands {
				w.assigned(w.presenting("d1", before))
			} else {
				w.refused(w.presenting("d1", before), "certificate-not-standing")
			}
			w.assigned(w.presenting("d1", leaf))
			w.check()
		})
	}
}

// A key is no other than a code; the device's fleet is known from memory (docs/adr/0014).
func TestAKeyDoesNotBringBackWhatTheDeviceHadBefore(t *testing.T) {
	t.Parallel()
	f := testkit.Chain(t, "root > mid > d1")
	w := newWorld(t)
	w.anchor(f.Get("root"), true)
	w.group("g", f.Get("mid"))
	secret := verify.NewSecret(w.keyed(provisioning.Group, "g2"))
	by := func(name string) provisioning.Attempt {
		return w.signing(name, verify.DeriveKey(secret, name).Reveal())
	}
	before, err := w.enroll(w.presenting("d1", f.Get("d1").Cert, f.Get("mid").Cert))
	w.must(err)
	for _, name := range []string{"d2", "d3"} {
		_, err := w.enroll(by(name))
		w.must(err)
	}
	w.enable(provisioning.Owner{Kind: provisioning.Group, ID: id(w, "g")}, false)
	w.pass(time.Minute)
	for _, name := range []string{"d2", "d3"} {
		_, err := w.enroll(by(name))
		w.must(err)
	}
	_, err = w.enroll(by("d1"))
	w.must(err)
	w.refused(w.presenting("d1", before), "certificate-not-standing")
	w.check()
}

func TestWhatACodeIsNotGoodFor(t *testing.T) {
	t.Parallel()
	own := provisioning.Owner{Kind: provisioning.Individual}
	tests := []struct {
		name, group, rule string
		lifetime          time.Duration
		then              func(*world)
		change            func(*world, *provisioning.RegisterRequest)
	}{
		{name: "another device's name", rule: "code-not-enrolled", change: func(w *world, r *provisioning.RegisterRequest) {
			w.keyed(provisioning.Individual, "d2")
			*r = w.asking(provisioning.Attempt{ID: id(w, "d2"), Spelled: "d2", Evidence: r.Evidence, Door: "test"})
		}},
		{name: "another member's name", group: "g", rule: "code-for-other-device", change: func(w *world, r *provisioning.RegisterRequest) {
			*r = w.asking(provisioning.Attempt{ID: id(w, "m2"), Spelled: "m2", Evidence: r.Evidence, Door: "test"})
		}},
		{name: "a code nobody made", rule: "code-unknown", change: func(_ *world, r *provisioning.RegisterRequest) { r.Evidence.Code[0]++ }},
		{name: "no certificate", rule: "code-without-request", change: func(_ *world, r *provisioning.RegisterRequest) { r.CSR = nil }},
		{name: "a renewal", rule: "renewal-needs-issued-certificate", change: func(_ *world, r *provisioning.RegisterRequest) { r.Renewal = true }},
		{name: "its last second over", rule: "code-expired", lifetime: time.Hour, then: func(w *world) { w.pass(time.Hour) }},
		{name: "revoked", rule: "code-unknown", then: func(w *world) {
			list, err := w.engine.Codes(w.ctx, provisioning.CodeFilter{})
			w.must(err)
			w.must(w.engine.RevokeCode(w.ctx, ann, list[0].Hash.Name()))
		}},
		{name: "replaced by a later one", rule: "code-unknown", then: func(w *world) { w.code("d1", "", 0) }},
		{name: "its entry disabled", rule: "enrollment-disabled", then: func(w *world) { w.enable(own, false) }},
		{name: "its entry deleted", rule: "code-orphaned", then: func(w *world) {
			w.must(w.engine.Delete(w.ctx, ann, own, provisioning.Precondition{Any: true}))
		}},
		{name: "its entry deleted and made again", rule: "code-orphaned", then: func(w *world) {
			w.must(w.engine.Delete(w.ctx, ann, own, provisioning.Precondition{Any: true}))
			w.pass(time.Second)
			w.keyed(provisioning.Individual, "d1")
		}},
		{name: "its group disabled", group: "g", rule: "enrollment-disabled", then: func(w *world) {
			w.enable(provisioning.Owner{Kind: provisioning.Group, ID: id(w, "g")}, false)
		}},
		{name: "its group deleted", group: "g", rule: "code-orphaned", then: func(w *world) {
			w.must(w.engine.Delete(w.ctx, ann, provisioning.Owner{Kind: provisioning.Group, ID: id(w, "g")}, provisioning.Precondition{Any: true}))
		}},
		{name: "an individual enrollment has come to decide", group: "g", rule: "code-not-enrolled", then: func(w *world) { w.keyed(provisioning.Individual, "m1") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			own.ID = id(w, "d1")
			w.keyed(provisioning.Individual, "d1")
			f := testkit.Chain(t, "root > mid > d1")
			w.anchor(f.Get("root"), true)
			w.group("g", f.Get("mid"))
			device := "d1"
			if tt.group != "" {
				device = "m1"
			}
			text := w.code(device, tt.group, tt.lifetime)
			if tt.then != nil {
				tt.then(w)
			}
			r := w.asking(w.typing(device, text))
			if tt.change != nil {
				tt.change(w, &r)
			}
			w.turnedAway(r, tt.rule)
		})
	}
}

func TestACodeIsGoodToTheEndOfItsLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keyed(provisioning.Individual, "d1")
	text := w.code("d1", "", time.Hour)
	w.pass(time.Hour - time.Microsecond)
	_, err := w.enroll(w.typing("d1", text))
	w.must(err)
}

// A device whose answer was lost asks again, and gets the certificate it was issued;
// another request gets nothing, and neither does the same one later.
func TestTheRequestACodeWasSpentOnMayBeRepeated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keyed(provisioning.Individual, "d1")
	w.pass(time.Second)
	r := w.asking(w.typing("d1", w.code("d1", "", 0)))
	first, err := w.engine.Register(w.ctx, r)
	w.must(err)
	w.pass(9 * time.Minute)
	again, err := w.engine.Register(w.ctx, r)
	w.must(err)
	if !bytes.Equal(first.Chain[0], again.Chain[0]) {
		t.Error("a repeated request got another certificate")
	}
	w.turnedAway(w.asking(r.Attempt), "code-spent")
	w.pass(2 * time.Minute)
	w.turnedAway(r, "code-spent")
}

func TestARequestThatGetsNothingSpendsNoCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keyed(provisioning.Individual, "d1")
	text := w.code("d1", "", 0)
	wrong := w.asking(w.typing("d1", text))
	wrong.CSR = testkit.CSR(t, testkit.NewKey(t, "p256"), "d2")
	if _, err := w.engine.Register(w.ctx, wrong); fault.RuleOf(err) != "csr-names-other-device" {
		t.Fatalf("got %v", err)
	}
	other := w.asking(w.typing("d1", text))
	other.Profile = "other"
	if _, err := w.engine.Register(w.ctx, other); fault.RuleOf(err) != "profile-not-allowed" {
		t.Fatalf("got %v", err)
	}
	_, err := w.enroll(w.typing("d1", text))
	w.must(err)
}

// Of many devices that type one code at once, one gets a certificate.
func TestACodeIsSpentOnceByManyAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keyed(provisioning.Individual, "d1")
	a := w.typing("d1", w.code("d1", "", 0))
	var all sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		r := w.asking(a)
		all.Go(func() { _, errs[i] = w.engine.Register(context.WithoutCancel(w.ctx), r) })
	}
	all.Wait()
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case fault.RuleOf(err) != "code-spent":
			t.Errorf("a loser got %v", err)
		}
	}
	if won != 1 || w.issued() != 1 {
		t.Errorf("%d of %d won", won, len(errs))
	}
	w.check()
}

func TestCodesThatCouldAdmitNobodyAreNotMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keyed(provisioning.Individual, "d1")
	w.keyed(provisioning.Individual, "off", disabled)
	w.keyed(provisioning.Individual, "bare", func(d *provisioning.Draft) { d.Profile = "" })
	w.keyed(provisioning.Group, "g")
	tests := map[string]struct {
		device, group string
		lifetime      time.Duration
		kind          fault.Kind
		rule          string
	}{
		"for a device nobody enrolled":        {"d9", "", 0, fault.NotFound, ""},
		"for a group that is not there":       {"d9", "h", 0, fault.NotFound, ""},
		"for a disabled enrollment":           {"off", "", 0, fault.Conflict, "code-entry-disabled"},
		"for one that issues no certificates": {"bare", "", 0, fault.Malformed, "code-without-profile"},
		"by a group that does not decide":     {"d1", "g", 0, fault.Conflict, "code-individual-decides"},
		"for no time":                         {"d1", "", time.Second, fault.Malformed, "code-lifetime"},
		"for too long":                        {"d1", "", 91 * 24 * time.Hour, fault.Malformed, "code-lifetime"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := provisioning.CodeRequest{ID: id(w, tt.device), Lifetime: tt.lifetime}
			if tt.group != "" {
				r.Group = id(w, tt.group)
			}
			_, _, err := w.engine.CreateCode(w.ctx, ann, r)
			if fault.KindOf(err) != tt.kind || tt.rule != "" && fault.RuleOf(err) != tt.rule {
				t.Errorf("got %v", err)
			}
		})
	}
	if n := w.found(audit.CodeMade); n != 0 {
		t.Errorf("%d codes are on record", n)
	}
}

func TestRevokingACode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keyed(provisioning.Individual, "d1")
	text := w.code("d1", "", 0)
	list, err := w.engine.Codes(w.ctx, provisioning.CodeFilter{ID: id(w, "d1")})
	w.must(err)
	name := list[0].Hash.Name()
	_, err = w.enroll(w.typing("d1", text))
	w.must(err)
	for given, rule := range map[string]string{name: "code-spent", "0123456789abcdef": "code-not-found", "nonsense": "code-name", "": "code-name", name + "00": "code-name"} {
		if err := w.engine.RevokeCode(w.ctx, ann, given); fault.RuleOf(err) != rule {
			t.Errorf("revoking %q: %v, want rule %q", given, err, rule)
		}
	}
}

// A group of certificates knows nothing of a device that a code let in but the code.
func TestExplainSaysThatACodeIsSpent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > d1")
	w.anchor(f.Get("root"), true)
	w.group("g", f.Get("mid"))
	leaf, err := w.enroll(w.typing("d1", w.code("d1", "g", 0)))
	w.must(err)
	x, err := w.engine.Explain(w.ctx, id(w, "d1"), nil)
	w.must(err)
	if !x.Admitted {
		t.Errorf("with its certificate: %v", x.Refused)
	}
	_, err = w.engine.Revoke(w.ctx, ann, "", serial(leaf), ca.Superseded)
	w.must(err)
	x, err = w.engine.Explain(w.ctx, id(w, "d1"), nil)
	w.must(err)
	if x.Admitted || fault.RuleOf(x.Refused) != "code-spent" {
		t.Errorf("without: %v, %v", x.Admitted, x.Refused)
	}
}

// INV-D1: what is disabled, or revoked, while a request is under way gets nothing, and
// the code that came with it is not spent by that.
func TestACodeMeetsAChangeThatCameBeforeItsCommit(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*world, provisioning.Owner)
		rule   string
		open   int
	}{
		"its group disabled": {func(w *world, g provisioning.Owner) { w.enable(g, false) }, "enrollment-disabled", 1},
		"its group deleted": {func(w *world, g provisioning.Owner) {
			w.must(w.engine.Delete(w.ctx, ann, g, provisioning.Precondition{Any: true}))
		}, "code-orphaned", 1},
		"itself revoked": {func(w *world, _ provisioning.Owner) {
			list, err := w.engine.Codes(w.ctx, provisioning.CodeFilter{})
			w.must(err)
			w.must(w.engine.RevokeCode(w.ctx, ann, list[0].Hash.Name()))
		}, "code-unknown", 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			f := testkit.Chain(t, "root > mid > d1")
			w.anchor(f.Get("root"), true)
			group := w.group("g", f.Get("mid"), custom)
			text := w.code("d1", "g", 0)
			done := false
			w.webhook.answer = func(provisioning.AllocationRequest) (provisioning.AllocationAnswer, error) {
				if !done {
					done = true
					tt.change(w, group.Owner)
				}
				return picked(builtIn), nil
			}
			_, err := w.engine.Register(w.ctx, w.asking(w.typing("d1", text)))
			if fault.RuleOf(err) != tt.rule || !done {
				t.Errorf("got %v, want a refusal by %q", err, tt.rule)
			}
			list, err := w.engine.Codes(w.ctx, provisioning.CodeFilter{})
			w.must(err)
			if len(list) != tt.open || tt.open == 1 && !list[0].UsedAt.IsZero() || w.issued() != 0 {
				t.Errorf("codes %+v, %d certificates", list, w.issued())
			}
			w.check()
		})
	}
}

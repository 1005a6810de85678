package provisioning_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// profile changes the default profile.
func (w *world) profile(edit func(*policies.Profile)) provisioning.Profile {
	w.t.Helper()
	p, err := w.engine.Profile(w.ctx, "default")
	w.must(err)
	edit(&p.Profile)
	p, err = w.engine.PutProfile(w.ctx, "operator:test", p.Profile, provisioning.Precondition{Any: true})
	w.must(err)
	return p
}

func lifetimes(list []provisioning.ProfileVersion) string {
	var out []string
	for _, v := range list {
		out = append(out, v.Lifetime.String())
	}
	return strings.Join(out, " ")
}

func TestEveryWriteOfAProfileIsAVersionThatCanBeReturnedTo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.profile(func(p *policies.Profile) { p.Lifetime = 48 * time.Hour })
	w.pass(time.Hour)
	w.profile(func(p *policies.Profile) { p.Lifetime = 24 * time.Hour })
	list, err := w.engine.ProfileVersions(w.ctx, "default", 0, 10)
	w.must(err)
	if lifetimes(list) != "24h0m0s 48h0m0s 2160h0m0s" || !list[0].At.Equal(w.clock) || list[0].Actor != "operator:test" {
		t.Fatalf("versions %v", list)
	}
	older, err := w.engine.ProfileVersions(w.ctx, "default", list[1].Version, 10)
	w.must(err)
	if lifetimes(older) != "2160h0m0s" {
		t.Errorf("before the second: %v", older)
	}
	back, err := w.engine.RollbackProfile(w.ctx, "operator:test", "default", list[1].Version, provisioning.Precondition{Version: list[0].Version})
	w.must(err)
	if back.Lifetime != 48*time.Hour || back.Version != list[0].Version+1 {
		t.Errorf("after the rollback: %v in version %d", back.Lifetime, back.Version)
	}
	rows, err := w.engine.Ledger(w.ctx, provisioning.LedgerFilter{Limit: 1, Action: audit.ProfileRolledBack})
	w.must(err)
	if len(rows) != 1 || !strings.Contains(string(rows[0].Body), fmt.Sprintf(`"to":%d`, list[1].Version)) {
		t.Errorf("on record: %v", rows)
	}
	_, err = w.engine.RollbackProfile(w.ctx, "operator:test", "default", 7, provisioning.Precondition{Any: true})
	if fault.RuleOf(err) != "profile-version-not-found" {
		t.Errorf("a version that never was: %v", err)
	}
	_, err = w.engine.RollbackProfile(w.ctx, "operator:test", "default", list[2].Version, provisioning.Precondition{Version: list[2].Version})
	if fault.RuleOf(err) != "etag-mismatch" {
		t.Errorf("over a version that has moved on: %v", err)
	}
}

func TestADeletedProfileKeepsItsVersions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := policies.DefaultProfile()
	p.Name, p.KeyReuse, p.Extensions = "gate", policies.KeyReuseNever, []string{"1.3.6.1.4.1.99999.1"}
	p.Names = &policies.Names{Permitted: policies.NameRules{DNS: []string{"*.plant.example"}}}
	first, err := w.engine.PutProfile(w.ctx, "operator:test", p, provisioning.Precondition{})
	w.must(err)
	w.must(w.engine.DeleteProfile(w.ctx, "operator:test", "gate", provisioning.Precondition{Any: true}))
	list, err := w.engine.ProfileVersions(w.ctx, "gate", 0, 10)
	w.must(err)
	if len(list) != 1 || list[0].Version != first.Version {
		t.Fatalf("versions %v", list)
	}
	w.pass(time.Second)
	_, err = w.engine.RollbackProfile(w.ctx, "operator:test", "gate", first.Version, provisioning.Precondition{})
	w.must(err)
	again, err := w.engine.Profile(w.ctx, "gate")
	w.must(err)
	if again.KeyReuse != p.KeyReuse || again.Names.Permitted.DNS[0] != "*.plant.example" || again.Extensions[0] != p.Extensions[0] || again.Version <= first.Version {
		t.Errorf("it came back as %+v", again)
	}
	if _, err := w.engine.ProfileVersions(w.ctx, "never", 0, 10); !fault.Is(err, fault.NotFound) {
		t.Errorf("versions of what never was: %v", err)
	}
}

func TestAProfileWhoseTemplateIsRefusedIsNotWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := policies.DefaultProfile()
	p.Template = `{"basicConstraints": {"isCA": true}, "extKeyUsage": ["clientAuth"]}`
	before := w.rows()
	_, err := w.engine.PutProfile(w.ctx, "operator:test", p, provisioning.Precondition{Any: true})
	if f := fault.As(err); f == nil || f.Rule != "template-makes-ca" || f.Kind != fault.Malformed || f.Fields[0].Pointer != "/template" {
		t.Errorf("got %v", err)
	}
	if w.rows() != before {
		t.Error("the refusal is on record as a change")
	}
}

func TestKeysAreUsedAgainAsTheProfileSays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rule              policies.KeyReuse
		other, own, birth string // what a key used before is refused by
	}{
		{rule: policies.KeyReuseAllowed},
		{rule: policies.KeyReuseOwnOnly, other: "key-reused"},
		{rule: policies.KeyReuseNever, other: "key-reused", own: "key-reused", birth: "key-reused"},
	} {
		t.Run("reuse "+string(c.rule), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			f := testkit.Chain(t, "root > mid > d1; mid > d2")
			w.anchor(f.Get("root"), true)
			w.group("g", f.Get("mid"))
			w.profile(func(p *policies.Profile) { p.KeyReuse = c.rule })
			d1, d2 := w.presenting("d1", f.Get("d1").Chain()...), w.presenting("d2", f.Get("d2").Chain()...)
			key := testkit.NewKey(t, "p256")
			first, err := w.enrollKey(d1, key)
			w.must(err)
			w.pass(time.Hour)
			expect := func(what string, err error, rule string) {
				t.Helper()
				if fault.RuleOf(err) != rule || rule != "" && fault.KindOf(err) != fault.Malformed {
					t.Errorf("%s: %v (rule %q), want rule %q", what, err, fault.RuleOf(err), rule)
				}
			}
			rows := w.rows()
			_, err = w.enrollKey(d2, key)
			expect("another device with the key", err, c.other)
			if c.other != "" && w.rows() != rows {
				t.Error("the refusal left something on record")
			}
			_, err = w.enrollKey(d1, key)
			expect("the device with its key once more", err, c.own)
			_, err = w.enrollKey(w.presenting("d1", first), key)
			expect("a renewal with the key renewed", err, c.own)
			_, err = w.enrollKey(d1, f.Get("d1").Key)
			expect("the key that attests the device", err, c.birth)
			_, err = w.enrollKey(w.presenting("d1", first), testkit.NewKey(t, "p256"))
			expect("a renewal with a new key", err, "")
		})
	}
}

func TestAKeyThatCameBeforeTheRuleIsRefusedWhereTheRecordShowsIt(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	key := testkit.NewKey(t, "p256")
	first, err := w.enrollKey(device, key)
	w.must(err)
	w.profile(func(p *policies.Profile) { p.KeyReuse = policies.KeyReuseNever })
	w.pass(time.Hour)
	if _, err := w.enrollKey(w.presenting("d1", first), key); fault.RuleOf(err) != "key-reused" {
		t.Errorf("a renewal with the key renewed: %v", err)
	}
}

func TestBlockedKeysGetNoCertificate(t *testing.T) {
	t.Parallel()
	w, device := factory(t)
	key := testkit.NewKey(t, "p256")
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	w.must(err)
	list, err := policies.ReadBlockList(strings.NewReader(verify.KeyHashOf(spki).String() + " # leaked\n"))
	w.must(err)
	w.engine.SetBlockList(list)
	if _, err := w.enrollKey(device, key); fault.RuleOf(err) != "key-blocked" || fault.KindOf(err) != fault.Malformed {
		t.Errorf("a blocked key: %v", err)
	}
	_, err = w.enroll(device)
	w.must(err)
	w.engine.SetBlockList(nil)
	_, err = w.enrollKey(device, key)
	w.must(err)
}

func TestRecentRequestsSurviveARestartAndHoldNoSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.keyed(provisioning.Individual, "d1")
	tried := func() int {
		t.Helper()
		got, err := w.engine.TestProfile(w.ctx, policies.DefaultProfile(), provisioning.ProfileTestScope{})
		w.must(err)
		return got.Requests
	}
	_, err := w.enroll(w.signing("d1", key))
	w.must(err)
	_, err = w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: w.signing("d1", key), CSR: testkit.CSR(t, testkit.NewKey(t, "p256"), "d2")})
	if fault.RuleOf(err) != "csr-names-other-device" {
		t.Fatal(err)
	}
	challenge := pkix.AttributeTypeAndValueSET{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}, Value: [][]pkix.AttributeTypeAndValue{{{Type: asn1.ObjectIdentifier{1, 2, 3}, Value: "secret"}}}}
	withSecret := testkit.CSR(t, testkit.NewKey(t, "p256"), "d1", func(r *x509.CertificateRequest) { r.Attributes = append(r.Attributes, challenge) }) //nolint:staticcheck // the one way to set it
	_, err = w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: w.signing("d1", key), CSR: withSecret})
	w.must(err)
	_, err = w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: w.signing("d1", []byte("no key of its own, by far")), CSR: testkit.CSR(t, testkit.NewKey(t, "p256"), "d1")})
	if fault.KindOf(err) != fault.Unauthenticated {
		t.Fatal(err)
	}
	if n := tried(); n != 2 {
		t.Errorf("%d requests kept, want the answered and the refused one of a device that proved itself", n)
	}
	w.must(w.engine.SaveRecentRequests(w.ctx, w.db.ProvisioningJobs()))
	w.must(w.engine.SaveRecentRequests(w.ctx, w.db.ProvisioningJobs()))
	if n := tried(); n != 2 {
		t.Errorf("%d requests once they are saved, want 2", n)
	}
	w.restart()
	if n := tried(); n != 2 {
		t.Errorf("%d requests after a restart, want 2", n)
	}
	_, err = w.enroll(w.signing("d1", key))
	w.must(err)
	if n := tried(); n != 3 {
		t.Errorf("%d requests with one that is not saved yet, want 3", n)
	}
}

func TestAChangeOfAProfileIsTriedOnWhatDevicesSent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	group := w.keyed(provisioning.Group, "g")
	enroll := func(name, kind string) {
		t.Helper()
		_, err := w.enrollKey(w.signing(name, derive(group, name)), testkit.NewKey(t, kind))
		w.must(err)
	}
	enroll("d1", "p256")
	enroll("d2", "p384")
	_, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: w.signing("d3", derive(group, "d3")), CSR: testkit.CSR(t, testkit.NewKey(t, "p256"), "d3", func(r *x509.CertificateRequest) { r.DNSNames = []string{"d3.plant.example"} })})
	if fault.RuleOf(err) != "csr-names-other-device" {
		t.Fatal(err)
	}
	rows := w.rows()
	for name, c := range map[string]struct {
		change                           func(*policies.Profile)
		scope                            provisioning.ProfileTestScope
		same, changed, refused, admitted int
		example                          string
	}{
		"nothing": {change: func(*policies.Profile) {}, same: 3},
		"a shorter life": {
			change: func(p *policies.Profile) { p.Lifetime = 24 * time.Hour }, changed: 2, same: 1,
			example: "d2: lifetime 2160h0m0s → 24h0m0s",
		},
		"fewer keys": {
			change: func(p *policies.Profile) { p.Keys = []policies.KeyType{policies.KeyECP256} }, refused: 1, same: 2,
			example: "d2: refused by key-type-not-allowed",
		},
		"more names": {
			change: func(p *policies.Profile) {
				p.Names = &policies.Names{Permitted: policies.NameRules{DNS: []string{"*.plant.example"}}}
			},
			same: 2, admitted: 1, example: "d3: admitted",
		},
		"other names": {
			change: func(p *policies.Profile) {
				p.Names = &policies.Names{Permitted: policies.NameRules{DNS: []string{"*.other.example"}}}
			}, same: 3,
		},
		"ids that are excluded": {
			change: func(p *policies.Profile) {
				p.Names = &policies.Names{Excluded: policies.NameRules{CommonName: []string{"d1"}}}
			}, same: 2, refused: 1,
			example: "d1: refused by name-not-permitted",
		},
		"another usage, for the newest alone": {
			change: func(p *policies.Profile) { p.ExtKeyUsage = append(p.ExtKeyUsage, x509.ExtKeyUsageServerAuth) }, scope: provisioning.ProfileTestScope{Last: 2}, same: 1, changed: 1,
			example: "d2: extKeyUsage clientAuth → clientAuth, serverAuth",
		},
	} {
		p := policies.DefaultProfile()
		c.change(&p)
		c.scope.Examples = 1
		got, err := w.engine.TestProfile(w.ctx, p, c.scope)
		w.must(err)
		if got.Same != c.same || got.Changed != c.changed || got.Refused != c.refused || got.Admitted != c.admitted || got.Requests != c.same+c.changed+c.refused+c.admitted {
			t.Errorf("%s: %+v", name, got)
		}
		example := ""
		for _, x := range got.Examples {
			switch {
			case x.After != nil:
				example = x.ID.String() + ": refused by " + x.After.Rule
			case x.Before != nil:
				example = x.ID.String() + ": admitted"
			default:
				example = fmt.Sprintf("%s: %s %s → %s", x.ID, x.Changes[0].Field, x.Changes[0].Old, x.Changes[0].New)
			}
		}
		if example != c.example {
			t.Errorf("%s: example %q, want %q", name, example, c.example)
		}
	}
	if w.rows() != rows {
		t.Error("trying changes wrote something")
	}
	other := policies.DefaultProfile()
	other.Name = "other"
	if _, err := w.engine.TestProfile(w.ctx, other, provisioning.ProfileTestScope{}); !fault.Is(err, fault.NotFound) {
		t.Errorf("a profile that is not there: %v", err)
	}
	other.Name = "second"
	_, err = w.engine.PutProfile(w.ctx, "operator:test", other, provisioning.Precondition{})
	w.must(err)
	none, err := w.engine.TestProfile(w.ctx, other, provisioning.ProfileTestScope{})
	w.must(err)
	every, err := w.engine.TestProfile(w.ctx, other, provisioning.ProfileTestScope{All: true})
	w.must(err)
	if none.Requests != 0 || none.Untouched != 3 || every.Requests != 3 {
		t.Errorf("of other profiles: %+v, %+v", none, every)
	}
}

package ca_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/policies"
)

const day = 24 * time.Hour

func autoPlan() policies.RotationPlan {
	return policies.RotationPlan{Name: "issuers", Role: policies.RollIssuers, PrepareAt: 0.6, Auto: true, Publish: 30 * day}
}

func schedule(plans ...policies.RotationPlan) ca.Schedule {
	return ca.Schedule{Plans: plans, Lifetime: leafLife}
}

func (w *world) roll(t testing.TB, s ca.Schedule) {
	t.Helper()
	if _, err := w.SweepIssuerRoll(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := w.SweepIssuers(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// only is the one issuing CA in a state; none is the zero Issuer.
func (w *world) only(t testing.TB, state ca.IssuerState) (found ca.Issuer) {
	t.Helper()
	for _, i := range w.store.read().issuers {
		if i.Role == ca.RoleIssuing && i.State == state {
			if found.ID != "" {
				t.Fatalf("two issuing CAs are %s: %s and %s", state, found.Name, i.Name)
			}
			found = i
		}
	}
	return found
}

func parsed(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Scenario H13.
func TestIssuingCAsFollowEachOtherOnSchedule(t *testing.T) {
	w, root, first := newHierarchy(t, "")
	s := schedule(autoPlan())
	prepared := map[ca.IssuerID]time.Time{}
	type leaf struct {
		row  ca.Certificate
		cert *x509.Certificate
	}
	var leaves []leaf
	seen := []ca.IssuerID{first.ID}
	for end := w.now.AddDate(11, 0, 0); w.now.Before(end); w.now = w.now.Add(10 * day) {
		w.roll(t, s)
		if next := w.only(t, ca.IssuerPrepared); next.ID != "" && prepared[next.ID].IsZero() {
			prepared[next.ID] = w.now
		}
		active := w.only(t, ca.IssuerActive)
		if active.ID == "" {
			t.Fatalf("at %s nobody signs", w.now)
		}
		if now := seen[len(seen)-1]; active.ID != now {
			seen = append(seen, active.ID)
			if since := prepared[active.ID]; since.IsZero() || w.now.Sub(since) < 30*day {
				t.Errorf("%s signs at %s and has been in the bundle since %s", active.Name, w.now, since)
			}
		}
		row, c := w.enrolled(t, "dev")
		if row.Issuer != active.ID || c.NotAfter.Sub(w.now) < 29*day {
			t.Fatalf("signed by %s, until %s: cut short", row.Issuer, c.NotAfter)
		}
		leaves = append(leaves, leaf{row, c})
		bundle := w.Bundle()
		for _, l := range leaves {
			if l.cert.NotAfter.Before(w.now) {
				continue
			}
			issuer := w.store.read().issuer(l.row.Issuer)
			if l.cert.CheckSignatureFrom(parsed(t, issuer.Certificate)) != nil || issuer.State == ca.IssuerRetired ||
				!slices.ContainsFunc(bundle, func(der []byte) bool { return bytes.Equal(der, issuer.Certificate) }) {
				t.Fatalf("at %s a leaf good until %s is below %s, which is %s", w.now, l.cert.NotAfter, issuer.Name, issuer.State)
			}
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d issuing CAs in eleven years, want 4", len(seen))
	}
	var names []string
	for _, i := range w.store.read().issuers {
		if i.ID != root.ID {
			names = append(names, i.Name)
		}
	}
	if got := strings.Join(names, ", "); !strings.HasPrefix(got, "Test Issuing, Test Issuing 2, Test Issuing 3") {
		t.Errorf("issuers %s", got)
	}
	last := leaves[len(leaves)-1]
	if out, good := opensslTrusts(t, w.now, root.Certificate, w.Chain(last.row.Issuer)[:1], last.cert.Raw); !good {
		t.Error(out)
	}
}

// notices are what the ledger tells of issuers, as "action name reason".
func (w *world) notices(t testing.TB) (all []string, run string) {
	t.Helper()
	for _, e := range w.store.read().ledger {
		if e.Action != audit.RollTold && e.Action != audit.RollStuck {
			continue
		}
		var body struct{ Name, Reason, Run string }
		if err := json.Unmarshal(e.Body, &body); err != nil {
			t.Fatal(err)
		}
		all = append(all, string(e.Action)+" "+body.Name+" "+body.Reason)
		if body.Run != "" {
			run = body.Run
		}
	}
	return all, run
}

func TestWhatIsDoneAboutAnIssuerThatIsDue(t *testing.T) {
	at := func(years float64) func(*testing.T, *world) {
		return func(_ *testing.T, w *world) { w.now = w.now.Add(time.Duration(years * 365 * float64(day))) }
	}
	for name, tt := range map[string]struct {
		plan   func(*policies.RotationPlan)
		none   bool // no plan at all
		before func(*testing.T, *world)
		made   bool
		told   string // the notices, joined
		run    string // begins the last command
	}{
		"before it is due":                       {before: at(2.9)},
		"due, with auto":                         {before: at(3.1), made: true},
		"due, without a plan":                    {before: at(3.4), none: true, told: "roll.told Test Issuing successor-due", run: `muster ca create "Test Issuing 2" --parent `},
		"due, without auto":                      {before: at(3.1), plan: func(p *policies.RotationPlan) { p.Auto = false }, told: "roll.told Test Issuing successor-due", run: `muster ca create "Test Issuing 2" --parent `},
		"due, and the plan is paused":            {before: at(3.1), plan: func(p *policies.RotationPlan) { p.Paused = true }},
		"due, and the window is closed":          {before: at(3.1), plan: func(p *policies.RotationPlan) { p.Windows = policies.Windows{{Opens: "0 2 29 2 *", Length: time.Hour}} }},
		"due, and the plan is for a profile":     {before: at(3.1), plan: func(p *policies.RotationPlan) { p.Profiles = []string{"edge"} }},
		"due, and the plan is of another role":   {before: at(3.1), plan: func(p *policies.RotationPlan) { p.Role = policies.RollKeys }},
		"late without a plan":                    {before: at(4.8), none: true, told: "roll.told Test Issuing successor-due, roll.stuck Test Issuing successor-late", run: "muster ca create"},
		"due, and the next one was made by hand": {before: func(t *testing.T, w *world) { at(3.4)(t, w); w.prepare(t); w.now = w.now.Add(day) }, none: true, told: "roll.told Test Issuing successor-published", run: "muster ca promote "},
		"the root's key is elsewhere": {before: func(t *testing.T, w *world) {
			at(3.1)(t, w)
			w.store.rows.issuers[0].KeyURI = ""
		}, told: "roll.told Test Issuing successor-due", run: `muster ca create "Test Issuing 2" --csr-out `},
		"the root ends before the next one would": {before: func(t *testing.T, w *world) {
			w.now = w.now.AddDate(16, 0, 0)
			next := w.prepare(t)
			w.promote(t, next)
			w.now = w.now.AddDate(3, 6, 0)
		}, told: "roll.told Test Root successor-due, roll.stuck Test Root successor-late, roll.told Test Issuing 2 successor-due, roll.stuck Test Issuing 2 successor-late", run: `muster ca create "Test Issuing 3" --csr-out `},
	} {
		t.Run(name, func(t *testing.T) {
			w, _, _ := newHierarchy(t, "")
			p := autoPlan()
			if tt.plan != nil {
				tt.plan(&p)
			}
			s := schedule(p)
			if tt.none {
				s = schedule()
			}
			tt.before(t, w)
			before := len(w.store.read().issuers)
			w.roll(t, s)
			w.roll(t, s)
			if made := len(w.store.read().issuers) > before; made != tt.made {
				t.Errorf("a successor was made: %v", made)
			}
			told, run := w.notices(t)
			if got := strings.Join(told, ", "); got != tt.told || !strings.HasPrefix(run, tt.run) {
				t.Errorf("told %q, to run %q", got, run)
			}
		})
	}
}

// prepare makes a next issuing CA by hand.
func (w *world) prepare(t testing.TB) ca.IssuerID {
	t.Helper()
	return w.issuing(t, w.store.read().issuers[0].ID, ca.IssuingRequest{Name: "Test Issuing 2"}).ID
}

// interruptedKeys has something happen while a key is made.
type interruptedKeys struct {
	ca.Keys
	meanwhile func()
}

func (k *interruptedKeys) Create(ctx context.Context, name string, kt policies.KeyType) (string, crypto.Signer, error) {
	if f := k.meanwhile; f != nil {
		k.meanwhile = nil
		f()
	}
	return k.Keys.Create(ctx, name, kt)
}

func TestTwoProcessesMakeOneSuccessor(t *testing.T) {
	for name, publish := range map[string]time.Duration{"that waits": 30 * day, "that is promoted at once": 0} {
		t.Run(name, func(t *testing.T) {
			w, _, _ := newHierarchy(t, "")
			p := autoPlan()
			p.Publish = publish
			s := schedule(p)
			w.now = w.now.AddDate(3, 1, 0)
			slow := &interruptedKeys{Keys: w.keys, meanwhile: func() { w.roll(t, s); w.roll(t, s) }}
			other, err := ca.New(t.Context(), w.store, slow, ca.Config{PKIURL: "http://pki.example/"}, func() time.Time { return w.now })
			if err != nil {
				t.Fatal(err)
			}
			if _, err := other.SweepIssuerRoll(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			w.roll(t, s)
			w.only(t, ca.IssuerActive)
			if n := len(w.store.read().issuers); n != 3 {
				t.Errorf("%d issuers, want the root and two", n)
			}
		})
	}
}

func TestACrashWhileASuccessorIsMadeOrPromotedLeavesOne(t *testing.T) {
	boom := errors.New("power cut")
	for name, kept := range map[string]bool{"lost": false, "kept": true} {
		t.Run(name, func(t *testing.T) {
			w, _, _ := newHierarchy(t, "")
			s := schedule(autoPlan())
			for _, pass := range []time.Duration{3 * 366 * day, 31 * day} {
				w.now = w.now.Add(pass)
				if kept {
					w.store.afterCommit = func() error { return boom }
				} else {
					w.store.beforeCommit = func() error { return boom }
				}
				if _, err := w.SweepIssuerRoll(t.Context(), s); !errors.Is(err, boom) {
					t.Fatalf("the crash: %v", err)
				}
				w.store.beforeCommit, w.store.afterCommit = nil, nil
				w.roll(t, s)
				w.only(t, ca.IssuerActive)
			}
			if n := len(w.store.read().issuers); n != 3 || w.only(t, ca.IssuerActive).Name != "Test Issuing 2" {
				t.Errorf("%d issuers, active %s", n, w.only(t, ca.IssuerActive).Name)
			}
		})
	}
}

func TestARootMadeElsewhereFollowsTheOldOne(t *testing.T) {
	w, o := newClockedWorld(t), newOutside(t)
	old, err := w.CreateRoot(t.Context(), operator, ca.RootRequest{Name: "Old Root"})
	if err != nil {
		t.Fatal(err)
	}
	one := w.issuing(t, old.ID, ca.IssuingRequest{Name: "Issuing"})
	_, oldLeaf := w.enrolled(t, "dev-1")

	// Offline: the new root, whose key never comes here.
	o.root("next", "New Root", 2, 7300, "sha256")
	next, err := w.Import(t.Context(), operator, ca.ImportRequest{Chain: []*x509.Certificate{o.certificate("next")}})
	if err != nil || next.State != ca.IssuerPrepared || next.KeyURI != "" {
		t.Fatalf("%+v, %v", next, err)
	}
	cross, err := w.CrossSign(t.Context(), operator, next.ID, old.ID)
	if err != nil {
		t.Fatal(err)
	}
	r := w.request(t, "Issuing 2")
	signed := o.sign("next", r.CSR, "", "-copy_extensions", "copyall", "-days", "1825")
	two, err := w.Import(t.Context(), operator, ca.ImportRequest{Chain: []*x509.Certificate{signed}, Lifetime: leafLife})
	if err != nil || two.State != ca.IssuerPrepared || two.Parent != next.ID {
		t.Fatalf("%+v, %v", two, err)
	}
	for name, der := range map[string][]byte{"the old root": old.Certificate, "the new root": next.Certificate, "new by old": cross.Certificate, "the next issuing CA": two.Certificate} {
		if !slices.ContainsFunc(w.Bundle(), func(in []byte) bool { return bytes.Equal(in, der) }) {
			t.Errorf("before its first use %s is not in the bundle", name)
		}
	}
	w.promote(t, two.ID)
	w.promote(t, next.ID)
	_, newLeaf := w.enrolled(t, "dev-2")
	for name, tt := range map[string]struct {
		root, leaf []byte
		good       bool
	}{
		"an old leaf, under the old root": {old.Certificate, oldLeaf.Raw, true},
		"a new leaf, under the old root":  {old.Certificate, newLeaf.Raw, true},
		"a new leaf, under the new root":  {next.Certificate, newLeaf.Raw, true},
	} {
		between := [][]byte{one.Certificate, two.Certificate, cross.Certificate}
		if out, good := opensslTrusts(t, w.now, tt.root, between, tt.leaf); good != tt.good {
			t.Errorf("%s: %v %s", name, good, out)
		}
	}
}

package provisioning_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
)

const day = 24 * time.Hour

// sweep works off the entries that are due.
func (w *world) sweep() {
	w.t.Helper()
	for more := true; more; {
		var err error
		more, err = w.engine.SweepEntries(w.ctx, w.db.ProvisioningJobs())
		w.must(err)
	}
	w.check()
}

// stage stages a certificate and insists on success.
func (w *world) stage(o provisioning.Owner, e *testkit.Entity) {
	w.t.Helper()
	_, _, err := w.engine.StageCredential(w.ctx, "operator:test", o, provisioning.Staging{Certificate: e.PEM()}, provisioning.Precondition{})
	w.must(err)
	w.check()
}

// states are the slots of an entry as "primary active, secondary staged".
func (w *world) states(o provisioning.Owner) string {
	w.t.Helper()
	en, err := w.engine.Enrollment(w.ctx, o)
	w.must(err)
	var out []string
	for _, c := range en.Credentials {
		out = append(out, c.Slot.String()+" "+c.State.String())
	}
	return strings.Join(out, ", ")
}

func (w *world) wantStates(o provisioning.Owner, want string) {
	w.t.Helper()
	if got := w.states(o); got != want {
		w.t.Fatalf("the slots are %q, want %q", got, want)
	}
}

// told counts the ledger's rows about an entry by action.
func (w *world) told(o provisioning.Owner, action audit.Action) int {
	w.t.Helper()
	subject := strings.Replace(o.String(), " ", ":", 1)
	list, err := w.engine.Ledger(w.ctx, provisioning.LedgerFilter{Subject: subject, Action: action, Limit: 500})
	w.must(err)
	return len(list)
}

// H1, H2: there and back ten times, and never a moment without an accepted certificate.
func TestAnEnrolledCertificateRollsThereAndBackTenTimes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := testkit.Root(t, "factory")
	leaf := func(n int) *testkit.Entity {
		return root.Issue(t, "pump-1", testkit.WithDates(w.clock.Add(-time.Hour), w.clock.Add(time.Duration(400+n)*day)))
	}
	current := leaf(0)
	en := w.individual("pump-1", current, nil)
	created := w.assigned(w.presenting("pump-1", current.Cert)).State
	first := w.registration("pump-1").Created
	for n := range 10 {
		next := leaf(n + 1)
		w.stage(en.Owner, next)
		w.sweep()
		slots := []string{"primary", "secondary"}
		is, to := slots[n%2], slots[(n+1)%2]
		both := func(isState, toState string) string {
			out := []string{is + " " + isState, to + " " + toState}
			slices.Sort(out)
			return strings.Join(out, ", ")
		}
		w.wantStates(en.Owner, both("active", "staged"))
		w.assigned(w.presenting("pump-1", current.Cert)) // both admit
		w.pass(time.Hour)
		w.assigned(w.presenting("pump-1", next.Cert))
		w.sweep()
		w.wantStates(en.Owner, both("retiring", "active"))
		w.pass(23 * time.Hour)
		w.sweep()
		w.wantStates(en.Owner, both("retiring", "active"))
		w.pass(time.Hour)
		w.sweep()
		w.wantStates(en.Owner, to+" active")
		w.refused(w.presenting("pump-1", current.Cert), "certificate-not-enrolled")
		w.assigned(w.presenting("pump-1", next.Cert))
		current = next
	}
	for action, want := range map[audit.Action]int{audit.RollStaged: 10, audit.RollSeen: 10, audit.RollRetired: 10, audit.RollPromoted: 0, audit.RollStuck: 0, audit.EnrollmentCreated: 1} {
		if got := w.told(en.Owner, action); got != want {
			t.Errorf("%d rows say %s, want %d", got, action, want)
		}
	}
	if reg := w.registration("pump-1"); created != provisioning.Assigned || !reg.Created.Equal(first) {
		t.Errorf("the registration was made %s, want %s", reg.Created, first)
	}
}

// H10: what nobody follows stays.
func TestADeviceThatDoesNotFollowKeepsItsOldCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := testkit.Root(t, "factory")
	until := func(days int) testkit.Option {
		return testkit.WithDates(w.clock.Add(-time.Hour), w.clock.Add(time.Duration(days)*day))
	}
	a, b := root.Issue(t, "dev-1", until(300)), root.Issue(t, "dev-1", until(600))
	en := w.individual("dev-1", a, nil)
	w.assigned(w.presenting("dev-1", a.Cert))
	w.stage(en.Owner, b)
	_, err := w.engine.PromoteCredential(w.ctx, "operator:test", en.Owner, provisioning.Precondition{})
	w.must(err)
	w.wantStates(en.Owner, "primary retiring, secondary active")
	for range 5 {
		w.pass(2 * day)
		w.sweep()
		w.wantStates(en.Owner, "primary retiring, secondary active")
	}
	if n := w.told(en.Owner, audit.RollStuck); n != 1 {
		t.Errorf("%d rows say that it is stuck, want 1", n)
	}
	w.assigned(w.presenting("dev-1", b.Cert))
	w.assigned(w.presenting("dev-1", a.Cert)) // and goes back
	w.sweep()
	w.wantStates(en.Owner, "primary retiring, secondary active")
	w.assigned(w.presenting("dev-1", b.Cert))
	w.sweep()
	w.wantStates(en.Owner, "secondary active")
}

func TestWhatCannotFollowIsNotStaged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := testkit.Root(t, "root")
	w.anchor(root, true)
	ends := func(days int) testkit.Option {
		return testkit.WithDates(w.clock.AddDate(0, 0, -700), w.clock.Add(time.Duration(days)*day))
	}
	current := root.Issue(t, "dev-1", ends(300))
	en := w.individual("dev-1", current, nil)
	elsewhere := root.Issue(t, "dev-1", ends(900))
	w.must(w.engine.Delete(w.ctx, "operator:test", w.individual("dev-2", root.Issue(t, "dev-2", ends(400)), nil).Owner, provisioning.Precondition{Any: true}))
	mid := root.Issue(t, "mid", testkit.AsCA(), ends(500))
	group := w.group("g", mid)
	w.group("other", root.Issue(t, "mid-held", testkit.AsCA(), ends(800)))
	held := root.Issue(t, "mid-2", testkit.AsCA(), ends(800))
	w.group("holder", held)
	keyed := w.put(provisioning.Individual, "dev-3", provisioning.Attestation{Role: provisioning.RoleKey})
	unverified := testkit.Root(t, "new-root")
	w.anchor(unverified, false)
	refs := w.reference("refs", root)
	stranger := testkit.Root(t, "stranger").Issue(t, "mid-3", testkit.AsCA(), ends(900))
	for name, tc := range map[string]struct {
		owner provisioning.Owner
		stage provisioning.Staging
		kind  fault.Kind
		rule  string
	}{
		"another device's name":                {en.Owner, provisioning.Staging{Certificate: root.Issue(t, "dev-9", ends(900)).PEM()}, fault.Malformed, "client-certificate-name"},
		"a CA for a device":                    {en.Owner, provisioning.Staging{Certificate: root.Issue(t, "dev-1", testkit.AsCA(), ends(900)).PEM()}, fault.Malformed, "client-certificate-is-ca"},
		"a leaf for a group":                   {group.Owner, provisioning.Staging{Certificate: elsewhere.PEM()}, fault.Malformed, "signing-certificate-not-ca"},
		"the key of the one that it follows":   {en.Owner, provisioning.Staging{Certificate: root.Issue(t, "dev-1", testkit.WithKey(current.Key), ends(900)).PEM()}, fault.Conflict, "same-key"},
		"the one that stands there":            {en.Owner, provisioning.Staging{Certificate: current.PEM()}, fault.Conflict, "already-staged"},
		"one that ends before":                 {en.Owner, provisioning.Staging{Certificate: root.Issue(t, "dev-1", ends(299)).PEM()}, fault.Conflict, "ends-before-current"},
		"one that ends with it":                {en.Owner, provisioning.Staging{Certificate: root.Issue(t, "dev-1", ends(300)).PEM()}, fault.Conflict, "ends-before-current"},
		"one that has ended":                   {en.Owner, provisioning.Staging{Certificate: root.Issue(t, "dev-1", ends(-1)).PEM()}, fault.Conflict, "certificate-expired"},
		"a CA that another group holds":        {group.Owner, provisioning.Staging{Certificate: held.PEM()}, fault.Conflict, "held-elsewhere"},
		"a CA below nothing that was verified": {group.Owner, provisioning.Staging{Certificate: stranger.PEM()}, fault.Conflict, "chain-not-trusted"},
		"an anchor that proved nothing":        {refs.Owner, provisioning.Staging{Anchor: "new-root"}, fault.Malformed, "anchor-not-verified"},
		"an anchor that there is not":          {refs.Owner, provisioning.Staging{Anchor: "nothing"}, fault.Malformed, "anchor-unknown"},
		"a certificate beside an anchor":       {refs.Owner, provisioning.Staging{Certificate: mid.PEM()}, fault.Malformed, "attestation-mismatch"},
		"a certificate beside keys":            {keyed.Owner, provisioning.Staging{Certificate: elsewhere.PEM()}, fault.Conflict, "attestation-mismatch"},
		"nothing":                              {en.Owner, provisioning.Staging{}, fault.Malformed, "attestation"},
		"no certificate":                       {en.Owner, provisioning.Staging{Certificate: []byte("nonsense")}, fault.Malformed, ""},
		"an entry that there is not":           {provisioning.Owner{ID: id(w, "gone")}, provisioning.Staging{Certificate: elsewhere.PEM()}, fault.NotFound, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := w.engine.StageCredential(w.ctx, "operator:test", tc.owner, tc.stage, provisioning.Precondition{})
			if fault.KindOf(err) != tc.kind || tc.rule != "" && fault.RuleOf(err) != tc.rule {
				t.Errorf("got %v (%s, %q), want %s, %q", err, fault.KindOf(err), fault.RuleOf(err), tc.kind, tc.rule)
			}
		})
	}
	w.wantStates(en.Owner, "primary active")
	_, _, err := w.engine.StageCredential(w.ctx, "operator:test", en.Owner,
		provisioning.Staging{Certificate: root.Issue(t, "dev-1", testkit.WithKey(current.Key), ends(900)).PEM(), SameKey: true}, provisioning.Precondition{})
	w.must(err)
	_, _, err = w.engine.StageCredential(w.ctx, "operator:test", en.Owner, provisioning.Staging{Certificate: elsewhere.PEM()}, provisioning.Precondition{})
	if fault.RuleOf(err) != "slot-taken" {
		t.Errorf("a third certificate: %v", err)
	}
}

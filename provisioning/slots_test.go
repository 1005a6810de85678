package provisioning_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

const oneDay = 24 * time.Hour

// sweepEntries works off the entries that are due.
func (w *world) sweepEntries() {
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

// said counts the ledger's rows about an entry by action.
func (w *world) said(o provisioning.Owner, action audit.Action) int {
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
		return root.Issue(t, "pump-1", testkit.WithDates(w.clock.Add(-time.Hour), w.clock.Add(time.Duration(400+n)*oneDay)))
	}
	current := leaf(0)
	en := w.individual("pump-1", current, nil)
	created := w.assigned(w.presenting("pump-1", current.Cert)).State
	first := w.registration("pump-1").Created
	for n := range 10 {
		next := leaf(n + 1)
		w.stage(en.Owner, next)
		w.sweepEntries()
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
		w.sweepEntries()
		w.wantStates(en.Owner, both("retiring", "active"))
		w.pass(23 * time.Hour)
		w.sweepEntries()
		w.wantStates(en.Owner, both("retiring", "active"))
		w.pass(time.Hour)
		w.sweepEntries()
		w.wantStates(en.Owner, to+" active")
		w.refused(w.presenting("pump-1", current.Cert), "certificate-not-enrolled")
		w.assigned(w.presenting("pump-1", next.Cert))
		current = next
	}
	for action, want := range map[audit.Action]int{audit.RollStaged: 10, audit.RollSeen: 10, audit.RollRetired: 10, audit.RollPromoted: 0, audit.RollStuck: 0, audit.EnrollmentCreated: 1} {
		if got := w.said(en.Owner, action); got != want {
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
		return testkit.WithDates(w.clock.Add(-time.Hour), w.clock.Add(time.Duration(days)*oneDay))
	}
	a, b := root.Issue(t, "dev-1", until(300)), root.Issue(t, "dev-1", until(600))
	en := w.individual("dev-1", a, nil)
	w.assigned(w.presenting("dev-1", a.Cert))
	w.stage(en.Owner, b)
	_, err := w.engine.PromoteCredential(w.ctx, "operator:test", en.Owner, provisioning.Precondition{})
	w.must(err)
	w.wantStates(en.Owner, "primary retiring, secondary active")
	for range 5 {
		w.pass(2 * oneDay)
		w.sweepEntries()
		w.wantStates(en.Owner, "primary retiring, secondary active")
	}
	if n := w.said(en.Owner, audit.RollStuck); n != 1 {
		t.Errorf("%d rows say that it is stuck, want 1", n)
	}
	w.assigned(w.presenting("dev-1", b.Cert))
	w.assigned(w.presenting("dev-1", a.Cert)) // and goes back
	w.sweepEntries()
	w.wantStates(en.Owner, "primary retiring, secondary active")
	w.assigned(w.presenting("dev-1", b.Cert))
	w.sweepEntries()
	w.wantStates(en.Owner, "secondary active")
}

func TestWhatCannotFollowIsNotStaged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := testkit.Root(t, "root")
	w.anchor(root, true)
	ends := func(days int) testkit.Option {
		return testkit.WithDates(w.clock.AddDate(0, 0, -700), w.clock.Add(time.Duration(days)*oneDay))
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

// moving is a group with one intermediate below a verified root, a second intermediate beside
// it, and devices below both.
type moving struct {
	*world
	group     provisioning.Owner
	root      *testkit.Entity
	old, next *testkit.Entity
	below     map[string][2]*testkit.Entity
}

func newMoving(t *testing.T, devices ...string) *moving {
	w := newWorld(t)
	m := &moving{world: w, root: testkit.Root(t, "root"), below: map[string][2]*testkit.Entity{}}
	m.old = m.root.Issue(t, "mid-1", testkit.AsCA(), testkit.WithDates(w.clock.AddDate(-1, 0, 0), w.clock.AddDate(1, 0, 0)))
	m.next = m.root.Issue(t, "mid-2", testkit.AsCA(), testkit.WithDates(w.clock.AddDate(-1, 0, 0), w.clock.AddDate(3, 0, 0)))
	w.anchor(m.root, true)
	m.group = w.group("line-3", m.old).Owner
	for _, name := range devices {
		m.below[name] = [2]*testkit.Entity{m.old.Issue(t, name), m.next.Issue(t, name)}
	}
	return m
}

// shows is a device with its certificate of the old (0) or the next (1) intermediate.
func (m *moving) shows(name string, below int) provisioning.Attempt {
	m.t.Helper()
	return m.presenting(name, m.below[name][below].Chain()...)
}

// hang is how many devices hang on each slot, and how many of them would be locked out.
func (m *moving) hang(want string) {
	m.t.Helper()
	list, err := m.engine.Slots(m.ctx, m.group)
	m.must(err)
	var got []string
	for _, s := range list {
		got = append(got, fmt.Sprintf("%s %d/%d%s", s.Slot, s.Devices, s.Locked, strings.TrimSuffix(" "+string(s.Problem), " ")))
	}
	if is := strings.Join(got, ", "); is != want {
		m.t.Fatalf("devices hang on the slots as %q, want %q", is, want)
	}
}

// H4: the new intermediate beside the old one; devices follow; the old one goes with the last.
func TestAGroupsIntermediateRollsAsItsDevicesFollow(t *testing.T) {
	t.Parallel()
	m := newMoving(t, "d1", "d2", "d3")
	for _, name := range []string{"d1", "d2"} {
		m.assigned(m.shows(name, 0))
	}
	own, err := m.enroll(m.shows("d3", 0))
	m.must(err)
	m.refused(m.shows("d1", 1), "no-enrollment")
	m.stage(m.group, m.next)
	m.hang("primary 3/2, secondary 0/0")
	m.sweepEntries()
	m.wantStates(m.group, "primary active, secondary staged")
	m.assigned(m.shows("d1", 1))
	m.sweepEntries()
	m.wantStates(m.group, "primary retiring, secondary active")
	m.assigned(m.shows("d2", 0)) // both admit
	m.pass(2 * oneDay)
	m.sweepEntries()
	m.hang("primary 2/1 stragglers, secondary 1/1")
	list, err := m.engine.Stragglers(m.ctx, m.group, nil, verify.RegistrationID{}, 10)
	m.must(err)
	if len(list) != 2 || list[0].ID != id(m.world, "d2") || list[0].Renews || !list[1].Renews {
		t.Fatalf("the stragglers are %+v", list)
	}
	_, err = m.engine.RetireCredential(m.ctx, "operator:test", m.group, provisioning.Retiring{}, provisioning.Precondition{})
	if fault.RuleOf(err) != "devices-locked-out" || !strings.Contains(err.Error(), "1 devices") {
		t.Fatalf("retired early: %v", err)
	}
	m.assigned(m.shows("d2", 1))
	m.assigned(m.shows("d3", 1))
	m.pass(time.Hour)
	m.sweepEntries()
	m.wantStates(m.group, "secondary active")
	m.refused(m.shows("d1", 0), "no-enrollment")
	m.assigned(m.shows("d2", 1))
	m.assigned(m.presenting("d3", own))
	for action, want := range map[audit.Action]int{audit.RollStaged: 1, audit.RollSeen: 1, audit.RollStuck: 1, audit.RollRetired: 1} {
		if got := m.said(m.group, action); got != want {
			t.Errorf("%d rows say %s, want %d", got, action, want)
		}
	}
}

// H3: what happens to devices that do not follow is said before, and done only by force.
func TestAStragglerIsLockedOutOnlyByForce(t *testing.T) {
	t.Parallel()
	m := newMoving(t, "d1", "d2")
	m.assigned(m.shows("d1", 0))
	primary, secondary := rotation.Primary, rotation.Secondary
	retire := func(slot *rotation.Slot, force bool) error {
		_, err := m.engine.RetireCredential(m.ctx, "operator:test", m.group, provisioning.Retiring{Slot: slot, Force: force}, provisioning.Precondition{})
		m.check()
		return err
	}
	for _, force := range []bool{false, true} {
		if err := retire(&primary, force); fault.RuleOf(err) != "last-credential" {
			t.Fatalf("the last one, force %v: %v", force, err)
		}
	}
	if err := retire(&secondary, false); fault.RuleOf(err) != "slot-empty" {
		t.Fatal(err)
	}
	if err := retire(nil, false); fault.RuleOf(err) != "nothing-retiring" {
		t.Fatal(err)
	}
	m.stage(m.group, m.next)
	m.must(retire(&secondary, false)) // staged by mistake
	if n := m.said(m.group, audit.RollDropped); n != 1 {
		t.Errorf("%d rows say that it was withdrawn, want 1", n)
	}
	m.stage(m.group, m.next)
	if err := retire(&primary, false); fault.RuleOf(err) != "devices-locked-out" {
		t.Fatal(err)
	}
	m.must(retire(&primary, true))
	m.wantStates(m.group, "secondary active")
	m.refused(m.shows("d1", 0), "no-enrollment")
	m.assigned(m.shows("d1", 1))
	m.assigned(m.shows("d2", 1))
}

// H3: a group on a trust anchor; the new root proves possession before it can be staged.
func TestAGroupsRootRolls(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	soon := testkit.WithDates(w.clock.AddDate(-9, 0, 0), w.clock.AddDate(1, 0, 0))
	old, next := testkit.Root(t, "root-1", soon), testkit.Root(t, "root-2")
	w.anchor(old, true)
	w.anchor(next, false)
	group := w.reference("g", old).Owner
	before, after := old.Issue(t, "d1"), next.Issue(t, "d1")
	w.assigned(w.presenting("d1", before.Chain()...))
	stage := func() error {
		_, _, err := w.engine.StageCredential(w.ctx, "operator:test", group, provisioning.Staging{Anchor: "root-2"}, provisioning.Precondition{})
		return err
	}
	if err := stage(); fault.RuleOf(err) != "anchor-not-verified" {
		t.Fatal(err)
	}
	w.refused(w.presenting("d1", after.Chain()...), "chain-incomplete")
	w.prove(next)
	w.must(stage())
	w.assigned(w.presenting("d1", after.Chain()...))
	w.sweepEntries()
	w.wantStates(group, "primary retiring, secondary active")
	w.pass(oneDay)
	w.sweepEntries()
	w.wantStates(group, "secondary active")
	w.refused(w.presenting("d1", before.Chain()...), "no-enrollment")
	// X3: the anchor of the only slot goes, and the group admits nobody.
	w.must(w.engine.DeleteAnchor(w.ctx, "operator:test", "root-2", provisioning.Precondition{Any: true}))
	w.sweepEntries()
	w.wantStates(group, "")
}

// X3: with the anchor of the active slot gone the staged one is what there is.
func TestWhatIsLeftAloneInAGroupIsActive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old, next := testkit.Root(t, "root-1"), testkit.Root(t, "root-2")
	w.anchor(old, true)
	w.anchor(next, true)
	a := provisioning.Attestation{Role: provisioning.RoleCARef}
	a.Slots[0].Anchor, a.Slots[1].Anchor = "root-1", "root-2"
	group := w.put(provisioning.Group, "g", a).Owner
	w.must(w.engine.DeleteAnchor(w.ctx, "operator:test", "root-1", provisioning.Precondition{Any: true}))
	w.wantStates(group, "secondary staged")
	w.sweepEntries()
	w.wantStates(group, "secondary active")
}

// H14: the four steps in any order, by PUT alone.
func TestARollByPutEndsTheSameWhateverTheOrder(t *testing.T) {
	t.Parallel()
	for name, steps := range map[string][]string{
		"both, then the device, then the new one alone": {"both", "device", "new"},
		"both, then the new one alone, then the device": {"both", "new", "device"},
		"at once, then the device":                      {"new", "device"},
		"both in the other order":                       {"swapped", "device", "new"},
		"the device first, which is refused":            {"refused", "both", "device", "new"},
		"back and forth":                                {"both", "old", "both", "device", "new"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			root := testkit.Root(t, "factory")
			old, next := root.Issue(t, "dev-1"), root.Issue(t, "dev-1")
			owner := w.individual("dev-1", old, nil).Owner
			w.assigned(w.presenting("dev-1", old.Cert))
			for _, step := range steps {
				switch step {
				case "both":
					w.individual("dev-1", old, next)
				case "swapped":
					w.individual("dev-1", next, old)
				case "new":
					w.individual("dev-1", next, nil)
				case "old":
					w.individual("dev-1", old, nil)
				case "device":
					w.assigned(w.presenting("dev-1", next.Cert))
				case "refused":
					w.refused(w.presenting("dev-1", next.Cert), "certificate-not-enrolled")
				}
				w.sweepEntries()
				w.pass(time.Hour)
			}
			w.pass(2 * oneDay)
			w.sweepEntries()
			w.wantStates(owner, "primary active")
			w.assigned(w.presenting("dev-1", next.Cert))
			w.refused(w.presenting("dev-1", old.Cert), "certificate-not-enrolled")
		})
	}
}

// H12: what has ended may stay while the other one lives; with both ended nobody is admitted.
func TestWhatHasEndedMayStayAndIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := testkit.Root(t, "factory")
	ends := func(days int) testkit.Option {
		return testkit.WithDates(w.clock.Add(-10*oneDay), w.clock.Add(time.Duration(days)*oneDay))
	}
	a, b := root.Issue(t, "dev-1", ends(20)), root.Issue(t, "dev-1", ends(50))
	owner := w.individual("dev-1", a, b).Owner
	w.assigned(w.presenting("dev-1", a.Cert))
	for range 21 {
		w.sweepEntries()
		w.pass(oneDay)
	}
	if n := w.said(owner, audit.RollTold); n != 1 {
		t.Errorf("%d rows say that the successor is not in use, want 1", n)
	}
	w.refused(w.presenting("dev-1", a.Cert), "leaf-expired")
	w.assigned(w.presenting("dev-1", b.Cert))
	for range 40 {
		w.sweepEntries()
		w.pass(oneDay)
	}
	w.wantStates(owner, "secondary active")
	w.refused(w.presenting("dev-1", b.Cert), "leaf-expired")
	if n := w.said(owner, audit.RollTold); n != 3 { // that it is late, and that it has ended
		t.Errorf("%d rows tell of it, want 3", n)
	}
	w.stage(owner, root.Issue(t, "dev-1", ends(400)))
	w.sweepEntries()
	w.wantStates(owner, "primary staged, secondary active")
}

// A disabled entry's certificates are refused wherever they stand: they have to stay.
func TestADisabledEntryDoesNotRoll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := testkit.Root(t, "factory")
	a, b := root.Issue(t, "dev-1"), root.Issue(t, "dev-1")
	owner := w.individual("dev-1", a, b).Owner
	w.assigned(w.presenting("dev-1", b.Cert))
	w.sweepEntries()
	w.enable(owner, false)
	w.pass(30 * oneDay)
	w.sweepEntries()
	w.wantStates(owner, "primary retiring, secondary active")
	w.enable(owner, true)
	w.sweepEntries()
	w.wantStates(owner, "secondary active")
}

// The hub is in step with what the enrollment pins: both while they roll, and then the one.
func TestAHubKnowsBothPinnedCertificatesWhileTheyRoll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := testkit.Root(t, "factory")
	a := root.Issue(t, "dev-1", testkit.WithDates(w.clock.Add(-oneDay), w.clock.Add(90*oneDay)))
	b := root.Issue(t, "dev-1")
	thumb := func(e *testkit.Entity) string { return strings.ToUpper(verify.ThumbprintOf(e.Cert.Raw).String()) }
	owner := w.individual("dev-1", a, nil).Owner
	w.assigned(w.presenting("dev-1", a.Cert))
	want := func(thumbprints ...string) {
		t.Helper()
		if got := w.onHub("dev-1").Auth.Thumbprints; !slices.Equal(slices.DeleteFunc(got[:], func(s string) bool { return s == "" }), thumbprints) {
			t.Fatalf("the hub has %v, want %v", got, thumbprints)
		}
	}
	want(thumb(a))
	w.stage(owner, b)
	want(thumb(a), thumb(b))
	w.assigned(w.presenting("dev-1", b.Cert))
	want(thumb(b), thumb(a))
	w.sweepEntries()
	w.pass(oneDay)
	want(thumb(b), thumb(a))
	w.sweepEntries()
	want(thumb(b))
	w.must(w.engine.Delete(w.ctx, "operator:test", owner, provisioning.Precondition{Any: true}))
	want(thumb(b))
}

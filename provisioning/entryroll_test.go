package provisioning

import (
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

var rollStart = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

const aDay = 24 * time.Hour

func at(days int) time.Time { return rollStart.Add(time.Duration(days) * aDay) }

// rolling is an entry whose primary went out of use on day 0 for its secondary; both live
// from day -100 to day 100.
func rolling(t *testing.T, kind Kind, edits ...func(*entryRoll)) entryRoll {
	t.Helper()
	id, err := verify.ParseRegistrationID("line-3")
	if err != nil {
		t.Fatal(err)
	}
	role := RoleClient
	if kind == Group {
		role = RoleSigning
	}
	old := rotation.Cell{Ref: rotation.Ref{1}, State: rotation.Retiring, NotBefore: at(-100), NotAfter: at(100), SeenAt: at(-90), RetireAt: at(1)}
	next := rotation.Cell{Ref: rotation.Ref{2}, State: rotation.Active, NotBefore: at(-100), NotAfter: at(100), SeenAt: at(0)}
	var r entryRoll
	r.entry = Enrollment{Owner: Owner{Kind: kind, ID: id}, Enabled: true, Version: 1, DueAt: at(1), Credentials: []Credential{
		{Role: role, Slot: rotation.Primary, State: rotation.Retiring, SeenAt: old.SeenAt, RetireAt: old.RetireAt},
		{Role: role, Slot: rotation.Secondary, State: rotation.Active, SeenAt: next.SeenAt},
	}}
	if r.pair, err = rotation.RestorePair(old, next); err != nil {
		t.Fatal(err)
	}
	for _, e := range edits {
		e(&r)
	}
	return r
}

func cell(slot rotation.Slot, edit func(*rotation.Cell)) func(*entryRoll) {
	return func(r *entryRoll) {
		c := r.pair.Cell(slot)
		edit(&c)
		r.pair = placed(r.pair, slot, c)
	}
}

func TestARetiringCredentialLeavesItsSlotWhen(t *testing.T) {
	t.Parallel()
	hangs := func(r *entryRoll) { r.used[rotation.Primary] = true }
	deadline := func(days int) func(*entryRoll) {
		return func(r *entryRoll) { r.plan.Deadline = time.Duration(days) * aDay }
	}
	unseen := cell(rotation.Secondary, func(c *rotation.Cell) { c.SeenAt = time.Time{} })
	neverUsed := cell(rotation.Primary, func(c *rotation.Cell) { c.SeenAt = time.Time{} })
	paused := func(r *entryRoll) { r.plan.Paused = true }
	window := func(r *entryRoll) { r.plan.Windows = policies.Windows{{Opens: "0 20 * * *", Length: time.Hour}} }
	late := policies.DefaultRotationPolicy().RemindAfter(at(-100), at(100))
	for name, tc := range map[string]struct {
		kind  Kind
		edits []func(*entryRoll)
		now   time.Time
		want  string // the ledger's rows: action and reason
		due   time.Time
	}{
		"its overlap is over":                            {Individual, nil, at(1), "roll.retired overlap-over", late},
		"not a microsecond before":                       {Individual, nil, at(1).Add(-time.Microsecond), "", at(1)},
		"not while its device hangs on it":               {Individual, []func(*entryRoll){hangs}, at(1), "roll.stuck stragglers", at(2)},
		"not while devices of the group do":              {Group, []func(*entryRoll){hangs}, at(1), "roll.stuck stragglers", at(1).Add(time.Hour)},
		"but at the deadline all the same":               {Group, []func(*entryRoll){hangs, deadline(30)}, at(30), "roll.retired deadline-over", late},
		"and not before that":                            {Group, []func(*entryRoll){hangs, deadline(2)}, at(2).Add(-time.Second), "", at(2)},
		"not when the other was never seen":              {Individual, []func(*entryRoll){unseen}, at(1), "roll.stuck not-cut-over", at(2)},
		"nor then by a deadline":                         {Group, []func(*entryRoll){unseen, deadline(1)}, at(50), "roll.stuck not-cut-over", at(50).Add(time.Hour)},
		"not when the other has ended":                   {Individual, []func(*entryRoll){cell(rotation.Secondary, func(c *rotation.Cell) { c.NotAfter = at(1) })}, at(1), "roll.stuck successor-not-good, roll.told expired", at(2)},
		"not when the other's anchor lost its proof":     {Group, []func(*entryRoll){func(r *entryRoll) { r.holds[rotation.Secondary].unverified = true }}, at(1), "roll.stuck successor-not-good", at(1).Add(time.Hour)},
		"not of a group that nobody ever used it for":    {Group, []func(*entryRoll){neverUsed}, at(1), "roll.stuck never-used", at(1).Add(time.Hour)},
		"but of one device that went straight past it":   {Individual, []func(*entryRoll){neverUsed}, at(1), "roll.retired overlap-over", late},
		"not while the plan is paused":                   {Individual, []func(*entryRoll){paused}, at(1), "roll.stuck plan-paused", at(2)},
		"not outside of the plan's window":               {Individual, []func(*entryRoll){window}, at(1), "roll.stuck window-closed", at(1).Add(12 * time.Hour)},
		"but inside of it":                               {Individual, []func(*entryRoll){window}, at(1).Add(12 * time.Hour), "roll.retired overlap-over", late},
		"not while the entry is disabled":                {Individual, []func(*entryRoll){func(r *entryRoll) { r.entry.Enabled = false }}, at(50), "", time.Time{}},
		"it is stuck, which was said when it came to be": {Individual, []func(*entryRoll){hangs, func(r *entryRoll) { r.entry.DueAt = at(2) }}, at(2), "", at(3)},
	} {
		t.Run(name, func(t *testing.T) {
			r := rolling(t, tc.kind, tc.edits...)
			if r.entry.DueAt.Equal(at(1)) && tc.now.After(at(1)) && tc.want == "" {
				r.entry.DueAt = tc.now
			}
			turn := r.decide(tc.now)
			var rows []string
			for _, e := range turn.events {
				_, reason, _ := strings.Cut(string(e.Body), `"reason":"`)
				reason, _, _ = strings.Cut(reason, `"`)
				rows = append(rows, string(e.Action)+" "+reason)
			}
			if got := strings.Join(rows, ", "); got != tc.want {
				t.Errorf("the ledger has %q, want %q", got, tc.want)
			}
			if !turn.next.DueAt.Equal(tc.due) {
				t.Errorf("it is looked at next %s, want %s", turn.next.DueAt, tc.due)
			}
			if left := len(turn.next.Credentials) == 1; left != strings.Contains(tc.want, string(audit.RollRetired)) || left != turn.left {
				t.Errorf("%d credentials are left (a change of trust: %v)", len(turn.next.Credentials), turn.left)
			}
		})
	}
}

// What ended unused makes room; with the other one ended too it stays, and is told of.
func TestAStagedCredentialThatEnded(t *testing.T) {
	t.Parallel()
	staged := func(r *entryRoll) {
		cell(rotation.Primary, func(c *rotation.Cell) {
			c.State, c.SeenAt, c.RetireAt, c.NotAfter = rotation.Staged, time.Time{}, time.Time{}, at(10)
		})(r)
		r.entry.DueAt = at(10)
	}
	r := rolling(t, Individual, staged)
	if turn := r.decide(at(10)); !turn.left || len(turn.events) != 1 || turn.events[0].Action != audit.RollDropped {
		t.Errorf("beside a good one: %+v", turn.events)
	}
	r = rolling(t, Individual, staged, cell(rotation.Secondary, func(c *rotation.Cell) { c.NotAfter = at(10) }))
	if turn := r.decide(at(10)); turn.left || len(turn.events) != 1 || turn.events[0].Action != audit.RollTold {
		t.Errorf("beside one that ended too: %+v", turn.events)
	}
}

func TestThePlanThatNamesAnEntryDecides(t *testing.T) {
	t.Parallel()
	entry := rolling(t, Group).entry
	plan := func(name string, role policies.RollRole, entries ...string) policies.RotationPlan {
		return policies.RotationPlan{Name: name, Role: role, Entries: entries}
	}
	for name, tc := range map[string]struct {
		plans []policies.RotationPlan
		want  string
	}{
		"none":                      {nil, ""},
		"one for everybody":         {[]policies.RotationPlan{plan("all", policies.RollGroups)}, "all"},
		"one that names it":         {[]policies.RotationPlan{plan("all", policies.RollGroups), plan("mine", policies.RollGroups, "other", "Line-3")}, "mine"},
		"of two for all, the first": {[]policies.RotationPlan{plan("a", policies.RollGroups), plan("b", policies.RollGroups)}, "a"},
		"none that names others":    {[]policies.RotationPlan{plan("other", policies.RollGroups, "other")}, ""},
		"none of another role":      {[]policies.RotationPlan{plan("devices", policies.RollEnrollments), plan("mine", policies.RollKeys, "line-3")}, ""},
	} {
		if got := entryPlan(tc.plans, entry).Name; got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

package provisioning_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

const day = 24 * time.Hour

// plan writes a rotation plan and answers what was said about it.
func (w *world) plan(p policies.RotationPlan) (provisioning.Plan, []string) {
	w.t.Helper()
	stored, warnings, err := w.engine.PutPlan(w.ctx, "operator:ann", p, provisioning.Precondition{})
	w.must(err)
	return stored, warnings
}

func TestPlansComeChangeAndGo(t *testing.T) {
	w := newWorld(t)
	made, warnings := w.plan(policies.RotationPlan{Name: "nights", Role: policies.RollDevices, Entries: []string{"Line-1"}, MaxPerHour: 10})
	if len(warnings) > 0 || made.Entries[0] != "line-1" {
		t.Fatalf("made %+v, warned %q", made, warnings)
	}
	put := func(p policies.RotationPlan, pre provisioning.Precondition) error {
		_, _, err := w.engine.PutPlan(w.ctx, "operator:ann", p, pre)
		return err
	}
	if err := put(made.RotationPlan, provisioning.Precondition{}); fault.RuleOf(err) != "if-match-required" {
		t.Errorf("written over without a version: %v", err)
	}
	if err := put(made.RotationPlan, provisioning.Precondition{Version: made.Version + 1}); fault.KindOf(err) != fault.PreconditionFailed {
		t.Errorf("written over a version there is not: %v", err)
	}
	paused, err := w.engine.PausePlan(w.ctx, "operator:ann", "nights", true, provisioning.Precondition{})
	w.must(err)
	again, err := w.engine.PausePlan(w.ctx, "operator:ann", "nights", true, provisioning.Precondition{Version: paused.Version})
	w.must(err)
	if !paused.Paused || paused.Version != made.Version+1 || again.Version != paused.Version {
		t.Errorf("paused %+v, again %+v", paused, again)
	}
	if _, err := w.engine.PausePlan(w.ctx, "operator:ann", "nights", false, provisioning.Precondition{Version: made.Version}); fault.KindOf(err) != fault.PreconditionFailed {
		t.Errorf("resumed a version that is over: %v", err)
	}
	if err := w.engine.DeletePlan(w.ctx, "operator:ann", "nights", provisioning.Precondition{}); fault.KindOf(err) != fault.PreconditionRequired {
		t.Errorf("deleted without a version: %v", err)
	}
	w.must(w.engine.DeletePlan(w.ctx, "operator:ann", "nights", provisioning.Precondition{Any: true}))
	for name, err := range map[string]error{
		"read": func() error { _, err := w.engine.Plan(w.ctx, "nights"); return err }(),
		"paused": func() error {
			_, err := w.engine.PausePlan(w.ctx, "a", "nights", true, provisioning.Precondition{})
			return err
		}(),
		"deleted": w.engine.DeletePlan(w.ctx, "a", "nights", provisioning.Precondition{Any: true}),
	} {
		if fault.RuleOf(err) != "plan-not-found" {
			t.Errorf("%s once it is gone: %v", name, err)
		}
	}
	ledger, err := w.engine.Ledger(w.ctx, provisioning.LedgerFilter{Subject: "plan:nights", Limit: 10})
	w.must(err)
	var acts []audit.Action
	for _, entry := range ledger {
		acts = append(acts, entry.Action)
	}
	if want := []audit.Action{audit.PlanDeleted, audit.PlanWritten, audit.PlanWritten}; !slices.Equal(acts, want) {
		t.Errorf("the ledger has %q, want %q", acts, want)
	}
}

func TestABadPlanIsNotWritten(t *testing.T) {
	w := newWorld(t)
	for name, p := range map[string]policies.RotationPlan{
		"windows that never open":             {Name: "p", Role: policies.RollDevices, Windows: policies.Windows{{Opens: "0 0 31 4 *", Length: time.Hour}}},
		"an entry that is no id":              {Name: "p", Role: policies.RollDevices, Entries: []string{"no/id"}},
		"an access policy without its plane":  {Name: "p", Role: policies.RollAccess, Entries: []string{"tools"}},
		"an access policy on no plane":        {Name: "p", Role: policies.RollAccess, Entries: []string{"mars/tools"}},
		"an overlap as long as the keys live": {Name: "p", Role: policies.RollKeys, Every: day, Overlap: day},
	} {
		if _, _, err := w.engine.PutPlan(w.ctx, "operator:ann", p, provisioning.Precondition{}); fault.RuleOf(err) != "plan-invalid" || len(fault.As(err).Fields) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list, err := w.engine.Plans(w.ctx); err != nil || len(list) > 0 {
		t.Errorf("%d plans, %v", len(list), err)
	}
}

func TestTheNearestPlanDecides(t *testing.T) {
	w := newWorld(t)
	for _, p := range []policies.RotationPlan{
		{Name: "z-all", Role: policies.RollDevices},
		{Name: "gate", Role: policies.RollDevices, Profiles: []string{"gate"}},
		{Name: "line", Role: policies.RollDevices, Entries: []string{"line-1"}, Paused: true},
		{Name: "both", Role: policies.RollDevices, Entries: []string{"line-1"}, Profiles: []string{"gate"}},
		{Name: "tools", Role: policies.RollAccess, Entries: []string{"service/Tools"}},
		{Name: "same-a", Role: policies.RollGroups},
		{Name: "same-b", Role: policies.RollGroups},
	} {
		w.plan(p)
	}
	var plans []policies.RotationPlan
	w.must(w.db.Provisioning().View(w.ctx, func(tx provisioning.Tx) (err error) {
		plans, err = provisioning.PlansOnRecord(tx)
		return err
	}))
	line, other := provisioning.Owner{Kind: provisioning.Group, ID: id(w, "line-1")}, provisioning.Owner{Kind: provisioning.Group, ID: id(w, "line-2")}
	for name, c := range map[string]struct {
		role    policies.RollRole
		owner   provisioning.Owner
		profile string
		want    string
	}{
		"the entry and its profile are named":     {policies.RollDevices, line, "gate", "both"},
		"the entry is named, a paused plan too":   {policies.RollDevices, line, "default", "line"},
		"the profile is named":                    {policies.RollDevices, other, "gate", "gate"},
		"neither is":                              {policies.RollDevices, other, "default", "z-all"},
		"a device without an owner":               {policies.RollDevices, provisioning.Owner{}, "", "z-all"},
		"of two alike the first by name":          {policies.RollGroups, line, "", "same-a"},
		"a role without plans":                    {policies.RollIssuers, provisioning.Owner{}, "gate", ""},
		"a plan for one policy is for no other's": {policies.RollAccess, line, "", ""},
	} {
		p, found := policies.Nearest(plans, c.role, c.owner.ID.String(), c.profile)
		if p.Name != c.want || found != (c.want != "") {
			t.Errorf("%s: %q, want %q", name, p.Name, c.want)
		}
	}
	if p, _ := policies.Nearest(plans, policies.RollAccess, "service/Tools", ""); p.Name != "tools" {
		t.Errorf("a plan for an access policy: %q", p.Name)
	}
}

func TestAPlanSaysWhatMaySurprise(t *testing.T) {
	w := newWorld(t)
	short := policies.DefaultProfile()
	short.Name, short.Lifetime, short.Renewal.Overlap = "short", day, 2*day
	_, err := w.engine.PutProfile(w.ctx, "operator:ann", short, provisioning.Precondition{})
	w.must(err)
	monthly := policies.Windows{{Opens: "0 2 1 * *", Length: time.Hour}}
	daily, warnings := w.plan(policies.RotationPlan{Name: "a", Role: policies.RollDevices, Profiles: []string{"default"}, Windows: policies.Windows{{Opens: "0 2 * * *", Length: time.Hour}}})
	if len(warnings) > 0 {
		t.Errorf("plan %s, of which there is nothing to say: %q", daily.Name, warnings)
	}
	for name, c := range map[string]struct {
		plan policies.RotationPlan
		want []string // beginnings
	}{
		"an overlap longer than the life, and windows too rare for it": {
			policies.RotationPlan{Name: "b", Role: policies.RollDevices, Profiles: []string{"short"}, Windows: monthly},
			[]string{"a certificate of profile short lives 24h0m0s, which is no longer than the overlap of 48h0m0s", "a certificate of profile short has 5h20m0s left when it is late"}},
		"windows too rare for 90 days": {
			policies.RotationPlan{Name: "c", Role: policies.RollDevices, Entries: []string{"line-1"}, Profiles: []string{"default"}, Windows: monthly},
			[]string{"a certificate of profile default has 480h0m0s left when it is late, and no window is open for up to 74"}},
		"another plan for all devices of the profile": {
			policies.RotationPlan{Name: "d", Role: policies.RollDevices, Profiles: []string{"default", "gate"}},
			[]string{"plan a fits the same alike: a decides"}},
		"issuers that live long enough":  {policies.RotationPlan{Name: "e", Role: policies.RollIssuers}, nil},
		"entries that are not there":     {policies.RotationPlan{Name: "f", Role: policies.RollGroups, Entries: []string{"later"}}, nil},
		"keys, whose life is the plan's": {policies.RotationPlan{Name: "g", Role: policies.RollKeys, Every: 10 * day}, nil},
	} {
		_, got := w.plan(c.plan)
		ok := len(got) == len(c.want)
		for i := 0; ok && i < len(got); i++ {
			ok = strings.HasPrefix(got[i], c.want[i])
		}
		if !ok {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		w.must(w.engine.DeletePlan(w.ctx, "operator:ann", c.plan.Name, provisioning.Precondition{Any: true}))
	}
}

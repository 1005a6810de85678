package policies

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// winterDay is a Sunday.
var winterDay = time.Date(2026, 2, 1, 12, 0, 0, 0, time.UTC)

func TestRotationPlanValidate(t *testing.T) {
	many := func(n int) (names []string) {
		for i := range n {
			names = append(names, strings.Repeat("a", 1+i%60)+strings.Repeat("b", 1+i/60))
		}
		return names
	}
	for name, c := range map[string]struct {
		plan RotationPlan
		bad  []string
	}{
		"all devices, at any time":               {RotationPlan{Name: "p", Role: RollDevices}, nil},
		"two lines of devices, spread":           {RotationPlan{Name: "p", Role: RollDevices, Entries: []string{"line-1", "line-2"}, Profiles: []string{"gate"}, MaxPerHour: 200, Jitter: .3}, nil},
		"no name":                                {RotationPlan{Role: RollDevices}, []string{"/name"}},
		"a role there is not":                    {RotationPlan{Name: "p", Role: "anchors"}, []string{"/role"}},
		"a negative rate":                        {RotationPlan{Name: "p", Role: RollDevices, MaxPerHour: -1}, []string{"/maxPerHour"}},
		"a rate no store keeps":                  {RotationPlan{Name: "p", Role: RollDevices, MaxPerHour: 1_000_001}, []string{"/maxPerHour"}},
		"jitter over a third of the life":        {RotationPlan{Name: "p", Role: RollDevices, Jitter: .31}, []string{"/jitter"}},
		"a rate of issuers":                      {RotationPlan{Name: "p", Role: RollIssuers, MaxPerHour: 3}, []string{"/maxPerHour"}},
		"issuers that are spread":                {RotationPlan{Name: "p", Role: RollIssuers, Jitter: .1}, []string{"/jitter"}},
		"groups that are spread":                 {RotationPlan{Name: "p", Role: RollGroups, Jitter: .1}, []string{"/jitter"}},
		"keys that are spread, and a rate":       {RotationPlan{Name: "p", Role: RollKeys, Every: 720 * time.Hour, Jitter: .1, MaxPerHour: 3}, nil},
		"jitter that is not a number":            {RotationPlan{Name: "p", Role: RollDevices, Jitter: math.NaN()}, []string{"/jitter"}},
		"dates of devices, which profiles say":   {RotationPlan{Name: "p", Role: RollDevices, PrepareAt: .5, Overlap: time.Hour, Every: time.Hour, Deadline: time.Hour}, []string{"/prepareAt", "/overlap", "/every", "/deadline", "/every"}},
		"groups with a deadline":                 {RotationPlan{Name: "p", Role: RollGroups, PrepareAt: .6, Overlap: 30 * 24 * time.Hour, Deadline: 90 * 24 * time.Hour}, nil},
		"prepared all the time":                  {RotationPlan{Name: "p", Role: RollGroups, PrepareAt: .01}, []string{"/prepareAt"}},
		"an overlap of years":                    {RotationPlan{Name: "p", Role: RollGroups, Overlap: 367 * 24 * time.Hour}, []string{"/overlap"}},
		"an overlap back in time":                {RotationPlan{Name: "p", Role: RollGroups, Overlap: -1}, []string{"/overlap"}},
		"keys by their age":                      {RotationPlan{Name: "p", Role: RollKeys, Every: 90 * 24 * time.Hour, Overlap: 24 * time.Hour}, nil},
		"keys every minute":                      {RotationPlan{Name: "p", Role: RollAccess, Every: time.Minute}, []string{"/every"}},
		"keys once in a century":                 {RotationPlan{Name: "p", Role: RollAccess, Every: 100 * 366 * 24 * time.Hour}, []string{"/every"}},
		"certificates by their age":              {RotationPlan{Name: "p", Role: RollGroups, Every: 24 * time.Hour}, []string{"/every"}},
		"an overlap as long as the life of keys": {RotationPlan{Name: "p", Role: RollKeys, Every: 24 * time.Hour, Overlap: 24 * time.Hour}, []string{"/overlap"}},
		"a deadline of years":                    {RotationPlan{Name: "p", Role: RollGroups, Deadline: 367 * 24 * time.Hour}, []string{"/deadline"}},
		"issuers of a profile, by themselves":    {RotationPlan{Name: "p", Role: RollIssuers, Profiles: []string{"gate"}, Auto: true, Publish: 14 * 24 * time.Hour}, nil},
		"groups by themselves":                   {RotationPlan{Name: "p", Role: RollGroups, Auto: true}, []string{"/auto"}},
		"published for years":                    {RotationPlan{Name: "p", Role: RollIssuers, Publish: 367 * 24 * time.Hour}, []string{"/publish"}},
		"issuers named as entries":               {RotationPlan{Name: "p", Role: RollIssuers, Entries: []string{"a"}}, []string{"/entries"}},
		"groups named by profile":                {RotationPlan{Name: "p", Role: RollGroups, Profiles: []string{"gate"}}, []string{"/profiles"}},
		"too many entries":                       {RotationPlan{Name: "p", Role: RollGroups, Entries: many(1001)}, []string{"/entries"}},
		"too many profiles":                      {RotationPlan{Name: "p", Role: RollDevices, Profiles: many(101)[:101]}, []string{"/profiles"}},
		"entries that are no names, or twice":    {RotationPlan{Name: "p", Role: RollGroups, Entries: []string{"", "a b", "a", "a"}}, []string{"/entries/0", "/entries/1", "/entries/3"}},
		"a window that never opens":              {RotationPlan{Name: "p", Role: RollDevices, Windows: Windows{{Opens: "0 0 30 2 *", Length: time.Hour}}}, []string{"/windows/0/opens"}},
		"a window for no time":                   {RotationPlan{Name: "p", Role: RollDevices, Windows: Windows{{Opens: "0 2 * * 6"}}}, []string{"/windows/0/length"}},
		"a window of weeks":                      {RotationPlan{Name: "p", Role: RollDevices, Windows: Windows{{Opens: "0 2 * * 6", Length: 8 * 24 * time.Hour}}}, []string{"/windows/0/length"}},
		"a zone there is not":                    {RotationPlan{Name: "p", Role: RollDevices, Windows: Windows{{Opens: "0 2 * * 6", Length: time.Hour, Zone: "Mars/Olympus"}}}, []string{"/windows/0/opens"}},
		"the zone of the host":                   {RotationPlan{Name: "p", Role: RollDevices, Windows: Windows{{Opens: "0 2 * * 6", Length: time.Hour, Zone: "Local"}}}, []string{"/windows/0/opens"}},
		"six fields, words, a zone of its own":   {RotationPlan{Name: "p", Role: RollDevices, Windows: Windows{{Opens: "0 0 2 * * 6", Length: time.Hour}, {Opens: "@daily", Length: time.Hour}, {Opens: "TZ=UTC 0 2 * * 6", Length: time.Hour}, {Length: time.Hour}}}, []string{"/windows/0/opens", "/windows/1/opens", "/windows/2/opens", "/windows/3/opens"}},
		"more windows than anybody remembers":    {RotationPlan{Name: "p", Role: RollDevices, Windows: make(Windows, 33)}, []string{"/windows"}},
		"29 February, and a window across a day": {RotationPlan{Name: "p", Role: RollDevices, Windows: Windows{{Opens: "0 0 29 2 *", Length: time.Hour}, {Opens: "0 22 * * 1-5", Length: 8 * time.Hour, Zone: "Europe/Berlin"}}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := pointers(t, c.plan.Validate(winterDay))
			if strings.HasPrefix(name, "too many") {
				got = got[:1] // the names themselves are not the point
			}
			if !slices.Equal(got, c.bad) {
				t.Errorf("bad fields %q, want %q", got, c.bad)
			}
		})
	}
}

func TestAPlansRuleFillsInTheDefault(t *testing.T) {
	if r := (RotationPlan{}).Rotation(); r != DefaultRotationPolicy() {
		t.Errorf("a plan that says nothing: %+v", r)
	}
	if r := (RotationPlan{PrepareAt: .5, Overlap: time.Hour}).Rotation(); r.PrepareAt != .5 || r.Overlap != time.Hour {
		t.Errorf("a plan that says all: %+v", r)
	}
}

// Whatever the role, the nearest plan decides; of several alike the first by name, wherever it
// stands in the list.
func TestTheNearestPlanDecidesInEveryRole(t *testing.T) {
	t.Parallel()
	for _, role := range []RollRole{RollDevices, RollEnrollments, RollGroups, RollKeys, RollAccess, RollIssuers} {
		plans := []RotationPlan{{Name: "b", Role: role}, {Name: "a", Role: role}, {Name: "0", Role: "another"},
			{Name: "mine", Role: role, Entries: []string{"Line-3"}}, {Name: "gate", Role: role, Profiles: []string{"gate"}}}
		for at, want := range map[[2]string]string{{"", ""}: "a", {"line-4", ""}: "a", {"line-4", "gate"}: "gate", {"line-3", ""}: "mine", {"LINE-3", "gate"}: "mine"} {
			if p, found := Nearest(plans, role, at[0], at[1]); p.Name != want || !found {
				t.Errorf("%s of %q under %q: %q, want %q", role, at[0], at[1], p.Name, want)
			}
		}
	}
	if p, found := Nearest(nil, RollKeys, "", ""); found || p.Rotation() != DefaultRotationPolicy() {
		t.Errorf("without any: %+v", p)
	}
}

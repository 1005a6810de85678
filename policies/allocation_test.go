package policies

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/passmuster/muster/internal/fault"
)

const fleet = 3000

func device(i int) string { return fmt.Sprintf("press-%04d", i) }

// allocateFleet sends every device of a fleet to its hub.
func allocateFleet(t *testing.T, hubs ...Candidate) (homes [fleet]string, count map[string]int) {
	t.Helper()
	count = map[string]int{}
	for i := range fleet {
		hub, why, err := Allocate(Hashed, Placement{Key: device(i)}, hubs)
		if err != nil || why != "hashed" {
			t.Fatal(why, err)
		}
		homes[i] = hub
		count[hub]++
	}
	return homes, count
}

func TestHashedSharesByWeight(t *testing.T) {
	for name, hubs := range map[string][]Candidate{
		"1:3":     {{Hub: "a.example.net", Weight: 1}, {Hub: "b.example.net", Weight: 3}},
		"even":    {{Hub: "a.example.net", Weight: 1}, {Hub: "b.example.net", Weight: 1}, {Hub: "c.example.net", Weight: 1}},
		"10:20:5": {{Hub: "a.example.net", Weight: 10}, {Hub: "b.example.net", Weight: 20}, {Hub: "c.example.net", Weight: 5}},
	} {
		t.Run(name, func(t *testing.T) {
			_, count := allocateFleet(t, hubs...)
			sum := 0
			for _, h := range hubs {
				sum += h.Weight
			}
			for _, h := range hubs {
				got, want := float64(count[h.Hub])/fleet, float64(h.Weight)/float64(sum)
				if math.Abs(got-want) > 0.03 {
					t.Errorf("%s has %.3f of the fleet, want %.3f", h.Hub, got, want)
				}
			}
		})
	}
}

func TestHashedMovesOnlyWhatItMust(t *testing.T) {
	a, b, c := Candidate{Hub: "a.example.net", Weight: 1}, Candidate{Hub: "b.example.net", Weight: 1}, Candidate{Hub: "c.example.net", Weight: 1}
	before, _ := allocateFleet(t, a, b)
	after, count := allocateFleet(t, c, b, a) // the order is of no account
	for i := range fleet {
		if after[i] != before[i] && after[i] != c.Hub {
			t.Fatalf("%s moved from %s to %s", device(i), before[i], after[i])
		}
	}
	if count[c.Hub] < fleet/4 || count[c.Hub] > fleet/2 {
		t.Errorf("the new hub has %d devices", count[c.Hub])
	}
}

func TestHashedIsOnRecord(t *testing.T) {
	// These answers are given by running installations: a change moves their devices.
	hubs := []Candidate{{Hub: "a.example.net", Weight: 1}, {Hub: "b.example.net", Weight: 3}, {Hub: "c.example.net", Weight: 2}}
	var got []string
	for i := range 12 {
		hub, _, err := Allocate(Hashed, Placement{Key: device(i)}, hubs)
		if err != nil {
			t.Fatal(err)
		}
		shouted, _, err := Allocate(Hashed, Placement{Key: strings.ToUpper(device(i))}, hubs)
		if err != nil || shouted != hub {
			t.Errorf("%s goes to %s, in capitals to %s", device(i), hub, shouted)
		}
		got = append(got, hub[:1])
	}
	if want := "bcbccbabbbcb"; strings.Join(got, "") != want {
		t.Errorf("%s, want %s", strings.Join(got, ""), want)
	}
}

func TestAllocate(t *testing.T) {
	open, other := Candidate{Hub: "a.example.net", Weight: 1}, Candidate{Hub: "b.example.net", Weight: 1}
	draining := Candidate{Hub: "d.example.net", Weight: 1000, Draining: true}
	idle := Candidate{Hub: "i.example.net"}
	for name, c := range map[string]struct {
		policy   AllocationPolicy
		current  string
		hubs     []Candidate
		hub, why string
		rule     string
	}{
		"a draining hub takes no new device":    {Hashed, "", []Candidate{draining, open}, open.Hub, "hashed", ""},
		"nor one from elsewhere":                {Hashed, other.Hub, []Candidate{draining, open}, open.Hub, "hashed", ""},
		"but keeps its own":                     {Hashed, "D.example.net", []Candidate{open, draining}, draining.Hub, "draining", ""},
		"a hub of weight 0 takes none":          {Hashed, "", []Candidate{idle, open}, open.Hub, "hashed", ""},
		"and gives its own away":                {Hashed, idle.Hub, []Candidate{idle, open}, open.Hub, "hashed", ""},
		"unless there is nowhere to go":         {Hashed, idle.Hub, []Candidate{idle, draining}, idle.Hub, "no-other-hub", ""},
		"a negative weight is no weight":        {Hashed, "", []Candidate{{Hub: "n", Weight: -5}, open}, open.Hub, "hashed", ""},
		"a device on an unlinked hub is placed": {Hashed, "gone.example.net", []Candidate{open}, open.Hub, "hashed", ""},
		"no hub":                                {Hashed, "", nil, "", "", "no-hub-linked"},
		"no hub that takes any":                 {Hashed, "", []Candidate{draining, idle}, "", "", "no-hub-linked"},
		"static is the named hub":               {Static, "", []Candidate{open}, open.Hub, "static", ""},
		"whatever its weight":                   {Static, "", []Candidate{idle}, idle.Hub, "static", ""},
		"and wherever the device was":           {Static, other.Hub, []Candidate{open}, open.Hub, "static", ""},
		"static with two hubs":                  {Static, "", []Candidate{open, other}, "", "", "static-needs-one-hub"},
		"static with none":                      {Static, "", nil, "", "", "no-hub-linked"},
		"static to a draining hub":              {Static, "", []Candidate{draining}, "", "", "hub-draining"},
		"static to a draining hub that has it":  {Static, draining.Hub, []Candidate{draining}, draining.Hub, "draining", ""},
		"a policy that is none":                 {"random", "", []Candidate{open}, "", "", "allocation-unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			hub, why, err := Allocate(c.policy, Placement{Key: "press-0042", Current: c.current}, c.hubs)
			if hub != c.hub || why != c.why || fault.RuleOf(err) != c.rule {
				t.Errorf("%q %q %v, want %q %q %q", hub, why, err, c.hub, c.why, c.rule)
			}
			kind := fault.Conflict // which fails the registration, not the request
			if c.rule == "allocation-unknown" {
				kind = fault.Malformed
			}
			if err != nil && !fault.Is(err, kind) {
				t.Errorf("kind %v", fault.KindOf(err))
			}
		})
	}
}

func TestAllocateByLocation(t *testing.T) {
	here, there := Candidate{Hub: "a.example.net", Location: "Essen", Weight: 1}, Candidate{Hub: "b.example.net", Location: "lyon", Weight: 1000}
	nowhere := Candidate{Hub: "n.example.net", Weight: 1}
	draining := Candidate{Hub: "d.example.net", Location: "lyon", Weight: 1, Draining: true}
	idle := Candidate{Hub: "i.example.net", Location: "essen"}
	for name, c := range map[string]struct {
		at, current string
		hubs        []Candidate
		hub, why    string
		rule        string
	}{
		"a hub of the device's location":              {"essen", "", []Candidate{here, there, nowhere}, here.Hub, "same-location", ""},
		"wherever it was":                             {"LYON", here.Hub, []Candidate{here, there}, there.Hub, "same-location", ""},
		"nobody knows where it is":                    {"", "", []Candidate{there}, there.Hub, "location-unknown", ""},
		"no hub is there":                             {"oslo", "", []Candidate{there}, there.Hub, "no-hub-in-location", ""},
		"a hub there has no weight":                   {"essen", "", []Candidate{idle, there}, there.Hub, "no-hub-in-location", ""},
		"a hub there is draining":                     {"lyon", "", []Candidate{draining, here}, here.Hub, "no-hub-in-location", ""},
		"a draining hub elsewhere keeps its own":      {"essen", draining.Hub, []Candidate{here, draining}, draining.Hub, "draining", ""},
		"no hub at all":                               {"essen", "", nil, "", "", "no-hub-linked"},
		"a place without a name is no hub's location": {"", "", []Candidate{nowhere}, nowhere.Hub, "location-unknown", ""},
	} {
		t.Run(name, func(t *testing.T) {
			hub, why, err := Allocate(GeoLatency, Placement{Key: "press-0042", Current: c.current, Location: c.at}, c.hubs)
			if hub != c.hub || why != c.why || fault.RuleOf(err) != c.rule {
				t.Errorf("%q %q %v, want %q %q %q", hub, why, err, c.hub, c.why, c.rule)
			}
		})
	}
}

func TestAllocateByName(t *testing.T) {
	open := Candidate{Hub: "a.example.net", Weight: 1}
	draining, idle := Candidate{Hub: "d.example.net", Weight: 1, Draining: true}, Candidate{Hub: "i.example.net"}
	hubs := []Candidate{open, draining, idle}
	for name, c := range map[string]struct {
		named, current string
		hubs           []Candidate
		hub, why       string
		rule           string
	}{
		"the hub named":                        {"A.example.net", "", hubs, open.Hub, "custom", ""},
		"whatever its weight":                  {idle.Hub, "", hubs, idle.Hub, "custom", ""},
		"a hub that is no candidate":           {"other.example.net", "", hubs, "", "", "allocation-other-hub"},
		"no name":                              {"", "", hubs, "", "", "allocation-other-hub"},
		"a draining hub":                       {draining.Hub, open.Hub, hubs, "", "", "hub-draining"},
		"a draining hub that has the device":   {draining.Hub, draining.Hub, hubs, draining.Hub, "draining", ""},
		"no hub linked, whatever was answered": {"a.example.net", "", nil, "", "", "no-hub-linked"},
	} {
		t.Run(name, func(t *testing.T) {
			hub, why, err := Allocate(Custom, Placement{Key: "press-0042", Current: c.current, Named: c.named}, c.hubs)
			if hub != c.hub || why != c.why || fault.RuleOf(err) != c.rule {
				t.Errorf("%q %q %v, want %q %q %q", hub, why, err, c.hub, c.why, c.rule)
			}
		})
	}
}

func TestParseAllocationPolicy(t *testing.T) {
	for text, want := range map[string]AllocationPolicy{
		"": Hashed, "hashed": Hashed, "static": Static, "geoLatency": GeoLatency, "custom": Custom,
	} {
		if got, err := ParseAllocationPolicy(text); got != want || err != nil {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"random", "Hashed", "geolatency"} {
		if got, err := ParseAllocationPolicy(text); got != "" || ruleOf(t, err) != "allocation-unknown" {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func BenchmarkAllocate(b *testing.B) {
	hubs := []Candidate{{Hub: "a.example.net", Weight: 1}, {Hub: "b.example.net", Weight: 3}, {Hub: "c.example.net", Weight: 2}}
	for b.Loop() {
		if _, _, err := Allocate(Hashed, Placement{Key: "press-0042"}, hubs); err != nil {
			b.Fatal(err)
		}
	}
}

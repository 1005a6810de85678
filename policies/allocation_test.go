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
		hub, why, err := Allocate(Hashed, device(i), "", hubs)
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
		hub, _, err := Allocate(Hashed, device(i), "", hubs)
		if err != nil {
			t.Fatal(err)
		}
		shouted, _, err := Allocate(Hashed, strings.ToUpper(device(i)), "", hubs)
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
		"a draining hub takes no new device":        {Hashed, "", []Candidate{draining, open}, open.Hub, "hashed", ""},
		"nor one from elsewhere":                    {Hashed, other.Hub, []Candidate{draining, open}, open.Hub, "hashed", ""},
		"but keeps its own":                         {Hashed, "D.example.net", []Candidate{open, draining}, draining.Hub, "draining", ""},
		"a hub of weight 0 takes none":              {Hashed, "", []Candidate{idle, open}, open.Hub, "hashed", ""},
		"and gives its own away":                    {Hashed, idle.Hub, []Candidate{idle, open}, open.Hub, "hashed", ""},
		"unless there is nowhere to go":             {Hashed, idle.Hub, []Candidate{idle, draining}, idle.Hub, "no-other-hub", ""},
		"a negative weight is no weight":            {Hashed, "", []Candidate{{Hub: "n", Weight: -5}, open}, open.Hub, "hashed", ""},
		"a device on an unlinked hub is placed":     {Hashed, "gone.example.net", []Candidate{open}, open.Hub, "hashed", ""},
		"no hub":                                    {Hashed, "", nil, "", "", "no-hub-linked"},
		"no hub that takes any":                     {Hashed, "", []Candidate{draining, idle}, "", "", "no-hub-linked"},
		"static is the named hub":                   {Static, "", []Candidate{open}, open.Hub, "static", ""},
		"whatever its weight":                       {Static, "", []Candidate{idle}, idle.Hub, "static", ""},
		"and wherever the device was":               {Static, other.Hub, []Candidate{open}, open.Hub, "static", ""},
		"static with two hubs":                      {Static, "", []Candidate{open, other}, "", "", "static-needs-one-hub"},
		"static with none":                          {Static, "", nil, "", "", "no-hub-linked"},
		"static to a draining hub":                  {Static, "", []Candidate{draining}, "", "", "hub-draining"},
		"static to a draining hub that has it":      {Static, draining.Hub, []Candidate{draining}, draining.Hub, "draining", ""},
		"a policy that is not evaluated, or at all": {"custom", "", []Candidate{open}, "", "", "allocation-unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			hub, why, err := Allocate(c.policy, "press-0042", c.current, c.hubs)
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

func TestParseAllocationPolicy(t *testing.T) {
	for text, want := range map[string]AllocationPolicy{"": Hashed, "hashed": Hashed, "static": Static} {
		if got, err := ParseAllocationPolicy(text); got != want || err != nil {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for text, rule := range map[string]string{
		"geoLatency": "allocation-not-supported", "custom": "allocation-not-supported",
		"random": "allocation-unknown", "Hashed": "allocation-unknown",
	} {
		if got, err := ParseAllocationPolicy(text); got != "" || ruleOf(t, err) != rule {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func BenchmarkAllocate(b *testing.B) {
	hubs := []Candidate{{Hub: "a.example.net", Weight: 1}, {Hub: "b.example.net", Weight: 3}, {Hub: "c.example.net", Weight: 2}}
	for b.Loop() {
		if _, _, err := Allocate(Hashed, "press-0042", "", hubs); err != nil {
			b.Fatal(err)
		}
	}
}

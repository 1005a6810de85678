package policies

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

func TestACampaignIsCheckedWhole(t *testing.T) {
	now := time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC)
	for _, c := range []struct {
		name   string
		change func(*Campaign)
		fields string // of the findings, "" for none
	}{
		{"a group is enough", func(*Campaign) {}, ""},
		{"everything is meant by saying so", func(c *Campaign) { c.Select = Selection{Everything: true} }, ""},
		{"an empty selection means nobody", func(c *Campaign) { c.Select = Selection{} }, "/select"},
		{"everything is not narrowed", func(c *Campaign) { c.Select.Everything = true }, "/select"},
		{"two owners are none", func(c *Campaign) { c.Select.Enrollment = "dev-1" }, "/select/enrollment"},
		{"a name is needed", func(c *Campaign) { c.Name = ".." }, "/name"},
		{"an act is needed", func(c *Campaign) { c.Act = "reboot" }, "/act"},
		{"devices are retired, their records with them", func(c *Campaign) { c.Act, c.DeleteRecords = ActRetire, true }, ""},
		{"records are deleted, the devices with them", func(c *Campaign) {
			c.Act, c.FromHub, c.Select = ActDelete, true, Selection{Orphaned: true}
		}, ""},
		{"what is ended is named", func(c *Campaign) { c.Act, c.Select = ActRetire, Selection{Everything: true} }, "/select/everything"},
		{"who is ended is not told, and not spread", func(c *Campaign) { c.Act, c.Jitter = ActDelete, time.Minute }, "/jitter"},
		{"a renewal deletes nothing", func(c *Campaign) { c.DeleteRecords, c.FromHub = true, true }, "/deleteRecords /fromHub"},
		{"who has no owner is of no group", func(c *Campaign) { c.Select.Orphaned = true }, "/select/orphaned"},
		{"canaries are a share or a number", func(c *Campaign) { c.Canary, c.CanaryDevices = 0.1, 5 }, "/canaryDevices"},
		{"canaries are not most of all", func(c *Campaign) { c.Canary = 0.6 }, "/canary"},
		{"a share that is no number", func(c *Campaign) { c.Canary, c.WaveAfter, c.MaxErrorRate = math.NaN(), math.NaN(), math.NaN() }, "/canary /waveAfter /maxErrorRate"},
		{"waves are counted or sized", func(c *Campaign) { c.Waves, c.Sizes = 2, []int{1} }, "/waves"},
		{"a wave has devices", func(c *Campaign) { c.Waves, c.Sizes = 0, []int{5, 0} }, "/waveSizes"},
		{"a window that never opens", func(c *Campaign) { c.Windows = Windows{{Opens: "0 2 31 2 *", Length: time.Hour}} }, "/windows/0/opens"},
		{"every bound has two ends", func(c *Campaign) {
			c.Expect, c.MaxPerHour, c.MinSample, c.Jitter, c.Patience = -1, -1, -1, -1, time.Second
		}, "/expectDevices /maxPerHour /minSample /jitter /patience"},
		{"a thousand names are many", func(c *Campaign) { c.Select.IDs = make([]string, MaxCampaignIDs+1) }, "/select/ids"},
	} {
		t.Run(c.name, func(t *testing.T) {
			campaign := Campaign{Name: "march", Act: ActRenew, Select: Selection{Group: "line-3"}}.Complete()
			c.change(&campaign)
			var got []string
			if err := campaign.Validate(now); err != nil {
				if fault.RuleOf(err) != "campaign-invalid" || fault.KindOf(err) != fault.Malformed {
					t.Fatalf("got %v", err)
				}
				for _, f := range fault.As(err).Fields {
					got = append(got, f.Pointer)
				}
			}
			if strings.Join(got, " ") != c.fields {
				t.Errorf("findings %v, want %q", got, c.fields)
			}
		})
	}
}

func TestWavesTakeAllDevicesOnce(t *testing.T) {
	for _, c := range []struct {
		name string
		c    Campaign
		n    int64
		want []int64
	}{
		{"one wave unless said", Campaign{}, 7, []int64{7}},
		{"nobody is no wave", Campaign{Waves: 3}, 0, nil},
		{"a share of canaries is one device at least", Campaign{Canary: 0.01}, 10, []int64{1, 9}},
		{"equal waves differ by one", Campaign{CanaryDevices: 2, Waves: 3}, 12, []int64{2, 4, 3, 3}},
		{"waves that would be empty are left out", Campaign{CanaryDevices: 5, Waves: 3}, 6, []int64{5, 1}},
		{"the last one takes who is left", Campaign{Canary: 0.1, Sizes: []int{20, 30}}, 100, []int64{10, 20, 30, 40}},
		{"sizes may be more than there are", Campaign{Sizes: []int{20, 30}}, 25, []int64{20, 5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.c.Complete().WaveSizes(c.n); !slices.Equal(got, c.want) {
				t.Errorf("waves %v, want %v", got, c.want)
			}
		})
	}
}

func TestErrorsAreJudgedByEnoughDevices(t *testing.T) {
	c := Campaign{}.Complete()
	for _, x := range []struct {
		failed, came int64
		want         bool
	}{{0, 0, false}, {9, 0, false}, {1, 9, false}, {2, 8, true}, {10, 90, false}, {11, 89, true}} {
		if got := c.Failing(x.failed, x.came); got != x.want {
			t.Errorf("%d failed and %d came: %v", x.failed, x.came, got)
		}
	}
	c.MaxErrorRate = 1
	if c.Failing(50, 0) {
		t.Error("a rate of 1 stops nothing")
	}
}

func TestAForecastKeepsToWindowsAndRate(t *testing.T) {
	hour := func(d, h int) time.Time { return time.Date(2026, 3, d, h, 0, 0, 0, time.UTC) }
	now := hour(2, 9).Add(30 * time.Minute) // a Monday
	nights := Windows{{Opens: "0 2 * * *", Length: 2 * time.Hour}}
	for _, c := range []struct {
		name       string
		c          Campaign
		left, told int64
		want       []Load
		rest       int64
	}{
		{"without bounds all go at once", Campaign{}, 500, 0, []Load{{hour(2, 9), 500}}, 0},
		{"what this hour has left is taken", Campaign{MaxPerHour: 100}, 250, 70, []Load{{hour(2, 9), 30}, {hour(2, 10), 100}, {hour(2, 11), 100}, {hour(2, 12), 20}}, 0},
		{"a full hour is passed over", Campaign{MaxPerHour: 100}, 50, 100, []Load{{hour(2, 10), 50}}, 0},
		{"nights only", Campaign{MaxPerHour: 100, Windows: nights}, 250, 100, []Load{{hour(3, 2), 100}, {hour(3, 3), 100}, {hour(4, 2), 50}}, 0},
		{"a window within the hour counts", Campaign{Windows: Windows{{Opens: "45 9 * * *", Length: time.Minute}}}, 5, 0, []Load{{hour(2, 9), 5}}, 0},
		{"nobody left is no load", Campaign{}, 0, 0, nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, rest := c.c.Forecast(c.left, c.told, now)
			if !slices.Equal(got, c.want) || rest != c.rest {
				t.Errorf("forecast %v and %d left, want %v and %d", got, rest, c.want, c.rest)
			}
		})
	}
	if loads, rest := (Campaign{MaxPerHour: 1}).Forecast(10_000, 0, now); len(loads) != maxForecast || rest != 10_000-maxForecast {
		t.Errorf("a long forecast has %d hours and %d left", len(loads), rest)
	}
}

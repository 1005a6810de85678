package policies

import (
	"math"
	"slices"
	"testing"
	"time"
)

func TestRotationPolicyValidate(t *testing.T) {
	for name, c := range map[string]struct {
		policy RotationPolicy
		bad    []string
	}{
		"the default":                  {DefaultRotationPolicy(), nil},
		"no overlap, as in a breach":   {RotationPolicy{PrepareAt: 0.5}, nil},
		"a grace after the end":        {RotationPolicy{PrepareAt: 0.5, Grace: 366 * 24 * time.Hour}, nil},
		"a grace of years":             {RotationPolicy{PrepareAt: 0.5, Grace: 367 * 24 * time.Hour}, []string{"/grace"}},
		"a grace before the end":       {RotationPolicy{PrepareAt: 0.5, Grace: -1}, []string{"/grace"}},
		"never set":                    {RotationPolicy{}, []string{"/prepareAt"}},
		"all the time":                 {RotationPolicy{PrepareAt: 0.01}, []string{"/prepareAt"}},
		"at the very end":              {RotationPolicy{PrepareAt: 1}, []string{"/prepareAt"}},
		"not a number":                 {RotationPolicy{PrepareAt: math.NaN()}, []string{"/prepareAt"}},
		"an overlap back in time":      {RotationPolicy{PrepareAt: 0.5, Overlap: -1}, []string{"/overlap"}},
		"an overlap of years, at zero": {RotationPolicy{Overlap: 400 * 24 * time.Hour}, []string{"/prepareAt", "/overlap"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := pointers(t, c.policy.Validate()); !slices.Equal(got, c.bad) {
				t.Errorf("bad fields %q, want %q", got, c.bad)
			}
		})
	}
}

func TestPrepareAfter(t *testing.T) {
	born := time.Date(2026, 3, 1, 8, 0, 0, 0, time.FixedZone("", 3600))
	for name, c := range map[string]struct {
		share float64
		end   time.Time
		want  time.Time
	}{
		"two thirds of 90 days":      {2.0 / 3, born.Add(90 * 24 * time.Hour), born.Add(60 * 24 * time.Hour)},
		"three quarters of a day":    {0.75, born.Add(24 * time.Hour), born.Add(18 * time.Hour)},
		"a life without a real end":  {0.5, time.Unix(born.Unix()+8000*365*86400, 0), time.Unix(born.Unix()+4000*365*86400, 0)},
		"a validity the wrong way":   {0.5, born.Add(-time.Hour), born},
		"a validity of one instant":  {0.5, born, born},
		"cut to whole seconds, down": {0.5, born.Add(3 * time.Second), born.Add(time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			got := RotationPolicy{PrepareAt: c.share}.PrepareAfter(born, c.end)
			if !got.Equal(c.want) || got.Location() != time.UTC {
				t.Errorf("%v, want %v", got, c.want.UTC())
			}
		})
	}
}

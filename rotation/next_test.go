package rotation_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
)

const day = 24 * time.Hour

// quarterly is a rule for certificates of 90 days: renewed at day 60, late at day 70, a
// day's overlap.
func quarterly() policies.RotationPolicy { return policies.DefaultRotationPolicy() }

// cell is one of 90 days that begins so many days after day0.
func cell(n byte, state rotation.State, begins int) rotation.Cell {
	c := rotation.Cell{Ref: ref(n), State: state, NotBefore: day0.AddDate(0, 0, begins), NotAfter: day0.AddDate(0, 0, begins+90)}
	if state == rotation.Retiring {
		c.RetireAt = day0.AddDate(0, 0, 66)
	}
	return c
}

func pair(t testing.TB, cells ...rotation.Cell) rotation.Pair {
	t.Helper()
	cells = append(cells, rotation.Cell{}, rotation.Cell{})
	p, err := rotation.RestorePair(cells[0], cells[1])
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWhatAPairNeedsNext(t *testing.T) {
	grace := quarterly()
	grace.Grace = 30 * day
	old, successor := cell(1, rotation.Active, 0), cell(2, rotation.Staged, 65)
	for name, tt := range map[string]struct {
		pair   rotation.Pair
		rule   policies.RotationPolicy
		at     time.Duration // after day0
		move   rotation.Move
		of     byte
		reason rotation.Reason
		stuck  bool
	}{
		"an empty pair needs nothing":                              {pair(t), quarterly(), 0, rotation.Keep, 0, rotation.PairEmpty, false},
		"a young certificate needs nothing":                        {pair(t, old), quarterly(), 60*day - time.Second, rotation.Keep, 1, rotation.NotDue, false},
		"from two thirds of its life it needs a successor":         {pair(t, old), quarterly(), 60 * day, rotation.Prepare, 1, rotation.PrepareDue, false},
		"in the other slot too":                                    {pair(t, rotation.Cell{}, old), quarterly(), 60 * day, rotation.Prepare, 1, rotation.PrepareDue, false},
		"one that was never used too":                              {pair(t, cell(1, rotation.Staged, 0)), quarterly(), 60 * day, rotation.Prepare, 1, rotation.PrepareDue, false},
		"whose device does not come, it is late":                   {pair(t, old), quarterly(), 70 * day, rotation.Remind, 1, rotation.RenewalLate, false},
		"and stuck when half of the rest has passed":               {pair(t, old), quarterly(), 80 * day, rotation.Remind, 1, rotation.RenewalLate, true},
		"and expired at its end":                                   {pair(t, old), quarterly(), 90 * day, rotation.Remind, 1, rotation.Expired, true},
		"a successor is waited for":                                {pair(t, old, successor), quarterly(), 69 * day, rotation.Keep, 1, rotation.AwaitingCutOver, false},
		"until the old one is late":                                {pair(t, old, successor), quarterly(), 70 * day, rotation.Remind, 1, rotation.NotCutOver, false},
		"a late successor has a day to be used":                    {pair(t, old, cell(2, rotation.Staged, 85)), quarterly(), 86*day - time.Second, rotation.Keep, 1, rotation.AwaitingCutOver, false},
		"and no longer":                                            {pair(t, old, cell(2, rotation.Staged, 85)), quarterly(), 86 * day, rotation.Remind, 1, rotation.NotCutOver, false},
		"it is stuck when the successor is late itself":            {pair(t, old, successor), quarterly(), 135 * day, rotation.Remind, 1, rotation.NotCutOver, true},
		"an expired one beside a successor in date":                {pair(t, old, successor), quarterly(), 100 * day, rotation.Remind, 1, rotation.NotCutOver, false},
		"a successor that ended unused loses its slot":             {pair(t, old, successor), quarterly(), 155 * day, rotation.Drop, 2, rotation.StagedExpired, true},
		"but not within its grace":                                 {pair(t, old, successor), grace, 155 * day, rotation.Remind, 1, rotation.Expired, true},
		"of two unused the one that ends last counts":              {pair(t, cell(1, rotation.Staged, 0), cell(2, rotation.Staged, 3)), quarterly(), 62 * day, rotation.Keep, 2, rotation.NotDue, false},
		"a replaced one stays through its overlap":                 {pair(t, cell(1, rotation.Retiring, 0), cell(2, rotation.Active, 65)), quarterly(), 66*day - 1, rotation.Keep, 2, rotation.NotDue, false},
		"and goes at its end":                                      {pair(t, cell(1, rotation.Retiring, 0), cell(2, rotation.Active, 65)), quarterly(), 66 * day, rotation.Retire, 1, rotation.OverlapOver, false},
		"before anything else":                                     {pair(t, cell(2, rotation.Active, -30), cell(1, rotation.Retiring, 0)), quarterly(), 66 * day, rotation.Retire, 1, rotation.OverlapOver, true},
		"the active one is never taken away, however long expired": {pair(t, old), quarterly(), 4000 * day, rotation.Remind, 1, rotation.Expired, true},
	} {
		t.Run(name, func(t *testing.T) {
			now := day0.Add(tt.at)
			want := rotation.Decision{Move: tt.move, Reason: tt.reason}
			if tt.of != 0 {
				want.Ref = ref(tt.of)
			}
			if got := tt.pair.Next(tt.rule, now); got != want {
				t.Errorf("%s of %x (%s), want %s of %x (%s)", got.Move, got.Ref[:1], got.Reason, want.Move, want.Ref[:1], want.Reason)
			}
			if got := tt.pair.Stuck(tt.rule, now); got != tt.stuck {
				t.Errorf("stuck: %v, want %v", got, tt.stuck)
			}
		})
	}
}

func TestWhenAPairIsLookedAtNext(t *testing.T) {
	retain := quarterly()
	retain.Retain = true
	days := func(n int) time.Time { return day0.AddDate(0, 0, n) }
	old := cell(1, rotation.Active, 0)
	for name, tt := range map[string]struct {
		pair  rotation.Pair
		rule  policies.RotationPolicy
		after time.Time // zero: Due
		want  time.Time
	}{
		"an empty pair never":                                     {pair(t), quarterly(), time.Time{}, time.Time{}},
		"a device that asks for itself when it is late":           {pair(t, old), quarterly(), time.Time{}, days(70)},
		"one that cannot when a successor is due":                 {pair(t, old), retain, time.Time{}, days(60)},
		"and again when it is late":                               {pair(t, old), retain, days(60), days(70)},
		"one that was reminded when half of the rest is over":     {pair(t, old), quarterly(), days(70), days(80)},
		"then at the end":                                         {pair(t, old), quarterly(), days(80), days(90)},
		"then never":                                              {pair(t, old), quarterly(), days(90), time.Time{}},
		"with a successor no earlier because of retaining":        {pair(t, old, cell(2, rotation.Staged, 60)), retain, time.Time{}, days(70)},
		"with a late one when that has had its time":              {pair(t, old, cell(2, rotation.Staged, 85)), quarterly(), time.Time{}, days(86)},
		"at the end of an overlap":                                {pair(t, cell(1, rotation.Retiring, 0), cell(2, rotation.Active, 65)), quarterly(), time.Time{}, days(66)},
		"at the end of an overlap though nothing is in its place": {pair(t, cell(1, rotation.Retiring, 0)), quarterly(), time.Time{}, days(66)},
	} {
		t.Run(name, func(t *testing.T) {
			got := tt.pair.DueAfter(tt.rule, tt.after)
			if tt.after.IsZero() {
				got = tt.pair.Due(tt.rule)
			}
			if !got.Equal(tt.want) {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// Whatever the pair: Due is the first moment at which Next says more than Keep, but for a
// Prepare that is nobody's work; DueAfter misses no change; and the sweep, which makes the
// moves and asks again, comes to rest and never takes the active one.
func TestAPairIsLookedAtWhenItNeedsIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPair(t)
		rule := policies.RotationPolicy{
			PrepareAt: rapid.SampledFrom([]float64{0.1, 0.5, 2.0 / 3, 0.99}).Draw(t, "prepare"),
			Overlap:   time.Duration(rapid.IntRange(0, 48).Draw(t, "overlap")) * time.Hour,
			Grace:     time.Duration(rapid.IntRange(0, 30).Draw(t, "grace")) * day,
			Retain:    rapid.Bool().Draw(t, "retain"),
		}
		says := func(now time.Time) (rotation.Decision, bool) {
			d := p.Next(rule, now)
			if d.Move == rotation.Keep || d.Move == rotation.Prepare && !rule.Retain {
				d = rotation.Decision{Move: rotation.Keep}
			}
			return d, d.Move != rotation.Keep
		}
		due := p.Due(rule)
		for range 20 {
			now := day0.Add(time.Duration(rapid.Int64Range(-100, 250*24*60).Draw(t, "minute")) * time.Minute)
			if _, more := says(now); more != (!due.IsZero() && !now.Before(due)) {
				t.Fatalf("at %s: %+v, due %s", now, p.Next(rule, now), due)
			}
			next := p.DueAfter(rule, now)
			if !next.IsZero() && !next.After(now) {
				t.Fatalf("after %s comes %s", now, next)
			}
			until := next.Add(-1)
			if next.IsZero() {
				until = now.AddDate(9, 0, 0)
			}
			was, _ := says(now)
			if is, _ := says(until); is != was || p.Stuck(rule, now) != p.Stuck(rule, until) {
				t.Fatalf("between %s and %s %+v becomes %+v", now, until, was, is)
			}
		}
		now := day0.Add(time.Duration(rapid.IntRange(0, 250).Draw(t, "day")) * day)
		for moves := 0; ; moves++ {
			d := p.Next(rule, now)
			if d.Move != rotation.Retire && d.Move != rotation.Drop {
				break
			}
			slot, held := p.Find(d.Ref)
			if !held || p.Cell(slot).State == rotation.Active || moves == 2 {
				t.Fatalf("move %d: %s of %+v in %+v", moves, d.Move, d.Ref[:1], p)
			}
			before := p
			p = p.Drop(d.Ref)
			if left := p.Left(before); len(left) != 1 || left[0] != d.Ref {
				t.Fatalf("%x left, want %x", left, d.Ref[:1])
			}
		}
	})
}

func drawPair(t *rapid.T) rotation.Pair {
	var cells [2]rotation.Cell
	active := false
	for i := range cells {
		state := rapid.SampledFrom([]rotation.State{rotation.Empty, rotation.Staged, rotation.Active, rotation.Retiring}).Draw(t, "state")
		if state == rotation.Active && active {
			state = rotation.Staged
		}
		active = active || state == rotation.Active
		if state == rotation.Empty {
			continue
		}
		begins := day0.Add(time.Duration(rapid.IntRange(0, 100*24).Draw(t, "begins")) * time.Hour)
		life := time.Duration(rapid.IntRange(2, 90*24*60).Draw(t, "life")) * time.Minute
		cells[i] = rotation.Cell{Ref: ref(byte(i + 1)), State: state, NotBefore: begins, NotAfter: begins.Add(life)}
		if state == rotation.Retiring {
			cells[i].RetireAt = begins.Add(time.Duration(rapid.IntRange(0, 100*24).Draw(t, "retire")) * time.Hour)
		}
	}
	p, err := rotation.RestorePair(cells[0], cells[1])
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWhatLeftAPair(t *testing.T) {
	before := pair(t, cell(1, rotation.Active, 0), cell(2, rotation.Staged, 60))
	for name, tt := range map[string]struct {
		after rotation.Pair
		left  []rotation.Ref
	}{
		"nothing":                     {before, nil},
		"nothing by a cut-over":       {before.Seen(ref(2), day0, day), nil},
		"the one that was dropped":    {before.Drop(ref(2)), []rotation.Ref{ref(2)}},
		"the one that made room":      {stage(t, before, 9), []rotation.Ref{ref(2)}},
		"all when the pair was ended": {rotation.Pair{}, []rotation.Ref{ref(1), ref(2)}},
	} {
		got := tt.after.Left(before)
		if len(got) != len(tt.left) {
			t.Fatalf("%s: %x, want %x", name, got, tt.left)
		}
		for i := range got {
			if got[i] != tt.left[i] {
				t.Errorf("%s: %x, want %x", name, got, tt.left)
			}
		}
	}
}

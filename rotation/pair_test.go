package rotation_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/rotation"
)

var day0 = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

func ref(n byte) rotation.Ref { return rotation.Ref{n} }

func stage(t *testing.T, p rotation.Pair, n byte) rotation.Pair {
	t.Helper()
	next, err := p.Stage(ref(n), day0, day0.AddDate(0, 0, int(n)))
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func TestARollFromOneSlotToTheOther(t *testing.T) {
	p := stage(t, rotation.Pair{}, 1)
	p = p.Seen(ref(1), day0, time.Hour)
	if c := p.Cell(rotation.Primary); c.State != rotation.Active || !c.SeenAt.Equal(day0) {
		t.Fatalf("seen for the first time: %+v", c)
	}
	p = stage(t, p, 2)
	if !p.Standing(ref(1), day0) || !p.Standing(ref(2), day0) {
		t.Fatal("both stand while the new one is not seen")
	}
	p = p.Seen(ref(2), day0, time.Hour)
	if !p.Standing(ref(1), day0.Add(59*time.Minute)) || p.Standing(ref(1), day0.Add(time.Hour)) {
		t.Fatal("the old one stands for the overlap and no longer")
	}
	if live := p.Live(day0.Add(2 * time.Hour)); len(live) != 1 || live[0].Ref != ref(2) {
		t.Fatalf("afterwards %+v stand", live)
	}
	p = stage(t, p, 3)
	if s, ok := p.Find(ref(3)); !ok || s != rotation.Primary {
		t.Fatal("the next one goes back into the first slot")
	}
}

func TestAFullPairMakesRoomButNeverDropsTheActive(t *testing.T) {
	for name, tc := range map[string]struct{ before, drops []byte }{
		"of two unseen, the one that ends first": {[]byte{1, 2}, []byte{1}},
		"of two unseen, in either slot":          {[]byte{2, 1}, []byte{1}},
	} {
		t.Run(name, func(t *testing.T) {
			p := stage(t, stage(t, rotation.Pair{}, tc.before[0]), tc.before[1])
			p = stage(t, p, 9)
			for _, n := range tc.drops {
				if _, held := p.Find(ref(n)); held {
					t.Errorf("%d is still held", n)
				}
			}
		})
	}
	active := stage(t, rotation.Pair{}, 1).Seen(ref(1), day0, time.Hour)
	p := stage(t, stage(t, active, 2), 3)
	if _, held := p.Find(ref(2)); held || !p.Standing(ref(1), day0) {
		t.Fatal("beside an active cell the unseen one makes room")
	}
}

func TestNothingIsStagedTwice(t *testing.T) {
	p := stage(t, rotation.Pair{}, 1)
	if _, err := p.Stage(ref(1), day0, day0); fault.KindOf(err) != fault.Conflict {
		t.Fatal(err)
	}
	if q := p.Drop(ref(7)); q != p {
		t.Fatal("dropping what is not there changed the pair")
	}
	if q := p.Drop(ref(1)); q != (rotation.Pair{}) {
		t.Fatal("what was dropped is still there")
	}
}

func TestEachMoveFitsOneState(t *testing.T) {
	staged := stage(t, rotation.Pair{}, 1)
	active, err := staged.Promote(ref(1), day0, time.Hour)
	if err != nil || !active.Cell(rotation.Primary).SeenAt.IsZero() {
		t.Fatalf("promoted unseen: %+v, %v", active, err)
	}
	retiring, err := active.Relieve(ref(1), day0, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	empty, err := retiring.Retire(ref(1))
	if err != nil || empty != (rotation.Pair{}) {
		t.Fatalf("retired: %+v, %v", empty, err)
	}
	both, err := stage(t, active, 2).Promote(ref(2), day0, time.Hour)
	if c := both.Cell(rotation.Primary); err != nil || c.State != rotation.Retiring || !c.RetireAt.Equal(day0.Add(time.Hour)) {
		t.Fatalf("the former one: %+v, %v", c, err)
	}
	moves := map[string]func(rotation.Pair) (rotation.Pair, error){
		"not-staged":   func(p rotation.Pair) (rotation.Pair, error) { return p.Promote(ref(1), day0, 0) },
		"not-active":   func(p rotation.Pair) (rotation.Pair, error) { return p.Relieve(ref(1), day0, 0) },
		"not-retiring": func(p rotation.Pair) (rotation.Pair, error) { return p.Retire(ref(1)) },
	}
	fits := map[string]rotation.Pair{"not-staged": staged, "not-active": active, "not-retiring": retiring}
	for rule, move := range moves {
		for _, p := range []rotation.Pair{empty, staged, active, retiring} {
			q, err := move(p)
			if p == fits[rule] {
				if err != nil {
					t.Errorf("%s of %+v: %v", rule, p, err)
				}
				continue
			}
			if fault.RuleOf(err) != rule || q != p {
				t.Errorf("%s of %+v: %+v, %v", rule, p, q, err)
			}
		}
	}
}

// The invariants of the pair under any order of moves: at most one Active; the Active
// never leaves but by Drop; nothing dropped stands.
func TestAPairUnderAnyMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, now, next := rotation.Pair{}, day0, byte(1)
		dropped := map[rotation.Ref]bool{}
		for range rapid.IntRange(1, 40).Draw(t, "moves") {
			now = now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "minutes")) * time.Minute)
			before := p
			target := ref(byte(rapid.IntRange(1, int(next)).Draw(t, "ref")))
			move := rapid.SampledFrom([]string{"stage", "seen", "promote", "relieve", "retire", "drop"}).Draw(t, "move")
			switch move {
			case "stage":
				var err error
				if p, err = p.Stage(ref(next), now, now.AddDate(0, 3, 0)); err != nil {
					t.Fatal(err)
				}
				next++
			case "seen":
				p = p.Seen(target, now, time.Hour)
			case "promote":
				p, _ = p.Promote(target, now, time.Hour)
			case "relieve":
				p, _ = p.Relieve(target, now, time.Hour)
			case "retire":
				_, held := p.Find(target)
				var err error
				if p, err = p.Retire(target); err == nil {
					dropped[target] = held
				}
			case "drop":
				_, held := p.Find(target)
				p, dropped[target] = p.Drop(target), dropped[target] || held
			}
			checkPair(t, before, p, move, target, dropped, now)
		}
	})
}

func checkPair(t *rapid.T, before, after rotation.Pair, move string, target rotation.Ref, dropped map[rotation.Ref]bool, now time.Time) {
	active := 0
	for _, s := range []rotation.Slot{rotation.Primary, rotation.Secondary} {
		was, is := before.Cell(s), after.Cell(s)
		if is.State == rotation.Active {
			active++
		}
		if was.State == rotation.Active && is.Ref != was.Ref && (move != "drop" || target != was.Ref) {
			t.Fatalf("%s took the active cell out of the %s slot", move, s)
		}
		if is.State != rotation.Empty && dropped[is.Ref] && was.Ref != is.Ref {
			t.Fatalf("%s brought back what was dropped", move)
		}
	}
	if active > 1 {
		t.Fatalf("%d active cells after %s", active, move)
	}
	for r, gone := range dropped {
		if gone && after.Standing(r, now) {
			t.Fatalf("dropped %x stands", r[:1])
		}
	}
	if _, err := rotation.RestorePair(after.Cell(rotation.Primary), after.Cell(rotation.Secondary)); err != nil {
		t.Fatal(err)
	}
}

package rotation_test

import (
	"testing"
	"time"

	"github.com/passmuster/muster/rotation"
)

// Of two that nobody has seen, the one in use retires the older; a newer one goes on waiting.
func TestWhatIsSeenRetiresWhatIsOlder(t *testing.T) {
	both := stage(t, stage(t, rotation.Pair{}, 1), 2)
	if c := both.Current(); c.Ref != ref(2) || both.Successor().State != rotation.Empty {
		t.Fatalf("of two unseen %v is in use, and %v follows", c.Ref[0], both.Successor().Ref[0])
	}
	for _, tt := range []struct {
		seen               byte
		other              rotation.State
		current, successor byte
	}{{1, rotation.Staged, 1, 2}, {2, rotation.Retiring, 2, 0}} {
		p := both.Seen(ref(tt.seen), day0, time.Hour)
		if slot, _ := p.Find(ref(3 - tt.seen)); p.Cell(slot).State != tt.other {
			t.Errorf("%d seen: the other is %s", tt.seen, p.Cell(slot).State)
		}
		if p.Current().Ref[0] != tt.current || p.Successor().Ref[0] != tt.successor {
			t.Errorf("%d seen: %d is in use and %d follows", tt.seen, p.Current().Ref[0], p.Successor().Ref[0])
		}
		if !p.Standing(ref(1), day0) || !p.Standing(ref(2), day0.Add(59*time.Minute)) {
			t.Errorf("%d seen: one of them stands no more", tt.seen)
		}
	}
}

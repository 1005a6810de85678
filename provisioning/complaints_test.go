package provisioning

import (
	"fmt"
	"testing"
	"time"

	"github.com/passmuster/muster/verify"
)

func TestAnEntryComplainsOnceAMinute(t *testing.T) {
	var c complaints
	now := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	entry := func(n int) Owner {
		id, err := verify.ParseRegistrationID(fmt.Sprintf("line-%d", n))
		if err != nil {
			t.Fatal(err)
		}
		return Owner{Kind: Group, ID: id}
	}
	for _, step := range []struct {
		entry int
		after time.Duration
		due   bool
	}{{1, 0, true}, {1, 0, false}, {2, 0, true}, {1, 59 * time.Second, false}, {1, time.Second, true}, {1, 0, false}} {
		now = now.Add(step.after)
		if got := c.due(entry(step.entry), now); got != step.due {
			t.Errorf("entry %d at %s: due is %v, want %v", step.entry, now.Format(time.TimeOnly), got, step.due)
		}
	}
	for n := range 3 * maxComplaints {
		c.due(entry(n), now)
	}
	if len(c.last) > maxComplaints {
		t.Errorf("%d entries are remembered, want %d at most", len(c.last), maxComplaints)
	}
}

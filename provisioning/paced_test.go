package provisioning_test

import (
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

func TestADeviceThatIsRefusedTooOftenCostsNothing(t *testing.T) {
	w := newWorld(t)
	key := w.keyed(provisioning.Individual, "dev-1", disabled)
	attempt := w.signing("dev-1", key)
	attempt.Address = "192.0.2.1"
	ask := func() error {
		_, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: attempt})
		return err
	}
	for range 5 {
		if err := ask(); fault.RuleOf(err) != "enrollment-disabled" {
			t.Fatalf("got %v", err)
		}
	}
	before := w.db.Stats()
	for range 100 {
		if err := ask(); !fault.Is(err, fault.Throttled) || fault.As(err).RetryAfter == 0 {
			t.Fatalf("got %v", err)
		}
		if _, err := w.engine.Poll(w.ctx, provisioning.PollRequest{Attempt: attempt}); !fault.Is(err, fault.Throttled) {
			t.Fatalf("a poll got %v", err)
		}
	}
	if after := w.db.Stats(); after != before {
		t.Errorf("the database was asked: %+v, before %+v", after, before)
	}
	elsewhere := attempt
	elsewhere.Address = "192.0.2.2"
	if _, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: elsewhere}); fault.RuleOf(err) != "enrollment-disabled" {
		t.Errorf("at another address: %v", err)
	}
	w.enable(provisioning.Owner{Kind: provisioning.Individual, ID: attempt.ID}, true)
	w.pass(time.Second)
	if err := ask(); err != nil {
		t.Errorf("the first attempt a second after it was enabled: %v", err)
	}
	for range 100 {
		if err := ask(); err != nil {
			t.Fatalf("and now it is paced: %v", err)
		}
	}
}

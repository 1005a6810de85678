package provisioning

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// hanging is a webhook that never answers.
type hanging struct{}

func (hanging) Pick(ctx context.Context, _ AllocationRequest) (AllocationAnswer, error) {
	<-ctx.Done()
	return AllocationAnswer{}, ctx.Err()
}

func TestAWebhookHasFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := (&Engine{allocator: hanging{}}).pick(t.Context(), AllocationRequest{})
		if took := time.Since(began); fault.RuleOf(err) != "allocation-timeout" || took != 5*time.Second {
			t.Errorf("%v after %s", err, took)
		}
	})
}

func TestWithoutAnAllocatorCustomAllocationFails(t *testing.T) {
	if _, err := new(Engine).pick(t.Context(), AllocationRequest{}); fault.RuleOf(err) != "allocation-not-configured" {
		t.Error(err)
	}
}

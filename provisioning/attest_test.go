package provisioning_test

import (
	"testing"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

func TestAttestDecidesAsRegisterDoesAndRecordsNothing(t *testing.T) {
	t.Parallel()
	w, d1 := factory(t)
	before := w.rows()
	w.must(w.engine.Attest(w.ctx, d1))
	if after := w.rows(); after != before {
		t.Errorf("it wrote to the ledger: newest entry %d, before %d", after, before)
	}
	if _, err := w.engine.Device(w.ctx, d1.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("the device is on record: %v", err)
	}
	w.enable(provisioning.Owner{Kind: provisioning.Group, ID: id(w, "g")}, false)
	err := w.engine.Attest(w.ctx, d1)
	if !fault.Is(err, fault.Unauthenticated) || fault.RuleOf(err) != "held-by-disabled" {
		t.Errorf("disabled: %v", err)
	}
	w.refused(d1, "held-by-disabled")
	x, err := w.engine.Explain(w.ctx, d1.ID, nil)
	w.must(err)
	if x.LastRefusal == nil || x.LastRefusal.Count != 3 {
		t.Errorf("remembered %+v, want Attest, Register and Poll", x.LastRefusal)
	}
}

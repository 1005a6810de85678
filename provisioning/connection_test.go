package provisioning_test

import (
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

func TestAKeptConnectionAdmitsNothingThatANewOneWouldNot(t *testing.T) {
	t.Parallel()
	w, fresh := factory(t)
	kept := fresh
	kept.Evidence.Connection = new(provisioning.Connection)
	again := func() {
		t.Helper()
		if _, err := w.enroll(kept); err != nil {
			t.Fatal(err)
		}
	}
	again() // reads everything
	again() // is an ordinary device of a known fleet
	views := w.db.Stats().Views
	again() // by what the one before was committed on
	if asked := w.db.Stats().Views - views; asked > 2 {
		t.Errorf("%d views for a registration on a kept connection, and two are the check's", asked)
	}

	owner := provisioning.Owner{Kind: provisioning.Group, ID: id(w, "g")}
	w.enable(owner, false) // INV-D1: on connections that were open before
	w.refused(kept, "held-by-disabled")
	w.enable(owner, true)
	again()

	if _, err := w.enroll(fresh); err != nil { // the registration moves on elsewhere
		t.Fatal(err)
	}
	again()
	if reg := w.registration("d1"); reg.Version != 6 {
		t.Errorf("version %d after six registrations", reg.Version)
	}

	p := policies.DefaultProfile()
	p.Lifetime = 24 * time.Hour
	_, err := w.engine.PutProfile(w.ctx, "operator:test", p, provisioning.Precondition{Any: true})
	w.must(err)
	leaf, err := w.enroll(kept)
	w.must(err)
	if got := leaf.NotAfter.Sub(leaf.NotBefore); got != p.Lifetime {
		t.Errorf("a certificate of %s after the profile changed", got)
	}

	key := testkit.NewKey(t, "p256") // INV-D3: a key disallowed before the facts were kept
	stolen, err := w.enrollKey(fresh, key)
	w.must(err)
	_, err = w.engine.Revoke(w.ctx, "operator:test", "", serial(stolen), ca.KeyCompromise)
	w.must(err)
	again()
	if _, err := w.enrollKey(kept, key); fault.RuleOf(err) != "key-disallowed" {
		t.Errorf("a disallowed key on a kept connection: %v", err)
	}
	again()
}

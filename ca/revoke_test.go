package ca_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

func TestRevocationIsOneWay(t *testing.T) {
	first, second := noon.Add(300*time.Millisecond), noon.Add(time.Hour)
	tests := map[string]struct {
		before, asked ca.Reason
		rule          string
		after         ca.Reason
	}{
		"a good certificate is revoked":                   {"", ca.Superseded, "", ca.Superseded},
		"a second reason changes nothing":                 {ca.Superseded, ca.CessationOfOperation, "already-revoked", ca.Superseded},
		"the same reason changes nothing":                 {ca.Superseded, ca.Superseded, "already-revoked", ca.Superseded},
		"keyCompromise replaces a weaker reason":          {ca.Superseded, ca.KeyCompromise, "", ca.KeyCompromise},
		"keyCompromise replaces no reason given":          {ca.Unspecified, ca.KeyCompromise, "", ca.KeyCompromise},
		"keyCompromise does not come twice":               {ca.KeyCompromise, ca.KeyCompromise, "already-revoked", ca.KeyCompromise},
		"keyCompromise is not weakened":                   {ca.KeyCompromise, ca.Unspecified, "already-revoked", ca.KeyCompromise},
		"cACompromise stands":                             {ca.CACompromise, ca.KeyCompromise, "already-revoked", ca.CACompromise},
		"an unknown reason is refused":                    {"", "stolen", "reason-unknown", ""},
		"a hold is refused":                               {"", "certificateHold", "reason-not-permanent", ""},
		"a revoked certificate is not taken back":         {ca.Superseded, "removeFromCRL", "reason-not-permanent", ca.Superseded},
		"no reason is refused, unspecified is the word":   {"", "", "reason-unknown", ""},
		"another spelling is refused":                     {"", "keycompromise", "reason-unknown", ""},
		"a reason of attribute certificates is refused":   {"", "aACompromise", "reason-unknown", ""},
		"an affiliation that changed is a reason":         {"", ca.AffiliationChanged, "", ca.AffiliationChanged},
		"a privilege that was withdrawn is a reason":      {"", ca.PrivilegeWithdrawn, "", ca.PrivilegeWithdrawn},
		"a device that was taken out of use is a reason":  {"", ca.CessationOfOperation, "", ca.CessationOfOperation},
		"an authority that was compromised is a reason":   {"", ca.CACompromise, "", ca.CACompromise},
		"keyCompromise replaces a privilege withdrawn":    {ca.PrivilegeWithdrawn, ca.KeyCompromise, "", ca.KeyCompromise},
		"cACompromise does not replace what stands there": {ca.Superseded, ca.CACompromise, "already-revoked", ca.Superseded},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := ca.Certificate{Serial: "01"}
			want := noon
			if tt.before != "" {
				if err := c.Revoke(tt.before, first); err != nil {
					t.Fatal(err)
				}
			} else if tt.after != "" {
				want = second
			}
			if err := c.Revoke(tt.asked, second); fault.RuleOf(err) != tt.rule {
				t.Fatalf("err = %v, want rule %q", err, tt.rule)
			}
			if c.Reason != tt.after {
				t.Errorf("reason %q, want %q", c.Reason, tt.after)
			}
			if tt.after == "" {
				want = time.Time{}
			}
			if !c.RevokedAt.Equal(want) || c.IsRevoked() != (tt.after != "") {
				t.Errorf("revoked at %v, want %v, the first time in whole seconds", c.RevokedAt, want)
			}
		})
	}
}

func TestARevocationIsRecordedOnce(t *testing.T) {
	w, _, issuing := newHierarchy(t, "")
	c, _ := w.enroll(t, "dev", deviceKey(t, policies.KeyECP256), policies.DefaultProfile())
	w.now = w.now.Add(time.Hour)
	if err := w.revoke(t.Context(), c, ca.Superseded); err != nil {
		t.Fatal(err)
	}
	if err := w.revoke(t.Context(), c, ca.Unspecified); !fault.Is(err, fault.Conflict) {
		t.Fatalf("again: %v", err)
	}
	r := w.store.read()
	if got := r.certificates[1]; got.Reason != ca.Superseded || !got.RevokedAt.Equal(w.now) {
		t.Errorf("row: %v at %v", got.Reason, got.RevokedAt)
	}
	if n := r.shard(issuing.ID, 1).Revocations; n != 1 {
		t.Errorf("%d revocations counted", n)
	}
	wantActions(t, w.store, audit.IssuerCreated, audit.IssuerCreated, audit.Issued, audit.CRLPublished, audit.Issued, audit.Revoked)
	last := r.ledger[len(r.ledger)-1]
	var body map[string]string
	if err := json.Unmarshal(last.Body, &body); err != nil {
		t.Fatal(err)
	}
	if last.Actor != operator || last.Subject != "dev" || !last.At.Equal(w.now) || body["reason"] != "superseded" || body["serial"] != string(c.Serial) {
		t.Errorf("entry %+v %v", last, body)
	}
}

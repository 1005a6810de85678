package provisioning_test

import (
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
)

func TestWhoseTrustAnchorEndsIsToldOnce(t *testing.T) {
	issuers := policies.RotationPlan{Name: "issuers", Role: policies.RollIssuers, PrepareAt: 0.3}
	for name, tt := range map[string]struct {
		share      float64 // of the anchor's life that is over
		plans      []policies.RotationPlan
		unverified bool
		told       int
		stuck      int
	}{
		"in the middle of its life":        {share: 0.5},
		"at two thirds":                    {share: 0.7, told: 1},
		"at the plan's share":              {share: 0.35, plans: []policies.RotationPlan{issuers}, told: 1},
		"nearly at its end":                {share: 0.9, told: 1, stuck: 1},
		"ended":                            {share: 1.1, told: 1, stuck: 1},
		"ended, and it vouches for nobody": {share: 1.1, unverified: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			root := testkit.Chain(t, "root > dev").Get("root")
			w.anchor(root, !tt.unverified)
			w.planned(tt.plans...)
			c := root.Cert
			w.clock = c.NotBefore.Add(time.Duration(tt.share * float64(c.NotAfter.Sub(c.NotBefore)))).UTC()
			for range 3 {
				_, err := w.engine.SweepAnchors(w.ctx, w.db.ProvisioningJobs())
				w.must(err)
				w.restart()
			}
			wantRolls(t, w.rolls("anchor:"+c.Subject.CommonName), map[audit.Action]int{audit.RollTold: tt.told, audit.RollStuck: tt.stuck})
		})
	}
}

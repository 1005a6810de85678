package provisioning

import (
	"context"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// anchorPage is how many trust anchors are read together.
const anchorPage = 200

// anchorNotice is what is told of a trust anchor: its successor has to be uploaded and
// verified before it ends.
type anchorNotice struct {
	anchor verify.TrustAnchor
	action audit.Action
	reason string
}

func (n anchorNotice) key() string {
	return string(n.action) + " anchor:" + n.anchor.Name() + " " + n.anchor.Link().Thumbprint.String() + " " + n.reason
}

// SweepAnchors tells once of each verified trust anchor that is near its end (roll.told) and
// once more when it is late (roll.stuck): at the share of its life that the plan for issuers
// says which names no profile, or at two thirds. Nobody but its owner can do more about it.
func (e *Engine) SweepAnchors(ctx context.Context, jobs Store) (more bool, err error) {
	now := e.now()
	if going, _, err := e.steady(ctx, jobs, now); err != nil || !going {
		return false, err
	}
	var due []anchorNotice
	err = jobs.View(ctx, func(tx Tx) error {
		due = nil
		plans, err := PlansOnRecord(tx)
		if err != nil {
			return err
		}
		plan, _ := policies.Nearest(plans, policies.RollIssuers, "", "")
		due, err = anchorsDue(tx, plan.Rotation(), now)
		return err
	})
	if err != nil {
		return false, err
	}
	for _, n := range due {
		if err := e.noticeAnchor(ctx, jobs, n, now); err != nil {
			return false, err
		}
	}
	return false, nil
}

// anchorsDue are the notices that were not given yet.
func anchorsDue(tx Tx, rule policies.RotationPolicy, now time.Time) (due []anchorNotice, err error) {
	after := ""
	for {
		page, err := tx.Anchors(after, anchorPage)
		if err != nil {
			return nil, err
		}
		for _, a := range page {
			c := a.Link().Cert
			if !a.IsVerified() || now.Before(rule.PrepareAfter(c.NotBefore, c.NotAfter)) {
				continue
			}
			notices := []anchorNotice{{a, audit.RollTold, ca.SuccessorDue}}
			if !now.Before(rule.RemindAfter(c.NotBefore, c.NotAfter)) {
				notices = append(notices, anchorNotice{a, audit.RollStuck, ca.SuccessorLate})
			}
			for _, n := range notices {
				given, err := tx.Noticed(n.key())
				if err != nil {
					return nil, err
				}
				if !given {
					due = append(due, n)
				}
			}
		}
		if len(page) < anchorPage {
			return due, nil
		}
		after = page[len(page)-1].Name()
	}
}

func (e *Engine) noticeAnchor(ctx context.Context, jobs Store, n anchorNotice, now time.Time) error {
	err := jobs.Update(ctx, func(tx Tx) error {
		if err := tx.Notice(n.key(), now); err != nil {
			return err
		}
		return tx.Append(audit.Event{At: now, Actor: jobRotation, Action: n.action, Subject: "anchor:" + n.anchor.Name(),
			Body: audit.Body(map[string]any{"reason": n.reason, "notAfter": n.anchor.Link().Cert.NotAfter})})
	})
	if fault.RuleOf(err) == "notice-exists" {
		return nil // another process was first
	}
	return err
}

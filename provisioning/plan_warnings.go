package provisioning

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// maxPlanWarned bounds the entries of a plan that are looked at for warnings.
const maxPlanWarned = 100

// life is what a plan would roll: how long it lives, and by which rule.
type life struct {
	what string
	long time.Duration
	rule policies.RotationPolicy
}

// planWarnings says what may surprise about a plan: another one that fits alike, an overlap
// longer than a life, windows so rare that something would end first.
func planWarnings(tx Tx, p policies.RotationPlan, now time.Time) (warnings []string, err error) {
	plans, err := tx.Plans()
	if err != nil {
		return nil, err
	}
	for _, q := range plans {
		if q.Name != p.Name && q.Rivals(p) {
			warnings = append(warnings, fmt.Sprintf("plan %s fits the same alike: %s decides, the first by name", q.Name, min(q.Name, p.Name)))
		}
	}
	lives, err := planLives(tx, p)
	if err != nil {
		return nil, err
	}
	closed := p.Windows.Closed(now)
	for _, l := range lives {
		if l.rule.Overlap >= l.long {
			warnings = append(warnings, fmt.Sprintf("%s lives %s, which is no longer than the overlap of %s: the old one stands until it ends", l.what, l.long, l.rule.Overlap))
		}
		late := l.rule.RemindAfter(now, now.Add(l.long))
		if left := now.Add(l.long).Sub(late); closed >= left {
			warnings = append(warnings, fmt.Sprintf("%s has %s left when it is late, and no window is open for up to %s: it may end first", l.what, left.Round(time.Second), closed))
		}
	}
	return warnings, nil
}

// planLives are what is known of the lives of what a plan is for: issuing profiles, and
// certificates in the slots of entries that it names.
func planLives(tx Tx, p policies.RotationPlan) (lives []life, err error) {
	switch p.Role {
	case policies.RollDevices:
		profiles, err := tx.Profiles()
		for _, x := range profiles {
			if len(p.Profiles) == 0 || slices.Contains(p.Profiles, x.Name) {
				lives = append(lives, life{"a certificate of profile " + x.Name, x.Lifetime, x.Renewal})
			}
		}
		return lives, err
	case policies.RollIssuers:
		issuers, err := tx.Issuers()
		for _, i := range issuers {
			if p.Fit(p.Role, "", i.Profile) > 0 {
				lives = addLife(lives, "issuer "+string(i.ID), i.Certificate, p)
			}
		}
		return lives, err
	case policies.RollEnrollments, policies.RollGroups:
		return entryLives(tx, p)
	case policies.RollKeys, policies.RollAccess: // their life is the plan's own Every
	}
	return nil, nil
}

func entryLives(tx Tx, p policies.RotationPlan) (lives []life, err error) {
	kind := Individual
	if p.Role == policies.RollGroups {
		kind = Group
	}
	for _, name := range p.Entries[:min(len(p.Entries), maxPlanWarned)] {
		id, err := verify.ParseRegistrationID(name)
		if err != nil {
			return nil, err
		}
		entry, err := tx.Enrollment(Owner{Kind: kind, ID: id})
		if fault.Is(err, fault.NotFound) {
			continue // the plan is there first
		}
		if err != nil {
			return nil, err
		}
		for _, c := range entry.Credentials {
			lives = addLife(lives, entry.Owner.String()+"'s "+c.Slot.String()+" certificate", c.Certificate, p)
		}
	}
	return lives, nil
}

// addLife adds a certificate's life, where there is one that parses.
func addLife(lives []life, what string, der []byte, p policies.RotationPlan) []life {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return lives
	}
	return append(lives, life{what, cert.NotAfter.Sub(cert.NotBefore), p.Rotation()})
}

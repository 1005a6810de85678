package ca

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

// The rule words of what is told of an issuer, and of why its roll does not go on.
const (
	SuccessorDue       = "successor-due"       // told: make the next one
	SuccessorPublished = "successor-published" // told: the next one has been in the bundle, promote it
	SuccessorLate      = "successor-late"      // stuck: no successor is active, and what the issuer signs is cut short soon
)

// Schedule is what the roll of issuers rests on.
type Schedule struct {
	Plans []policies.RotationPlan
	// Lifetime is how long the longest certificate of a profile lives, of all for "".
	Lifetime func(profile string) time.Duration
}

// plan is the plan for an issuer. Without any, operators are told at the usual time, and
// nothing is done by itself.
func (s Schedule) plan(profile string) policies.RotationPlan {
	found, _ := policies.Nearest(s.Plans, policies.RollIssuers, "", profile)
	return found
}

// dates are when the successor of an issuer is due, and when it is late. Of an issuing CA it
// is due at the plan's share of the life, but early enough to be published before what the CA
// signs no longer fits into its life (see policies.Profile.Validity), if that is not in the
// first half of it.
func (i *issuer) dates(p policies.RotationPlan, longest time.Duration) (due, late time.Time) {
	from, to, rule := i.certificate.NotBefore, i.certificate.NotAfter, p.Rotation()
	due, late = rule.PrepareAfter(from, to), rule.RemindAfter(from, to)
	if i.Role != RoleIssuing {
		return due, late
	}
	fits := to.Add(-longest)
	if half := from.Add(to.Sub(from) / 2); fits.Before(half) {
		fits = half
	}
	if early := fits.Add(-p.Publish); early.Before(due) {
		due = early
	}
	if fits.Before(late) {
		late = fits
	}
	return due, late
}

// SweepIssuerRoll rolls the active issuers that are due. Where a plan says auto and the key
// of the CA above is here, the successor of an issuing CA is made, stands in the bundle for
// as long as the plan says, and is promoted; it retires the former one as Promote does. What
// only an operator can do, for roots, CAs elsewhere, and without auto, is told once
// (roll.told, with the command), and once more when it is late (roll.stuck). It may run at
// any time and in several processes.
func (a *Authority) SweepIssuerRoll(ctx context.Context, s Schedule) (more bool, err error) {
	if err := a.Reload(ctx); err != nil {
		return false, err
	}
	h, now := a.current.Load(), a.now().UTC()
	var failed []error
	for _, i := range h.issuers {
		if i.State != IssuerActive || !now.Before(i.certificate.NotAfter) {
			continue
		}
		p := s.plan(i.Profile)
		due, late := i.dates(p, s.Lifetime(i.Profile))
		if now.Before(due) {
			continue
		}
		err := a.rollIssuer(ctx, h, i, p, now)
		if !now.Before(late) {
			err = errors.Join(err, a.tellOnce(ctx, i, audit.RollStuck, SuccessorLate, "", late, now))
		}
		if err != nil {
			failed = append(failed, err)
		}
	}
	return false, errors.Join(failed...)
}

// rollIssuer takes the next step of one that is due.
func (a *Authority) rollIssuer(ctx context.Context, h *hierarchy, i *issuer, p policies.RotationPlan, now time.Time) error {
	open, _ := p.Windows.Open(now)
	act := p.Auto && open && !p.Paused && i.Role == RoleIssuing
	next := h.prepared(i.Role, i.Profile)
	ends := i.certificate.NotAfter
	switch {
	case next == nil && p.Auto && h.above(i) != nil && i.Role == RoleIssuing:
		if !act {
			return nil // in the next window
		}
		return wasFirst(a.succeed(ctx, h, i, now), "issuer-prepared", "issuer-moved")
	case next == nil:
		return a.tellOnce(ctx, i, audit.RollTold, SuccessorDue, h.advice(i), ends, now)
	case now.Before(next.Created.Add(p.Publish)):
		return nil
	case p.Auto && i.Role == RoleIssuing:
		if !act {
			return nil
		}
		_, err := a.Promote(ctx, issuersActor, next.ID, Promotion{})
		return wasFirst(err, "issuer-not-prepared", "issuer-moved")
	}
	return a.tellOnce(ctx, i, audit.RollTold, SuccessorPublished, "muster ca promote "+string(next.ID), ends, now)
}

// wasFirst passes over the rules that say that another process, or an operator, was first.
func wasFirst(err error, rules ...string) error {
	if slices.Contains(rules, fault.RuleOf(err)) {
		return nil
	}
	return err
}

// prepared is the issuer that waits to follow the active one of a role and profile.
func (h *hierarchy) prepared(role Role, profile string) *issuer {
	at := slices.IndexFunc(h.issuers, func(i *issuer) bool { return i.Role == role && i.Profile == profile && i.State == IssuerPrepared })
	if at < 0 {
		return nil
	}
	return h.issuers[at]
}

// above is the root that can sign a successor of an issuing CA here and outlives that one:
// the one above it, or else the active one; nil without any.
func (h *hierarchy) above(i *issuer) (found *issuer) {
	for _, root := range h.issuers {
		signs := root.Role == RoleRoot && root.signer != nil && (root.State == IssuerActive || root.ID == i.Parent && root.State == IssuerPrepared)
		if signs && i.Upstream == "" && root.certificate.NotAfter.After(i.certificate.NotAfter) && (found == nil || root.ID == i.Parent) {
			found = root
		}
	}
	return found
}

// succeed makes the successor of an issuing CA, like it but for its name, key and dates.
func (a *Authority) succeed(ctx context.Context, h *hierarchy, i *issuer, now time.Time) error {
	kt, err := policies.KeyTypeOf(i.certificate.PublicKey)
	if err != nil {
		return err
	}
	life := i.certificate.NotAfter.Sub(i.certificate.NotBefore) - caBackdate
	next, err := a.draftIssuing(ctx, h.above(i), IssuingRequest{
		Name: h.nextName(i.Name), Profile: i.Profile, KeyType: kt, Lifetime: min(max(life, time.Hour), 50*year),
	}, now)
	if err != nil {
		return err
	}
	return a.establishIf(ctx, issuersActor, func(tx Tx) error { return activeStill(tx, i.Issuer) }, nil, next)
}

// activeStill says in the transaction that the issuer to be followed is the active one: else
// another process may have made the successor, and promoted it, meanwhile.
func activeStill(tx Tx, i Issuer) error {
	rows, err := tx.Issuers()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(rows, func(row Issuer) bool { return row.ID == i.ID && row.State == IssuerActive }) {
		return fault.New(fault.Conflict, "issuer-moved", "The issuer was moved by somebody else.").About("issuer " + string(i.ID))
	}
	return nil
}

// nextName counts up the number at the end of a name, until no issuer has that name.
func (h *hierarchy) nextName(name string) string {
	base, n := name, 1
	if at := strings.LastIndexByte(name, ' '); at > 0 {
		if counted, err := strconv.Atoi(name[at+1:]); err == nil && counted > 0 && counted < 1_000_000 {
			base, n = name[:at], counted
		}
	}
	for {
		n++
		number := " " + strconv.Itoa(n)
		stem := []rune(base)
		next := strings.TrimSpace(string(stem[:min(len(stem), maxCommonName-len(number))])) + number
		if !slices.ContainsFunc(h.issuers, func(i *issuer) bool { return i.Name == next }) {
			return next
		}
	}
}

// advice is the command by which an operator makes a successor.
func (h *hierarchy) advice(i *issuer) string {
	name, profile := strconv.Quote(h.nextName(i.Name)), ""
	if i.Profile != "" {
		profile = " --profile " + i.Profile
	}
	switch {
	case i.Role == RoleRoot && i.signer == nil:
		return "muster ca ceremony root"
	case i.Role == RoleRoot:
		return "muster ca create " + name + " --root"
	case i.Role == RoleExternal:
		return "muster ca import"
	case i.Upstream != "":
		return "muster ca upstream add " + i.Upstream + profile
	case h.above(i) != nil:
		return "muster ca create " + name + " --parent " + string(h.above(i).ID) + profile
	}
	return "muster ca create " + name + profile + " --csr-out issuing.csr"
}

// tellOnce writes into the ledger what is to be done about an issuer, or that it is late. by
// is until when.
func (a *Authority) tellOnce(ctx context.Context, i *issuer, action audit.Action, reason, run string, by, now time.Time) error {
	notice := string(action) + " issuer:" + string(i.ID) + " " + reason
	told := false
	err := a.store.View(ctx, func(tx Tx) (err error) {
		told, err = tx.Noticed(notice)
		return err
	})
	if err != nil || told {
		return err
	}
	body := map[string]any{"name": i.Name, "role": i.Role, "profile": i.Profile, "reason": reason, "by": by, "notAfter": i.certificate.NotAfter}
	if run != "" {
		body["run"] = run
	}
	err = a.store.Update(ctx, func(tx Tx) error {
		if err := tx.Notice(notice, now); err != nil {
			return err
		}
		return tx.Append(audit.Event{At: now, Actor: issuersActor, Action: action, Subject: "issuer:" + string(i.ID), Body: audit.Body(body)})
	})
	return wasFirst(err, "notice-exists")
}

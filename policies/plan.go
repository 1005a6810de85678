package policies

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// RollRole is what sort of credential a rotation plan is about.
type RollRole string

// The roles. When the successor of a device's certificate is due, and for how long the old
// one stands, is said by the issuing profile (Profile.Renewal); of all others by the plan.
const (
	RollDevices     RollRole = "devices"     // certificates issued here
	RollEnrollments RollRole = "enrollments" // client certificates in individual enrollments
	RollGroups      RollRole = "groups"      // signing certificates and CA references of groups
	RollKeys        RollRole = "keys"        // symmetric keys of enrollments and groups
	RollAccess      RollRole = "access"      // keys of shared access policies
	RollIssuers     RollRole = "issuers"     // issuing CAs
)

// RotationPlan says who of a role is moved, when, and how many in an hour. Of several plans
// that fit, the one that names the entry decides, then the one that names the profile, then
// the one that names neither; without any, moves are not held back and nothing but what the
// profile says is done by itself.
type RotationPlan struct {
	Name   string // as a profile's
	Role   RollRole
	Paused bool
	// Entries and Profiles narrow whom the plan is for; both empty: everybody of the role.
	// Entries are ids of enrollments or groups, or names of policies; Profiles only narrow
	// devices and issuers.
	Entries, Profiles []string

	Windows    Windows // when the plan may move anything
	MaxPerHour int     // 0: no bound
	// Jitter spreads what comes due together over this share of a credential's life, 0 to 0.3,
	// by a fixed place for each owner.
	Jitter float64

	// Roles other than devices only. PrepareAt and Overlap as in RotationPolicy. Every is the
	// age at which keys, which have no end of their own, are rolled; 0: not by themselves.
	PrepareAt float64
	Overlap   time.Duration
	Every     time.Duration
	// Deadline is how long after a cut-over stragglers of a group are waited for, at most; 0:
	// until there are none.
	Deadline time.Duration
	// Auto lets an issuing CA's successor be made, published and promoted on schedule, where
	// its issuer's key is at hand; else that is only asked for. Publish is how long it stands in
	// the trust bundle before it signs.
	Auto    bool
	Publish time.Duration
}

const (
	maxJitter   = 0.3
	minEvery    = time.Hour
	maxEvery    = 10 * 366 * 24 * time.Hour
	maxDeadline = 366 * 24 * time.Hour
	maxPublish  = 366 * 24 * time.Hour
	maxHourly   = 1_000_000

	maxPlanEntries  = 1000
	maxPlanProfiles = 100
	maxEntryName    = 136
)

// Validate reports everything that is wrong with the plan: one Malformed fault
// "plan-invalid" with a field for each bad value. now is where its windows are looked for
// from.
func (p RotationPlan) Validate(now time.Time) error {
	var bad findings
	if !ValidName(p.Name) {
		bad.add("/name", "a plan's name is 1 to 64 letters, digits, dots, dashes and underscores, with at least one letter or digit")
	}
	switch p.Role {
	case RollDevices, RollEnrollments, RollGroups, RollKeys, RollAccess, RollIssuers:
	default:
		bad.add("/role", "a role is one of devices, enrollments, groups, keys, access, issuers")
	}
	p.checkOwners(&bad)
	p.Windows.check(&bad, "/windows", now)
	if p.MaxPerHour < 0 || p.MaxPerHour > maxHourly {
		bad.add("/maxPerHour", "at most 1000000 are moved in an hour")
	}
	if !(p.Jitter >= 0 && p.Jitter <= maxJitter) {
		bad.add("/jitter", "moves are spread over a share between 0 and 0.3 of the life")
	}
	if p.Jitter != 0 && p.Role != RollDevices && p.Role != RollKeys && p.Role != RollAccess {
		bad.add("/jitter", "only devices and keys are spread: certificates in slots roll when they were seen in use")
	}
	if p.MaxPerHour > 0 && p.Role == RollIssuers {
		bad.add("/maxPerHour", "issuers follow each other one at a time")
	}
	p.checkDates(&bad)
	return bad.fault("plan-invalid")
}

// checkOwners checks whom the plan is for. That an entry or profile exists is not asked: a
// plan may be there first.
func (p RotationPlan) checkOwners(bad *findings) {
	if len(p.Entries) > maxPlanEntries {
		bad.add("/entries", "a plan names at most 1000 entries; leave them out for all of the role")
	}
	if len(p.Entries) > 0 && p.Role == RollIssuers {
		bad.add("/entries", "issuers are not entries: name their profiles")
	}
	if len(p.Profiles) > maxPlanProfiles {
		bad.add("/profiles", "a plan names at most 100 profiles")
	}
	if len(p.Profiles) > 0 && p.Role != RollDevices && p.Role != RollIssuers {
		bad.add("/profiles", "only devices and issuers have issuing profiles")
	}
	for _, list := range []struct {
		pointer string
		names   []string
		valid   func(string) bool
	}{{"/entries", p.Entries, validEntryName}, {"/profiles", p.Profiles, ValidName}} {
		for i, name := range list.names {
			if !list.valid(name) {
				bad.add(list.pointer+"/"+strconv.Itoa(i), "this is no such name")
			} else if slices.Contains(list.names[:i], name) {
				bad.add(list.pointer+"/"+strconv.Itoa(i), "this name is here twice")
			}
		}
	}
}

// validEntryName takes ids of entries (INV-P3) and names of access policies, with or without
// their plane.
func validEntryName(name string) bool {
	return name != "" && len(name) <= maxEntryName && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// checkDates checks what only credentials without an issuing profile have.
func (p RotationPlan) checkDates(bad *findings) {
	if p.Role == RollDevices {
		for _, x := range []struct {
			field string
			given bool
		}{{"/prepareAt", p.PrepareAt != 0}, {"/overlap", p.Overlap != 0}, {"/every", p.Every != 0}, {"/deadline", p.Deadline != 0}} {
			if x.given {
				bad.add(x.field, "when a device's certificate rolls is said by its issuing profile")
			}
		}
	} else if p.PrepareAt != 0 {
		RotationPolicy{PrepareAt: p.PrepareAt, Overlap: p.Overlap}.check(bad, "")
	} else if p.Overlap < 0 || p.Overlap > maxOverlap {
		bad.add("/overlap", "an overlap is between 0 and 366 days")
	}
	keys := p.Role == RollKeys || p.Role == RollAccess
	switch {
	case p.Every != 0 && !keys:
		bad.add("/every", "only keys roll by their age")
	case p.Every != 0 && (p.Every < minEvery || p.Every > maxEvery):
		bad.add("/every", "keys roll every hour at most, and every 10 years at least")
	case p.Every != 0 && p.Overlap >= p.Every:
		bad.add("/overlap", "an overlap as long as the time between two rolls leaves both keys valid for ever")
	}
	if p.Deadline < 0 || p.Deadline > maxDeadline {
		bad.add("/deadline", "a deadline lies at most 366 days after the cut-over")
	}
	if p.Publish < 0 || p.Publish > maxPublish {
		bad.add("/publish", "an issuer is published at most 366 days before it signs")
	}
	if (p.Auto || p.Publish != 0) && p.Role != RollIssuers {
		bad.add("/auto", "only issuers have successors made for them")
	}
}

// Rotation is the plan's rule for credentials that no issuing profile speaks of.
func (p RotationPlan) Rotation() RotationPolicy {
	r := DefaultRotationPolicy()
	if p.PrepareAt != 0 {
		r.PrepareAt = p.PrepareAt
	}
	if p.Overlap != 0 {
		r.Overlap = p.Overlap
	}
	return r
}

// Fit says how nearly the plan is about a credential of a role: of an entry (or access
// policy) and under an issuing profile, either of which may be "". 0: not at all; of several
// plans the one with the greatest number decides.
func (p RotationPlan) Fit(role RollRole, entry, profile string) int {
	named := func(name string) bool { return strings.EqualFold(name, entry) }
	if p.Role != role || len(p.Entries) > 0 && !slices.ContainsFunc(p.Entries, named) || len(p.Profiles) > 0 && !slices.Contains(p.Profiles, profile) {
		return 0
	}
	fit := 1
	if len(p.Profiles) > 0 {
		fit++
	}
	if len(p.Entries) > 0 {
		fit += 2
	}
	return fit
}

// Nearest is the plan that decides about a credential of a role: the one that fits it best, of
// several the first by name, a paused one too; false without any. Everybody asks here.
func Nearest(plans []RotationPlan, role RollRole, entry, profile string) (nearest RotationPlan, found bool) {
	best, at := 0, -1
	for i := range plans {
		fit := plans[i].Fit(role, entry, profile)
		if fit > best || fit > 0 && fit == best && plans[i].Name < plans[at].Name {
			best, at = fit, i
		}
	}
	if at < 0 {
		return RotationPlan{Role: role}, false
	}
	return plans[at], true
}

// Rivals says that some credential fits both plans alike, so that only their names decide.
func (p RotationPlan) Rivals(q RotationPlan) bool {
	return p.Role == q.Role && (len(p.Entries) > 0) == (len(q.Entries) > 0) && (len(p.Profiles) > 0) == (len(q.Profiles) > 0) &&
		meet(p.Entries, q.Entries) && meet(p.Profiles, q.Profiles)
}

// meet says that two lists narrow to something in common; an empty one does not narrow.
func meet(a, b []string) bool {
	return len(a) == 0 || len(b) == 0 || slices.ContainsFunc(a, func(name string) bool { return slices.Contains(b, name) })
}

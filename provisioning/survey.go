package provisioning

import (
	"context"
	"crypto/x509"
	"slices"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// ExpiryRole is what sort of credential a survey counts.
type ExpiryRole string

// The roles, and what is counted of each.
const (
	ExpiryDevices     ExpiryRole = "device"     // the certificate in use of each registration
	ExpiryEnrollments ExpiryRole = "enrollment" // client certificates of entries: the active one
	ExpiryGroups      ExpiryRole = "group"      // signing certificates: the active one of each group
	ExpiryKeys        ExpiryRole = "key"        // entries with symmetric keys, which have no end
	ExpiryAccess      ExpiryRole = "access"     // shared access policies, whose keys have none
	ExpiryAnchors     ExpiryRole = "anchor"
	ExpiryIssuers     ExpiryRole = "issuer" // but retired and revoked ones
	ExpiryResponders  ExpiryRole = "ocsp"
)

// ExpirySpans are the spans of RoleSurvey.Within.
var ExpirySpans = [...]time.Duration{24 * time.Hour, 7 * 24 * time.Hour, 30 * 24 * time.Hour, 90 * 24 * time.Hour}

const (
	week = 7 * 24 * time.Hour
	// surveyedWeeks is how far a survey counts by week.
	surveyedWeeks = 156
	surveyPage    = 2000
)

// Survey says when what ends. It is made from time to time, not when it is asked for:
// reading a million devices takes seconds.
type Survey struct {
	At    time.Time
	Took  time.Duration
	Roles []RoleSurvey // each role once, in the order of the constants
}

// RoleSurvey counts the credentials of a role. Each is counted once, in one of Endless, Ended,
// Later and the Ending of a week.
type RoleSurvey struct {
	Role    ExpiryRole
	Total   int64
	Endless int64     // without an end
	Ended   int64     // the end is over
	Later   int64     // the end is beyond the last week counted
	Within  [4]int64  // ends within each of ExpirySpans from At on
	Soonest time.Time // of the ends to come that have no successor; zero: none
	Weeks   []WeekSurvey
}

// WeekSurvey counts a week of ISO 8601, from Monday on, UTC.
type WeekSurvey struct {
	Begins    time.Time
	Ending    int64 // end in this week
	Succeeded int64 // of those, have a successor that ends later
	Renewals  int64 // get their successor in this week, if all goes to plan; what is late, in the first
}

// WeekOf is the Monday on which the week of a time begins, UTC.
func WeekOf(t time.Time) time.Time {
	t = t.UTC()
	return time.Date(t.Year(), t.Month(), t.Day()-(int(t.Weekday())+6)%7, 0, 0, 0, 0, time.UTC)
}

// Survey reads the last survey. Before the first it is Unavailable, rule "not-surveyed".
func (e *Engine) Survey(ctx context.Context) (s Survey, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		s, err = tx.Survey()
		return err
	})
	if fault.Is(err, fault.NotFound) {
		err = fault.New(fault.Unavailable, "not-surveyed", "what ends when has not been counted yet; it is soon after the server started, then once an hour")
	}
	return s, err
}

// SurveyOf is the survey of one certificate that is in no table.
func SurveyOf(role ExpiryRole, cert *x509.Certificate, now time.Time) RoleSurvey {
	s := surveying{at: now, roles: map[ExpiryRole]*tally{}}
	s.add(role, cert.NotAfter, policies.DefaultRotationPolicy().PrepareAfter(cert.NotBefore, cert.NotAfter), false)
	return s.role(role).counted(now)
}

// SweepExpiry surveys everything that ends and keeps the result. It reads all registrations
// and entries in pages, each in a View of its own, and writes one row: run it once an hour.
func (e *Engine) SweepExpiry(ctx context.Context, jobs Store) (more bool, err error) {
	began := e.now()
	s := surveying{at: began, roles: map[ExpiryRole]*tally{}}
	for _, part := range []func(context.Context, Store) error{s.few, s.devices, s.individuals, s.groups} {
		if err := part(ctx, jobs); err != nil {
			return false, err
		}
	}
	result := s.result()
	result.Took = e.now().Sub(began)
	return false, jobs.Update(ctx, func(tx Tx) error { return tx.PutSurvey(result) })
}

// surveying is a survey being made.
type surveying struct {
	at       time.Time
	roles    map[ExpiryRole]*tally
	profiles map[string]policies.RotationPolicy
	plans    []policies.RotationPlan
}

// tally counts a role; weeks by their number from that of the survey on.
type tally struct {
	RoleSurvey
	weeks [surveyedWeeks]WeekSurvey
}

func (s *surveying) role(r ExpiryRole) *tally {
	t := s.roles[r]
	if t == nil {
		t = &tally{RoleSurvey: RoleSurvey{Role: r}}
		s.roles[r] = t
	}
	return t
}

// add counts what ends at a time, and whose successor is there or due at prepare.
func (s *surveying) add(r ExpiryRole, end, prepare time.Time, succeeded bool) {
	t := s.role(r)
	t.Total++
	if !succeeded {
		if n := s.weekNumber(prepare); n < surveyedWeeks {
			t.weeks[max(0, n)].Renewals++
		}
	}
	if !end.After(s.at) {
		t.Ended++
		return
	}
	if !succeeded && (t.Soonest.IsZero() || end.Before(t.Soonest)) {
		t.Soonest = end
	}
	for i, span := range ExpirySpans {
		if !end.After(s.at.Add(span)) {
			t.Within[i]++
		}
	}
	n := s.weekNumber(end)
	if n >= surveyedWeeks {
		t.Later++
		return
	}
	t.weeks[n].Ending++
	if succeeded {
		t.weeks[n].Succeeded++
	}
}

// weekNumber counts the weeks from that of the survey to that of a time.
func (s *surveying) weekNumber(t time.Time) int {
	return int((WeekOf(t).Unix() - WeekOf(s.at).Unix()) / int64(week/time.Second))
}

// counted is the tally with the weeks in which something happens.
func (t *tally) counted(at time.Time) RoleSurvey {
	for n, w := range t.weeks {
		if w != (WeekSurvey{}) {
			w.Begins = WeekOf(at).AddDate(0, 0, 7*n)
			t.Weeks = append(t.Weeks, w)
		}
	}
	return t.RoleSurvey
}

func (s *surveying) result() Survey {
	out := Survey{At: s.at}
	for _, role := range []ExpiryRole{ExpiryDevices, ExpiryEnrollments, ExpiryGroups, ExpiryKeys, ExpiryAccess, ExpiryAnchors, ExpiryIssuers, ExpiryResponders} {
		out.Roles = append(out.Roles, s.role(role).counted(s.at))
	}
	return out
}

// few reads what there are few of, and by which rules the rest rolls.
func (s *surveying) few(ctx context.Context, jobs Store) error {
	return jobs.View(ctx, func(tx Tx) error {
		profiles, err := tx.Profiles()
		if err != nil {
			return err
		}
		s.profiles = map[string]policies.RotationPolicy{}
		for _, p := range profiles {
			s.profiles[p.Name] = p.Renewal
		}
		if s.plans, err = PlansOnRecord(tx); err != nil {
			return err
		}
		access, err := tx.AccessPolicies()
		if err != nil {
			return err
		}
		t := s.role(ExpiryAccess)
		t.Total, t.Endless = int64(len(access)), int64(len(access))
		if err := s.anchors(tx); err != nil {
			return err
		}
		return s.issuers(tx)
	})
}

func (s *surveying) anchors(tx Tx) error {
	for after := ""; ; {
		page, err := tx.Anchors(after, surveyPage)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, a := range page {
			cert := a.Link().Cert
			s.add(ExpiryAnchors, cert.NotAfter, policies.DefaultRotationPolicy().PrepareAfter(cert.NotBefore, cert.NotAfter), false)
			after = a.Name()
		}
	}
}

func (s *surveying) issuers(tx Tx) error {
	issuers, err := tx.Issuers()
	if err != nil {
		return err
	}
	for _, i := range issuers {
		if i.State == ca.IssuerRetired || i.State == ca.IssuerRevoked {
			continue
		}
		cert, err := x509.ParseCertificate(i.Certificate)
		if err != nil {
			continue // nothing is known of its end
		}
		s.add(ExpiryIssuers, cert.NotAfter, s.rule(policies.RollIssuers, Owner{}, i.Profile).PrepareAfter(cert.NotBefore, cert.NotAfter),
			i.State == ca.IssuerRetiring || Succeeded(issuers, i))
		switch responder, err := tx.OCSPResponder(i.ID); {
		case err == nil:
			s.add(ExpiryResponders, responder.NotAfter, responder.NotAfter, false)
		case !fault.Is(err, fault.NotFound):
			return err
		}
	}
	return nil
}

// Succeeded says that another issuer of the role and profile is prepared.
func Succeeded(issuers []ca.Issuer, i ca.Issuer) bool {
	return slices.ContainsFunc(issuers, func(x ca.Issuer) bool {
		return x.State == ca.IssuerPrepared && x.Role == i.Role && x.Profile == i.Profile && x.ID != i.ID
	})
}

// rule is by what rule something rolls that no issuing profile speaks of.
func (s *surveying) rule(role policies.RollRole, o Owner, profile string) policies.RotationPolicy {
	plan, _ := policies.Nearest(s.plans, role, o.ID.String(), profile)
	return plan.Rotation()
}

func (s *surveying) devices(ctx context.Context, jobs Store) error {
	for after := (verify.RegistrationID{}); ; {
		var page []SurveyedDevice
		err := jobs.View(ctx, func(tx Tx) (err error) {
			page, err = tx.SurveyedDevices(after, surveyPage)
			return err
		})
		if err != nil || len(page) == 0 {
			return err
		}
		for _, d := range page {
			rule, known := s.profiles[d.Profile]
			if !known {
				rule = policies.DefaultRotationPolicy()
			}
			s.pair(ExpiryDevices, d.Pair, rule)
			after = d.ID
		}
	}
}

func (s *surveying) individuals(ctx context.Context, jobs Store) error {
	return s.entries(ctx, jobs, Individual)
}

func (s *surveying) groups(ctx context.Context, jobs Store) error {
	return s.entries(ctx, jobs, Group)
}

func (s *surveying) entries(ctx context.Context, jobs Store, kind Kind) error {
	for after := (verify.RegistrationID{}); ; {
		var page []entrySlots
		err := jobs.View(ctx, func(tx Tx) error {
			list, err := tx.Enrollments(EnrollmentFilter{Kind: kind, After: after, Limit: surveyPage})
			page = make([]entrySlots, len(list))
			for i := range list {
				if err == nil {
					page[i], err = readSlots(tx, list[i])
				}
			}
			return err
		})
		if err != nil || len(page) == 0 {
			return err
		}
		for _, e := range page {
			s.entry(e)
			after = e.entry.ID
		}
	}
}

func (s *surveying) entry(e entrySlots) {
	role, by := ExpiryEnrollments, policies.RollEnrollments
	switch e.entry.Role() {
	case RoleKey:
		t := s.role(ExpiryKeys)
		t.Total++
		t.Endless++
		return
	case RoleSigning:
		role, by = ExpiryGroups, policies.RollGroups
	case RoleClient:
	default: // anchors are counted as such, and TPMs do not end
		return
	}
	s.pair(role, e.pair, s.rule(by, e.entry.Owner, ""))
}

// pair adds what a pair has in use, under the rule by which it rolls.
func (s *surveying) pair(role ExpiryRole, p rotation.Pair, rule policies.RotationPolicy) {
	if use, next := p.Current(), p.Successor(); use.State != rotation.Empty {
		s.add(role, use.NotAfter, rule.PrepareAfter(use.NotBefore, use.NotAfter), next.NotAfter.After(use.NotAfter))
	}
}

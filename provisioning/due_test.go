package provisioning_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

// dueNames are the names of what is due within a time, with move and reason.
func (w *world) dueNames(within time.Duration, role provisioning.ExpiryRole) (list []string) {
	w.t.Helper()
	due, err := w.engine.Due(w.ctx, provisioning.DueQuery{By: w.now().Add(within), Role: role, Limit: 50})
	w.must(err)
	for _, d := range due {
		list = append(list, fmt.Sprintf("%s: %s, %s", d.Name, d.Move, d.Reason))
	}
	return list
}

func TestEntriesAreDueByWhatIsInTheirSlots(t *testing.T) {
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > dev-1; mid > dev-1b [cn=dev-1]")
	w.anchor(f.Get("root"), true)
	w.individual("dev-1", f.Get("dev-1"), nil)
	w.group("line-1", f.Get("mid"))
	w.keyed(provisioning.Group, "line-2")
	if got, want := w.dueNames(0, provisioning.ExpiryEnrollments), []string{"dev-1: review, looked-at"}; !slices.Equal(got, want) {
		t.Errorf("enrollments: %q, want %q", got, want)
	}
	if got, want := w.dueNames(0, provisioning.ExpiryGroups), []string{"line-1: review, looked-at"}; !slices.Equal(got, want) {
		t.Errorf("groups: %q, want %q", got, want)
	}
	if got, want := w.dueNames(0, provisioning.ExpiryKeys), []string{"line-2: review, looked-at"}; !slices.Equal(got, want) {
		t.Errorf("keys: %q, want %q", got, want)
	}
	w.pass(f.Get("dev-1").Cert.NotAfter.Sub(w.now()) - time.Hour)
	if got, want := w.dueNames(0, provisioning.ExpiryEnrollments), []string{"dev-1: remind, renewal-late"}; !slices.Equal(got, want) {
		t.Errorf("an hour before its end: %q, want %q", got, want)
	}
	w.pass(2 * time.Hour)
	if got, want := w.dueNames(0, provisioning.ExpiryEnrollments), []string{"dev-1: remind, expired"}; !slices.Equal(got, want) {
		t.Errorf("after its end: %q, want %q", got, want)
	}
}

func TestIssuersAndAnchorsAreDueBeforeTheyEnd(t *testing.T) {
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid")
	w.anchor(f.Get("root"), true)
	if got := w.dueNames(day, provisioning.ExpiryIssuers); len(got) > 0 {
		t.Errorf("issuers on their first day: %q", got)
	}
	if got := w.dueNames(100*365*day, provisioning.ExpiryIssuers); len(got) != 2 {
		t.Errorf("issuers: %q", got)
	}
	if got := w.dueNames(100*365*day, provisioning.ExpiryAnchors); len(got) != 1 || got[0] != f.Get("root").Cert.Subject.CommonName+": replace, ends" {
		t.Errorf("anchors: %q", got)
	}
	w.plan(policies.RotationPlan{Name: "early", Role: policies.RollIssuers, PrepareAt: .1})
	due, err := w.engine.Due(w.ctx, provisioning.DueQuery{By: w.now().Add(100 * 365 * day), Role: provisioning.ExpiryIssuers, Limit: 1})
	w.must(err)
	if len(due) != 1 || due[0].Plan != "early" || due[0].At.After(w.now().Add(365*day)) {
		t.Errorf("under a plan that prepares early: %+v", due)
	}
}

// A survey of every role, on the day it is made and after most has ended.
func TestASurveyCountsEachCredentialOnce(t *testing.T) {
	w := newWorld(t)
	f := testkit.Chain(t, "root > mid > dev-1; mid > dev-2")
	w.anchor(f.Get("root"), true)
	w.individual("dev-1", f.Get("dev-1"), nil)
	w.group("line-1", f.Get("mid"))
	w.keyed(provisioning.Group, "line-2")
	_, err := w.enroll(w.presenting("dev-2", f.Get("dev-2").Chain()...))
	w.must(err)
	survey := func() map[provisioning.ExpiryRole]provisioning.RoleSurvey {
		t.Helper()
		_, err := w.engine.SweepExpiry(w.ctx, w.db.ProvisioningJobs())
		w.must(err)
		s, err := w.engine.Survey(w.ctx)
		w.must(err)
		if !s.At.Equal(w.now()) {
			t.Errorf("surveyed at %v", s.At)
		}
		byRole := map[provisioning.ExpiryRole]provisioning.RoleSurvey{}
		for _, r := range s.Roles {
			byRole[r.Role] = r
			sum := r.Endless + r.Ended + r.Later
			for _, week := range r.Weeks {
				sum += week.Ending
			}
			if sum != r.Total {
				t.Errorf("%s: %d of %d are counted: %+v", r.Role, sum, r.Total, r)
			}
		}
		return byRole
	}
	now := survey()
	for role, want := range map[provisioning.ExpiryRole]int64{
		provisioning.ExpiryDevices: 1, provisioning.ExpiryEnrollments: 1, provisioning.ExpiryGroups: 1, provisioning.ExpiryKeys: 1,
		provisioning.ExpiryAnchors: 1, provisioning.ExpiryIssuers: 2, provisioning.ExpiryAccess: 0,
	} {
		if now[role].Total != want {
			t.Errorf("%s: %d, want %d", role, now[role].Total, want)
		}
	}
	if d := now[provisioning.ExpiryDevices]; d.Within != [4]int64{0, 0, 0, 1} || d.Soonest.IsZero() {
		t.Errorf("a certificate of 90 days: %+v", d)
	}
	w.pass(91 * day)
	if d := survey()[provisioning.ExpiryDevices]; d.Ended != 1 || d.Within != [4]int64{} || len(d.Weeks) != 1 || d.Weeks[0].Renewals != 1 {
		t.Errorf("after its end: %+v", d)
	}
}

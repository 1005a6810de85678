package policies_test

import (
	"testing"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

func TestRightsAreReadAsTheyAreWritten(t *testing.T) {
	for _, set := range []policies.Rights{policies.AllServiceRights, policies.AllHubRights, policies.EnrollmentRead, policies.RegistryWrite | policies.ServiceConnect} {
		again, err := policies.ParseRights(set.String())
		if err != nil || again != set {
			t.Errorf("%q is read as %q: %v", set, again, err)
		}
	}
	if set, err := policies.ParseRights("enrollmentread EnrollmentWrite"); err != nil || set != policies.EnrollmentRead|policies.EnrollmentWrite {
		t.Errorf("%v, %v", set, err)
	}
	for text, rule := range map[string]string{"": "right-missing", ", ,": "right-missing", "Everything": "right-unknown"} {
		if _, err := policies.ParseRights(text); fault.RuleOf(err) != rule {
			t.Errorf("%q: %v, want %s", text, err, rule)
		}
	}
}

func TestWritingGrantsReading(t *testing.T) {
	for _, c := range []struct {
		has, want policies.Rights
		granted   bool
	}{
		{policies.EnrollmentWrite, policies.EnrollmentRead, true},
		{policies.EnrollmentRead, policies.EnrollmentWrite, false},
		{policies.RegistryWrite, policies.RegistryRead, true},
		{policies.EnrollmentWrite, policies.RegistrationStatusRead, false},
		{policies.AllServiceRights, policies.RegistryRead, false},
		{policies.AllServiceRights, 0, false},
	} {
		if got := c.has.Grants(c.want); got != c.granted {
			t.Errorf("%q grants %q: %v", c.has, c.want, got)
		}
	}
}

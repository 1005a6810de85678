package policies

import "testing"

func TestRolesAllow(t *testing.T) {
	all := []Scope{ScopeRead, ScopeEnroll, ScopeRotate, ScopeSecurity, ScopeAdmin, ScopeHub}
	for role, allowed := range map[Role][]Scope{
		RoleViewer:   {ScopeRead},
		RoleOperator: {ScopeRead, ScopeEnroll, ScopeRotate},
		RoleSecurity: {ScopeRead, ScopeEnroll, ScopeRotate, ScopeSecurity},
		RoleAdmin:    all,
		"janitor":    nil,
		"":           nil,
	} {
		may := map[Scope]bool{}
		for _, s := range allowed {
			may[s] = true
		}
		for _, s := range all {
			if got := role.Scopes().Allows(s); got != may[s] {
				t.Errorf("%s may %s: %v", role, s, got)
			}
		}
		for _, s := range []Scope{"", "write", "READ", "read enroll"} { // a route that asks for nothing known
			if role.Scopes().Allows(s) {
				t.Errorf("%s may %q", role, s)
			}
		}
	}
}

func TestParseScopes(t *testing.T) {
	for text, want := range map[string]string{
		"read":                    "read",
		"hub":                     "hub",
		" rotate  read\tread\n":   "read rotate",
		"hub admin security read": "read security admin hub",
	} {
		got, err := ParseScopes(text)
		if err != nil || got.String() != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
		if again, err := ParseScopes(got.String()); err != nil || again != got {
			t.Errorf("%q does not come back: %q, %v", got, again, err)
		}
	}
	for text, rule := range map[string]string{
		"": "scope-missing", "  ": "scope-missing", "read write": "scope-unknown", "Read": "scope-unknown", "read,enroll": "scope-unknown",
	} {
		if got, err := ParseScopes(text); got != 0 || ruleOf(t, err) != rule {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	var none Scopes
	if none.Allows(ScopeRead) || none.String() != "" {
		t.Error("the zero value allows something")
	}
	hub, err := ParseScopes("hub")
	if err != nil || hub.Allows(ScopeRead) || !hub.Allows(ScopeHub) {
		t.Error("hub opens more, or less, than the hub checks")
	}
}

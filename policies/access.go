package policies

import (
	"slices"
	"strings"

	"github.com/passmuster/muster/internal/fault"
)

// Scope is one right of an operator's token.
type Scope string

// The scopes.
const (
	ScopeRead     Scope = "read"     // see everything but secrets
	ScopeEnroll   Scope = "enroll"   // enrollments, groups, registrations
	ScopeRotate   Scope = "rotate"   // plan and start renewals
	ScopeSecurity Scope = "security" // anchors, revoke, disallow, lift, secrets
	ScopeAdmin    Scope = "admin"    // all of these, and everything else
	ScopeHub      Scope = "hub"      // the hub checks alone
)

// scopes gives each scope its bit in Scopes and its place in the canonical order.
var scopes = [...]Scope{ScopeRead, ScopeEnroll, ScopeRotate, ScopeSecurity, ScopeAdmin, ScopeHub}

// Scopes is a set of scopes. The zero value allows nothing.
type Scopes uint8

// newScopes is the set of these scopes.
func newScopes(list ...Scope) (set Scopes) {
	for _, s := range list {
		set |= bit(s)
	}
	return set
}

// bit is a scope's bit, 0 for a word that is no scope.
func bit(s Scope) Scopes {
	if i := slices.Index(scopes[:], s); i >= 0 {
		return 1 << i
	}
	return 0
}

// ParseScopes reads a list of scopes separated by spaces, as String writes it. An
// unknown word, or none at all, is Malformed ("scope-unknown", "scope-missing").
func ParseScopes(text string) (Scopes, error) {
	var set Scopes
	for word := range strings.FieldsSeq(text) {
		b := bit(Scope(word))
		if b == 0 {
			return 0, fault.New(fault.Malformed, "scope-unknown", "a scope is one of read, enroll, rotate, security, admin and hub").At("/scopes")
		}
		set |= b
	}
	if set == 0 {
		return 0, fault.New(fault.Malformed, "scope-missing", "at least one scope is needed").At("/scopes")
	}
	return set, nil
}

// Allows says whether the set grants a scope. Admin grants every scope there is; a
// word that is no scope is granted by nothing (INV-L5).
func (s Scopes) Allows(want Scope) bool {
	b := bit(want)
	return b != 0 && (s&b != 0 || s&bit(ScopeAdmin) != 0)
}

func (s Scopes) String() string {
	var words []string
	for i, scope := range scopes {
		if s&(1<<i) != 0 {
			words = append(words, string(scope))
		}
	}
	return strings.Join(words, " ")
}

// Role is a named set of scopes, as operators are given them.
type Role string

// The roles, each with the rights of those before it.
const (
	RoleViewer   Role = "viewer"
	RoleOperator Role = "operator"
	RoleSecurity Role = "security"
	RoleAdmin    Role = "admin"
)

// Scopes are the role's scopes. A word that is no role has none.
func (r Role) Scopes() Scopes {
	switch r {
	case RoleViewer:
		return newScopes(ScopeRead)
	case RoleOperator:
		return newScopes(ScopeRead, ScopeEnroll, ScopeRotate)
	case RoleSecurity:
		return newScopes(ScopeRead, ScopeEnroll, ScopeRotate, ScopeSecurity)
	case RoleAdmin:
		return newScopes(ScopeAdmin)
	}
	return 0
}

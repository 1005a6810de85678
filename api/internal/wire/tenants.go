package wire

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

// Tenant is one ID scope: who decides there, and who signs.
type Tenant struct {
	Engine    *provisioning.Engine
	Authority *ca.Authority
	Log       Log // nil where there is none
	CT        CT  // the same
}

// Tenants are the ID scopes that a listener serves. A device names its own, in the
// path; neither Host nor SNI counts (architecture §7).
type Tenants struct{ list []Tenant }

var idScopes = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// reserved are the fixed words that stand where an id scope may stand: the first
// segment of other doors (protocols/dps.md §1) and the operations of EST, which a
// label must not equal (RFC 7030 §3.2.2).
var reserved = []string{
	"enrollments", "enrollmentgroups", "registrations", "subscriptions", "devices", "twins", "statistics",
	"cacerts", "simpleenroll", "simplereenroll", "fullcmc", "serverkeygen", "csrattrs",
}

// CheckIDScope refuses a name that cannot stand in a path where an id scope does: Malformed,
// rule "id-scope".
func CheckIDScope(name string) error {
	if !idScopes.MatchString(name) || slices.Contains(reserved, strings.ToLower(name)) {
		return fault.New(fault.Malformed, "id-scope", "%q is no id scope, or a reserved word.", name)
	}
	return nil
}

// NewTenants checks that every id scope is fit for a path and there once. It is Malformed,
// rule "id-scope", otherwise.
func NewTenants(list ...Tenant) (Tenants, error) {
	var served Tenants
	for _, t := range list {
		idScope := t.Engine.IDScope()
		if err := CheckIDScope(idScope); err != nil {
			return Tenants{}, err
		}
		if _, err := served.Find(idScope); err == nil {
			return Tenants{}, fault.New(fault.Malformed, "id-scope", "The id scope %q is there twice.", idScope)
		}
		served.list = append(served.list, t)
	}
	return served, nil
}

// Find returns the tenant of an id scope, case apart; NotFound, rule [RuleIDScope].
func (ts Tenants) Find(idScope string) (Tenant, error) {
	i := slices.IndexFunc(ts.list, func(t Tenant) bool { return strings.EqualFold(t.Engine.IDScope(), idScope) })
	if i < 0 {
		return Tenant{}, UnknownIDScope()
	}
	return ts.list[i], nil
}

// First returns the installation's own id scope, which is served first, for requests that
// name none; NotFound, rule [RuleIDScope], where there is none.
func (ts Tenants) First() (Tenant, error) {
	if len(ts.list) == 0 {
		return Tenant{}, UnknownIDScope()
	}
	return ts.list[0], nil
}

// Operator says whose bearer token a request carries, and who that is there. The token names
// its id scope, and is good there alone (architecture §7). Every refusal is
// Unauthenticated, rule "token".
func (ts Tenants) Operator(ctx context.Context, token string) (Tenant, provisioning.Operator, error) {
	tenant, err := ts.Find(provisioning.TokenIDScope(token))
	if err != nil {
		return Tenant{}, provisioning.Operator{}, fault.New(fault.Unauthenticated, "token", "There is no bearer token of an id scope here.")
	}
	who, err := tenant.Engine.Authenticate(ctx, token)
	return tenant, who, err
}

// Bearer reads a bearer token as RFC 6750 §2.1 has it; false for another scheme, or none.
func Bearer(header string) (token string, is bool) {
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	return strings.TrimSpace(token), true
}

// RuleIDScope is the rule word for an id scope that is not here.
const RuleIDScope = "id-scope-unknown"

// UnknownIDScope is NotFound, rule [RuleIDScope]: what names nothing here is told no more.
func UnknownIDScope() error {
	return fault.New(fault.NotFound, RuleIDScope, "There is no such id scope here.")
}

// All lists the tenants.
func (ts Tenants) All() []Tenant { return ts.list }

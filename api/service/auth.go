package service

import (
	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

// need is what a call asks of its caller: a right of the shared access policy that signed
// the token (§4), or a scope of an operator's own token.
type need struct {
	right policies.Rights
	scope policies.Scope
}

// The needs. Secrets are written by whoever may write enrollments, and an operator reads
// them by the scope that he needs for it everywhere.
var (
	readEntries   = need{policies.EnrollmentRead, policies.ScopeRead}
	writeEntries  = need{policies.EnrollmentWrite, policies.ScopeEnroll}
	readSecrets   = need{policies.EnrollmentWrite, policies.ScopeSecurity}
	readRecords   = need{policies.RegistrationStatusRead, policies.ScopeRead}
	deleteRecords = need{policies.RegistrationStatusWrite, policies.ScopeEnroll}
)

// authorize is the one place that lets requests in: Unauthenticated for every token that is
// not good, and then Forbidden, which says what is missing and is on record (INV-L1).
func (h *handler) authorize(c *gin.Context, n need) (call, error) {
	header := c.Request.Header.Get("Authorization")
	if token, is := wire.Bearer(header); is {
		return h.operator(c, token, n)
	}
	tenant, caller, err := azure.Admit(c.Request.Context(), h.tenants, header, provisioning.AccessRequest{
		Plane: provisioning.ServicePlane, Hosts: h.hosts, Path: c.Request.URL.Path,
	})
	if err != nil {
		return call{}, err
	}
	if !caller.Rights.Grants(n.right) {
		wire.OnRecord(h.log, tenant.Engine, c.Request, caller.Actor(), caller.Rights.String())
		return call{}, fault.New(fault.Forbidden, "right-missing", "This needs a shared access policy with the right %s.", n.right).About("policy " + caller.Policy)
	}
	return call{c: c, engine: tenant.Engine, actor: caller.Actor()}, nil
}

func (h *handler) operator(c *gin.Context, token string, n need) (call, error) {
	if token == "" {
		return call{}, fault.New(fault.Unauthenticated, azure.RuleToken, "there is no token")
	}
	tenant, who, err := h.tenants.Operator(c.Request.Context(), token)
	if err != nil {
		return call{}, err
	}
	if !who.Scopes.Allows(n.scope) {
		wire.OnRecord(h.log, tenant.Engine, c.Request, who.Actor(), who.Scopes.String())
		return call{}, fault.New(fault.Forbidden, "scope-missing", "This needs a token with the scope %s.", n.scope).About("token " + who.Name)
	}
	return call{c: c, engine: tenant.Engine, actor: who.Actor()}, nil
}

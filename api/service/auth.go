package service

import (
	"net/http"
	"strings"

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
// not good, and then Forbidden, which says what is missing.
func (h *handler) authorize(c *gin.Context, n need) (call, error) {
	header := c.Request.Header.Get("Authorization")
	if scheme, token, _ := strings.Cut(header, " "); strings.EqualFold(scheme, "Bearer") {
		return h.operator(c, strings.TrimSpace(token), n)
	}
	tenant, caller, err := azure.Admit(c.Request.Context(), h.tenants, header, provisioning.AccessRequest{
		Plane: provisioning.ServicePlane, Hosts: h.hosts, Path: c.Request.URL.Path,
	})
	if err != nil {
		return call{}, err
	}
	if !caller.Rights.Grants(n.right) {
		return call{}, fault.New(fault.Forbidden, "right-missing", "This needs a shared access policy with the right %s.", n.right).About("policy " + caller.Policy)
	}
	return call{c: c, engine: tenant.Engine, actor: caller.Actor()}, nil
}

func (h *handler) operator(c *gin.Context, token string, n need) (call, error) {
	if token == "" {
		return call{}, fault.New(fault.Unauthenticated, azure.RuleToken, "there is no token")
	}
	tenant, who, err := azure.First(h.tenants, func(t wire.Tenant) (provisioning.Operator, error) {
		return t.Engine.Authenticate(c.Request.Context(), token)
	})
	if err != nil {
		return call{}, err
	}
	if !who.Scopes.Allows(n.scope) {
		return call{}, h.forbid(c.Request, tenant, who, n.scope)
	}
	return call{c: c, engine: tenant.Engine, actor: who.Actor()}, nil
}

// forbid puts the refusal on record (INV-L1). That the ledger could not be written opens
// nothing.
func (h *handler) forbid(r *http.Request, t wire.Tenant, who provisioning.Operator, scope policies.Scope) error {
	const longest = 256
	act := r.Method + " " + r.URL.EscapedPath()
	if err := t.Engine.Refused(r.Context(), who, act[:min(len(act), longest)]); err != nil {
		h.log.Error("recording a refused act", "traceId", wire.TraceID(r), "actor", who.Actor(), "error", err)
	}
	return fault.New(fault.Forbidden, "scope-missing", "This needs a token with the scope %s.", scope).About("token " + who.Name)
}

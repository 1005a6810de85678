package certificates

import (
	"log/slog"

	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

type handler struct {
	tenants wire.Tenants
	log     *slog.Logger
	options Options
}

// call is who asks, and whose anchors it is about.
type call struct {
	engine   *provisioning.Engine
	operator provisioning.Operator
}

// as is the one place that lets requests in: an operator of some id scope, with the right
// scope of rights. The body has not been read yet.
func (h *handler) as(scope policies.Scope, f func(*gin.Context, call) error) wire.Handler {
	return func(c *gin.Context) error {
		k, err := h.authenticate(c)
		if err != nil {
			return err
		}
		if !k.operator.Scopes.Allows(scope) {
			return h.forbid(c, k, fault.New(fault.Forbidden, "scope-missing", "This needs a token with the scope %s.", scope))
		}
		if _, err := azure.ParseVersion(c.Query("api-version")); err != nil {
			return err
		}
		return f(c, k)
	}
}

// authenticate finds the operator of a bearer token.
func (h *handler) authenticate(c *gin.Context) (call, error) {
	token, _ := wire.Bearer(c.GetHeader("Authorization"))
	tenant, who, err := h.tenants.Operator(c.Request.Context(), token)
	return call{engine: tenant.Engine, operator: who}, err
}

// forbid puts a refusal on record (INV-L1).
func (h *handler) forbid(c *gin.Context, k call, refusal error) error {
	wire.OnRecord(h.log, k.engine, c.Request, k.operator.Actor(), k.operator.Scopes.String())
	return refusal
}

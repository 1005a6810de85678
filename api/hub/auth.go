package hub

import (
	"context"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// need is the rights of which a caller must have one.
type need []policies.Rights

// The needs (§8). Azure gives twins to ServiceConnect; here whoever may read or write
// the devices may do so with their twins too.
var (
	readDevices  = need{policies.RegistryRead}
	writeDevices = need{policies.RegistryWrite}
	readTwins    = need{policies.ServiceConnect, policies.RegistryRead}
	writeTwins   = need{policies.ServiceConnect, policies.RegistryWrite}
)

func (n need) met(r policies.Rights) bool { return slices.ContainsFunc(n, r.Grants) }

func (n need) String() string {
	var words []string
	for _, r := range n {
		words = append(words, r.String())
	}
	return strings.Join(words, " or ")
}

// authorize is the one place that lets requests in: Unauthenticated for every token that
// is not good, then Forbidden, which says what is missing and is on record (INV-L1), then
// the choice of the hub.
func (h *handler) authorize(c *gin.Context, n need) (call, error) {
	token, err := verify.ParseSAS(c.Request.Header.Get("Authorization"))
	if err != nil {
		return call{}, err
	}
	tenant, who, err := azure.First(h.tenants, func(t wire.Tenant) (caller, error) { return h.admit(c, t, token) })
	if err != nil {
		return call{}, err
	}
	if !n.met(who.Rights) {
		wire.OnRecord(h.log, tenant.Engine, c.Request, who.Actor(), who.Rights.String())
		return call{}, fault.New(fault.Forbidden, "right-missing", "This needs a shared access policy with the right %s.", n).About("policy " + who.Policy)
	}
	k := call{c: c, engine: tenant.Engine, hub: who.hub, actor: who.Actor()}
	if k.hub == "" {
		k.hub, err = onlyHub(c.Request.Context(), tenant.Engine)
	}
	if who.Rights.Grants(policies.RegistryWrite) {
		k.revealTo = k.actor
	}
	return k, err
}

// caller is the bearer of a token, and the built-in hub that it is for; "" when it is for a
// name of this server.
type caller struct {
	provisioning.Caller
	hub string
}

// admit asks one tenant. A token is for a name of this server or for one of the tenant's
// built-in hubs, of which there may be many: no more of them is read for a stranger than the
// one he names (INV-R3).
func (h *handler) admit(c *gin.Context, t wire.Tenant, token verify.SASToken) (who caller, err error) {
	ctx, hosts := c.Request.Context(), h.hosts
	host, _ := token.Target()
	switch hub, err := t.Engine.Hub(ctx, host); {
	case err == nil && hub.Driver == provisioning.BuiltIn:
		who.hub, hosts = hub.Name, []string{host}
	case err != nil && !fault.Is(err, fault.NotFound):
		return caller{}, err
	}
	who.Caller, err = t.Engine.Admit(ctx, provisioning.AccessRequest{
		Plane: provisioning.HubPlane, Token: token, Hosts: hosts, Path: c.Request.URL.Path,
	})
	return who, err
}

// onlyHub is the built-in hub of a tenant that has one alone.
func onlyHub(ctx context.Context, e *provisioning.Engine) (string, error) {
	linked, err := e.Hubs(ctx)
	if err != nil {
		return "", err
	}
	linked = slices.DeleteFunc(linked, func(h provisioning.Hub) bool { return h.Driver != provisioning.BuiltIn })
	switch len(linked) {
	case 0:
		return "", fault.New(fault.NotFound, ruleNoHub, "No built-in hub is linked.")
	case 1:
		return linked[0].Name, nil
	}
	return "", fault.New(fault.Malformed, "hub-ambiguous", "There are several built-in hubs: make the token for the host name of the one you mean.")
}

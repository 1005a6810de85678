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
	tenant, who, err := azure.First(h.tenants, func(t wire.Tenant) (provisioning.Caller, error) { return h.admit(c, t, token) })
	if err != nil {
		return call{}, err
	}
	if !n.met(who.Rights) {
		wire.OnRecord(h.log, tenant.Engine, c.Request, who.Actor(), who.Rights.String())
		return call{}, fault.New(fault.Forbidden, "right-missing", "This needs a shared access policy with the right %s.", n).About("policy " + who.Policy)
	}
	hub, err := hubOf(c.Request.Context(), tenant.Engine, who.Host)
	k := call{c: c, engine: tenant.Engine, hub: hub, actor: who.Actor()}
	if who.Rights.Grants(policies.RegistryWrite) {
		k.revealTo = k.actor
	}
	return k, err
}

// admit asks one tenant. A token is for a name of this server or for one of the tenant's
// built-in hubs, of which there may be many: no more of them is read for a stranger than the
// one he names (INV-R3).
func (h *handler) admit(c *gin.Context, t wire.Tenant, token verify.SASToken) (provisioning.Caller, error) {
	ctx, hosts := c.Request.Context(), h.hosts
	host, _ := token.Target()
	named, err := builtIn(ctx, t.Engine, host)
	switch {
	case err != nil:
		return provisioning.Caller{}, err
	case named:
		hosts = []string{host}
	}
	return t.Engine.Admit(ctx, provisioning.AccessRequest{
		Plane: provisioning.HubPlane, Token: token, Hosts: hosts, Path: c.Request.URL.Path,
	})
}

// builtIn says whether a tenant has a built-in hub of a name.
func builtIn(ctx context.Context, e *provisioning.Engine, name string) (bool, error) {
	hub, err := e.Hub(ctx, name)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	return hub.Driver == provisioning.BuiltIn, err
}

// hubOf is the hub that a token for a host is for: the one it names, or the only one there is.
func hubOf(ctx context.Context, e *provisioning.Engine, host string) (string, error) {
	if named, err := builtIn(ctx, e, host); err != nil || named {
		return host, err
	}
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

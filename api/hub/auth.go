package hub

import (
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

// caller is who a token's bearer is, and the built-in hubs of that tenant.
type caller struct {
	provisioning.Caller
	hubs []string
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
	hub, err := who.hub()
	return call{c: c, engine: tenant.Engine, hub: hub, actor: who.Actor(), keys: who.Rights.Grants(policies.RegistryWrite)}, err
}

// admit asks one tenant. A token is for a name of this server or for one of the tenant's
// built-in hubs.
func (h *handler) admit(c *gin.Context, t wire.Tenant, token verify.SASToken) (caller, error) {
	var who caller
	linked, err := t.Engine.Hubs(c.Request.Context())
	if err != nil {
		return who, err
	}
	for _, hub := range linked {
		if hub.Driver == provisioning.BuiltIn {
			who.hubs = append(who.hubs, hub.Name)
		}
	}
	who.Caller, err = t.Engine.Admit(c.Request.Context(), provisioning.AccessRequest{
		Plane: provisioning.HubPlane, Token: token, Hosts: slices.Concat(who.hubs, h.hosts), Path: c.Request.URL.Path,
	})
	return who, err
}

// hub is the hub that a token is for: the one it names, or the only one there is.
func (who caller) hub() (string, error) {
	switch {
	case slices.Contains(who.hubs, who.Host):
		return who.Host, nil
	case len(who.hubs) == 1:
		return who.hubs[0], nil
	case len(who.hubs) == 0:
		return "", fault.New(fault.NotFound, ruleNoHub, "No built-in hub is linked.")
	}
	return "", fault.New(fault.Malformed, "hub-ambiguous", "There are several built-in hubs: make the token for the host name of the one you mean.")
}

// Package est speaks Enrollment over Secure Transport (RFC 7030, as clarified by
// RFC 8951 and RFC 9908): cacerts, csrattrs, simpleenroll, simplereenroll, serverkeygen.
//
// It decodes, calls the engine and encodes. The optional label of a path (RFC 7030
// §3.2.2) is an id scope and, behind a dot, an issuing profile; without one the server's
// first id scope is meant. A device proves itself by its client certificate, whose CN is
// its registration id, or by HTTP Basic: registration id and its own symmetric key in
// base64, or a one-time code. Every refusal of a credential is the same 401.
//
// Called by package api, which mounts it on the listener for devices.
package est

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

// Prefix is where all of EST lives (RFC 7030 §3.2.2).
const Prefix = "/.well-known/est/"

// handler serves the operations of EST.
type handler struct{ tenants wire.Tenants }

// New makes the door.
func New(tenants wire.Tenants, s wire.Settings) http.Handler {
	h := handler{tenants}
	d := wire.NewDoor("est", s, fail)
	for _, base := range []string{Prefix, Prefix + ":label/"} {
		d.Handle(http.MethodGet, base+"cacerts", h.cacerts)
		d.Handle(http.MethodGet, base+"csrattrs", h.csrattrs)
		d.Handle(http.MethodPost, base+"simpleenroll", h.simpleenroll)
		d.Handle(http.MethodPost, base+"simplereenroll", h.simplereenroll)
		d.Handle(http.MethodPost, base+"serverkeygen", h.serverkeygen)
	}
	return d
}

// meant is the tenant that a label names, or the first there is, and the issuing profile
// it names, "" for none.
func (h handler) meant(c *gin.Context) (tenant wire.Tenant, profile string, err error) {
	label := c.Param("label")
	if label == "" {
		tenant, err = h.tenants.First()
		return tenant, "", err
	}
	idScope, profile, dotted := strings.Cut(label, ".")
	if dotted && profile == "" {
		return tenant, "", wire.UnknownIDScope()
	}
	tenant, err = h.tenants.Find(idScope)
	return tenant, profile, err
}

// asked is meant, with the profile's content: the default one's where the label names
// none. A profile that is not there is told like an id scope that is not.
func (h handler) asked(c *gin.Context) (wire.Tenant, policies.Profile, error) {
	tenant, name, err := h.meant(c)
	if err != nil {
		return tenant, policies.Profile{}, err
	}
	if name == "" {
		name = policies.DefaultProfile().Name
	}
	p, err := tenant.Engine.Profile(c.Request.Context(), name)
	if fault.Is(err, fault.NotFound) {
		err = wire.UnknownIDScope()
	}
	return tenant, p.Profile, err
}

// cacerts hands out the issuing CA and the root (RFC 7030 §4.1); no credential is needed.
func (h handler) cacerts(c *gin.Context) error {
	tenant, profile, err := h.meant(c)
	if err == nil && profile != "" {
		_, _, err = h.asked(c)
	}
	if err != nil {
		return err
	}
	return reply(c, tenant.Authority.Bundle()...)
}

// csrattrs says what the profile asks of a request (RFC 7030 §4.5.2); no credential is
// needed.
func (h handler) csrattrs(c *gin.Context) error {
	_, profile, err := h.asked(c)
	if err != nil {
		return err
	}
	der, err := profile.CSRAttributes()
	if err != nil {
		return err
	}
	c.Header("Content-Transfer-Encoding", "base64")
	c.Data(http.StatusOK, "application/csrattrs", text(der))
	return nil
}

// simpleenroll asks for a certificate (RFC 7030 §4.2.1).
func (h handler) simpleenroll(c *gin.Context) error {
	return h.enroll(c, provisioning.RegisterRequest{})
}

// simplereenroll asks for the next one, by the one it replaces (RFC 7030 §4.2.2).
func (h handler) simplereenroll(c *gin.Context) error {
	return h.enroll(c, provisioning.RegisterRequest{Renewal: true})
}

// serverkeygen asks for a certificate and its key (RFC 7030 §4.4).
func (h handler) serverkeygen(c *gin.Context) error {
	return h.enroll(c, provisioning.RegisterRequest{ServerKey: true})
}

func (h handler) enroll(c *gin.Context, r provisioning.RegisterRequest) error {
	tenant, profile, err := h.meant(c)
	if err != nil {
		return err
	}
	r.Profile, r.HubOptional = profile, true
	if r.CSR, err = readCSR(c.Request, r.ServerKey); err != nil {
		return err
	}
	if r.Attempt, err = attemptOf(c.Request); err != nil {
		return err
	}
	op, err := tenant.Engine.Register(c.Request.Context(), r)
	if err != nil {
		return err
	}
	if op.State == provisioning.Failed {
		return fault.New(fault.Conflict, "registration-failed", "%s", op.ErrorMessage)
	}
	if r.ServerKey {
		return replyWithKey(c, op.Key, op.Chain[0])
	}
	return reply(c, op.Chain[:1]...) // only the certificate issued (RFC 7030 §4.2.3)
}

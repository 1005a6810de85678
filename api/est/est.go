// Package est speaks Enrollment over Secure Transport (RFC 7030, as clarified by
// RFC 8951): cacerts, simpleenroll, simplereenroll, and csrattrs without attributes.
//
// It decodes, calls the engine and encodes. The optional label of a path (RFC 7030
// §3.2.2) is an id scope. A device proves itself by its client certificate, whose CN
// is its registration id, or by HTTP Basic: registration id and its own symmetric key
// in base64. Every refusal of a credential is the same 401.
//
// Called by package api, which mounts it on the listener for devices.
package est

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
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
	}
	return d
}

// tenant is the one that the label names, or the only one there is.
func (h handler) tenant(c *gin.Context) (wire.Tenant, error) {
	if label := c.Param("label"); label != "" {
		return h.tenants.Find(label)
	}
	return h.tenants.Only()
}

// cacerts hands out the issuing CA and the root (RFC 7030 §4.1); no credential is needed.
func (h handler) cacerts(c *gin.Context) error {
	tenant, err := h.tenant(c)
	if err != nil {
		return err
	}
	return reply(c, tenant.Authority.Bundle()...)
}

// csrattrs says that no attribute is asked for: 204 (RFC 7030 §4.5.2).
func (h handler) csrattrs(c *gin.Context) error {
	if _, err := h.tenant(c); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}

// simpleenroll asks for a certificate (RFC 7030 §4.2.1).
func (h handler) simpleenroll(c *gin.Context) error { return h.enroll(c, false) }

// simplereenroll asks for the next one, by the one it replaces (RFC 7030 §4.2.2).
func (h handler) simplereenroll(c *gin.Context) error { return h.enroll(c, true) }

func (h handler) enroll(c *gin.Context, renewal bool) error {
	tenant, err := h.tenant(c)
	if err != nil {
		return err
	}
	csr, err := readCSR(c.Request)
	if err != nil {
		return err
	}
	attempt, err := attemptOf(c.Request)
	if err != nil {
		return err
	}
	op, err := tenant.Engine.Register(c.Request.Context(), provisioning.RegisterRequest{
		Attempt: attempt, CSR: csr, Renewal: renewal, HubOptional: true,
	})
	if err != nil {
		return err
	}
	if op.State == provisioning.Failed {
		return fault.New(fault.Conflict, "registration-failed", "%s", op.ErrorMessage)
	}
	return reply(c, op.Chain[:1]...) // only the certificate issued (RFC 7030 §4.2.3)
}

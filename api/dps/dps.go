// Package dps speaks the device data plane of Azure's Device Provisioning Service over
// HTTPS (protocols/dps.md §1, §2): register, operation status, status lookup.
//
// It decodes, calls the engine and encodes; what it keeps of its own is the wire:
// register answers 202 always, every 401 is the same whatever the reason, a finished
// operation stands in the body, and nothing is redirected. TPM attestation and MQTT
// are not served.
//
// Called by package api, which mounts it on the listener for devices.
package dps

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// handler serves the three calls of a device.
type handler struct {
	tenants wire.Tenants
}

// New makes the door.
func New(tenants wire.Tenants, s wire.Settings) http.Handler {
	h := &handler{tenants: tenants}
	d := wire.NewDoor("dps", s, azure.Fail(s.Now))
	d.Handle(http.MethodPut, "/:idScope/registrations/:id/register", h.register)
	d.Handle(http.MethodGet, "/:idScope/registrations/:id/operations/:operationId", h.poll)
	d.Handle(http.MethodPost, "/:idScope/registrations/:id", h.lookup)
	// The id is missing: 405, not 404 (protocols/dps.md §1.1).
	d.HandleAny("/:idScope/registrations", wire.MethodNotAllowed)
	return d
}

// register asks to be provisioned (§2.1).
func (h *handler) register(c *gin.Context) error {
	k, err := h.call(c)
	if err != nil {
		return err
	}
	asked, err := k.readBody(c.Request)
	if err != nil {
		return err
	}
	if err := asked.checkRegister(); err != nil {
		return err
	}
	attempt, err := k.attempt(c.Request)
	if err != nil {
		return err
	}
	op, err := k.engine.Register(c.Request.Context(), provisioning.RegisterRequest{Attempt: attempt, CSR: asked.csr, Payload: asked.payload})
	if err != nil {
		return err
	}
	// 202 also when it is finished: C#'s client throws on any other code (§2.1).
	return k.replyOperation(c, http.StatusAccepted, op)
}

// poll asks how an operation stands (§2.2). What a client sends as its body is left
// unread.
func (h *handler) poll(c *gin.Context) error {
	k, err := h.call(c)
	if err != nil {
		return err
	}
	attempt, err := k.attempt(c.Request)
	if err != nil {
		return err
	}
	op, err := k.engine.Poll(c.Request.Context(), provisioning.PollRequest{Attempt: attempt, OperationID: c.Param("operationId")})
	if err != nil {
		return err
	}
	return k.replyOperation(c, http.StatusOK, op)
}

// lookup asks how the registration stands: the bare state, without a certificate (§2.2).
func (h *handler) lookup(c *gin.Context) error {
	k, err := h.call(c)
	if err != nil {
		return err
	}
	asked, err := k.readBody(c.Request)
	if err != nil {
		return err
	}
	if err := asked.checkLookup(); err != nil {
		return err
	}
	attempt, err := k.attempt(c.Request)
	if err != nil {
		return err
	}
	op, err := k.engine.Poll(c.Request.Context(), provisioning.PollRequest{Attempt: attempt})
	if err != nil {
		return err
	}
	return reply(c, http.StatusOK, azure.StateOf(op))
}

// call is what the address of a request says: who is asked, about whom, in which
// version of the API.
type call struct {
	engine  *provisioning.Engine
	version version
	id      verify.RegistrationID
	spelled string
}

func (h *handler) call(c *gin.Context) (call, error) {
	v, err := parseVersion(c.Query("api-version"))
	if err != nil {
		return call{}, err
	}
	id, err := verify.ParseRegistrationID(c.Param("id"))
	if err != nil {
		return call{}, err
	}
	tenant, err := h.tenants.Find(c.Param("idScope"))
	if err != nil {
		return call{}, err
	}
	return call{engine: tenant.Engine, version: v, id: id, spelled: c.Param("id")}, nil
}

// attempt is the caller's claim to be the device. A token counts before a certificate.
func (k call) attempt(r *http.Request) (provisioning.Attempt, error) {
	a := provisioning.Attempt{ID: k.id, Spelled: k.spelled, Door: "dps", Address: wire.Address(r)}
	header := r.Header.Get("Authorization")
	if header == "" {
		var err error
		a.Evidence, err = wire.Certificates(r)
		return a, err
	}
	token, err := verify.ParseSAS(header)
	if err != nil {
		return a, err
	}
	a.Evidence.Token = &token
	return a, nil
}

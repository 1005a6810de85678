// Package dps speaks the device data plane of Azure's Device Provisioning Service
// (protocols/dps.md §1, §2): register, operation status, status lookup.
//
// It decodes, calls the engine and encodes; what it keeps of its own is the wire:
// register answers 202 always, every 401 is the same whatever the reason, a finished
// operation stands in the body, and nothing is redirected. A device with a TPM is
// answered 401 with the key that it is to sign its token with.
// Beyond Azure's calls, a device fetches here the certificate that was made for it without
// its asking.
//
// It serves HTTPS itself: package api mounts it on the listener for devices. Package mqtt
// makes the same calls over its transport, with a [Call].
package dps

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// doorName is this door's in the log, in metrics and in what explain remembers.
const doorName = "dps"

// handler serves the three calls of a device, and ours for its pending certificate.
type handler struct {
	tenants wire.Tenants
}

// New makes the door.
func New(tenants wire.Tenants, s wire.Settings) http.Handler {
	h := &handler{tenants: tenants}
	d := wire.NewDoor(doorName, s, azure.Fail(s.Now))
	d.Handle(http.MethodPut, "/:idScope/registrations/:id/register", h.register)
	d.Handle(http.MethodGet, "/:idScope/registrations/:id/operations/:operationId", h.poll)
	d.Handle(http.MethodPost, "/:idScope/registrations/:id", h.lookup)
	d.Handle(http.MethodGet, "/:idScope/registrations/:id/certificates/pending", h.pending)
	// The id is missing: 405, not 404 (protocols/dps.md §1.1).
	d.HandleAny("/:idScope/registrations", wire.MethodNotAllowed)
	return d
}

func (h *handler) register(c *gin.Context) error {
	k, err := h.call(c)
	if err != nil {
		return err
	}
	text, err := readBody(c.Request)
	if err != nil {
		return err
	}
	asked, err := k.readRegister(text)
	if err != nil {
		return k.Misread(k.Attempt(doorName, wire.Address(c.Request), provisioning.Evidence{}), err)
	}
	attempt, err := k.attempt(c.Request)
	if err != nil {
		return err
	}
	if asked.tpm != nil { // it counts before a certificate
		attempt.Evidence = provisioning.Evidence{TPM: asked.tpm, Token: attempt.Evidence.Token}
	}
	a, err := k.Register(c.Request.Context(), attempt, asked)
	return reply(c, k, a, err)
}

// poll leaves unread what a client sends as its body.
func (h *handler) poll(c *gin.Context) error {
	k, err := h.call(c)
	if err != nil {
		return err
	}
	attempt, err := k.attempt(c.Request)
	if err != nil {
		return err
	}
	a, err := k.Poll(c.Request.Context(), attempt, c.Param("operationId"))
	return reply(c, k, a, err)
}

func (h *handler) lookup(c *gin.Context) error {
	k, err := h.call(c)
	if err != nil {
		return err
	}
	text, err := readBody(c.Request)
	if err != nil {
		return err
	}
	if err := k.checkLookup(text); err != nil {
		return err
	}
	attempt, err := k.attempt(c.Request)
	if err != nil {
		return err
	}
	a, err := k.lookup(c.Request.Context(), attempt)
	return reply(c, k, a, err)
}

func (h *handler) call(c *gin.Context) (Call, error) {
	return NewCall(h.tenants, c.Param("idScope"), c.Param("id"), c.Query("api-version"))
}

func readBody(r *http.Request) ([]byte, error) { return wire.ReadBody(r, MaxBody, wire.MediaTypeJSON) }

// attempt takes the evidence of a request. A token counts before a certificate.
func (k Call) attempt(r *http.Request) (provisioning.Attempt, error) {
	var shown provisioning.Evidence
	var err error
	if header := r.Header.Get("Authorization"); header != "" {
		var token verify.SASToken
		token, err = verify.ParseSAS(header)
		shown.Token = &token
	} else {
		shown, err = wire.Certificates(r)
	}
	return k.Attempt(doorName, wire.Address(r), shown), err
}

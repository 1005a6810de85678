// Package service speaks the service data plane of Azure's Device Provisioning Service
// (protocols/dps.md §4): enrollments, enrollment groups, registration records.
//
// It decodes, calls the engine and encodes; what it keeps of its own is the wire:
//
//   - Whoever asks is known before anything of the request is read but its address. Every
//     refusal until then is the same 401.
//   - The token alone says which tenant is meant. Neither Host nor SNI counts.
//   - No secret is in any answer but that of attestationmechanism, which is on record.
//   - PUT over something that exists needs If-Match: without, it is 409 (§4.3).
//   - Pages go by key: a continuation is good for its query, kind and tenant alone.
//
// Called by package api, which mounts it on the listener for devices.
package service

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/provisioning"
)

// maxBody is the limit of the Azure-shaped doors (INV-R1).
const maxBody = 128 << 10

// handler serves every call of the plane.
type handler struct {
	tenants wire.Tenants
	hosts   []string // names that a token may be for
	log     *slog.Logger
}

// New makes the door.
func New(tenants wire.Tenants, s wire.Settings) http.Handler {
	h := &handler{tenants: tenants, hosts: s.Hosts, log: s.Log}
	d := wire.NewDoor("service", s, azure.Fail(s.Now))
	h.addEntries(d, individuals)
	h.addEntries(d, groups)
	h.addRegistrations(d)
	return d
}

// call is one request of somebody who may make it.
type call struct {
	c      *gin.Context
	engine *provisioning.Engine
	actor  string
}

func (k call) ctx() context.Context { return k.c.Request.Context() }

func (k call) header(name string) string { return k.c.Request.Header.Get(name) }

// handle adds a route for whoever has what it needs.
func (h *handler) handle(d *wire.Door, method, path string, n need, serve func(call) error) {
	d.Handle(method, path, func(c *gin.Context) error {
		k, err := h.authorize(c, n)
		if err != nil {
			return err
		}
		if _, err := azure.ParseVersion(c.Query("api-version")); err != nil {
			return err
		}
		return serve(k)
	})
}

// read decodes the body.
func (k call) read(into any) error {
	text, err := wire.ReadBody(k.c.Request, maxBody, wire.MediaTypeJSON)
	if err != nil {
		return err
	}
	return wire.DecodeJSON(text, into)
}

// reply answers 200 with JSON.
func (k call) reply(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	k.write(text)
	return nil
}

func (k call) write(text []byte) {
	header := k.c.Writer.Header()
	header.Set("Content-Type", wire.MediaTypeJSON+"; charset=utf-8")
	header.Set("x-ms-request-id", wire.TraceID(k.c.Request))
	k.c.Writer.WriteHeader(http.StatusOK)
	_, _ = k.c.Writer.Write(text) // a client that has gone is nobody's error
}

// tag sets the header that repeats a record's etag (§4.3).
func (k call) tag(etag string) { k.c.Writer.Header().Set("ETag", etag) }

// done answers that there is nothing left to say.
func (k call) done() error {
	k.c.Writer.WriteHeader(http.StatusNoContent)
	k.c.Writer.WriteHeaderNow()
	return nil
}

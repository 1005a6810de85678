// Package hub speaks IoT Hub's registry API for the built-in hubs (protocols/dps.md §8):
// devices, twins, bulk, query, statistics.
//
// It decodes, calls the engine and encodes; what it keeps of its own is the wire:
//
//   - Whoever asks is known before anything of the request is read but its address. Every
//     refusal until then is the same 401.
//   - The token alone says which tenant and which hub are meant. Neither Host nor SNI counts.
//   - Symmetric keys are shown to those who may write devices, and to nobody else; that is on record (INV-K5).
//   - PUT over a device that exists needs If-Match: without, it is 409.
//   - Errors have the hub's shape, which is not that of the other planes.
//
// Called by package api, which mounts it on the listener for devices.
package hub

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// Limits of bodies (INV-R1): those of the Azure-shaped doors, and a bulk of 100 devices.
const (
	maxBody     = 128 << 10
	maxBulkBody = 512 << 10
)

// handler serves every call of the registry.
type handler struct {
	tenants wire.Tenants
	hosts   []string // names of this server that a token may be for
	log     *slog.Logger
}

// New makes the door.
func New(tenants wire.Tenants, s wire.Settings) http.Handler {
	h := &handler{tenants: tenants, hosts: s.Hosts, log: s.Log}
	d := wire.NewDoor("hub", s, fail)
	h.handle(d, http.MethodPost, "/devices/query", readTwins, queryTwins)
	h.handle(d, http.MethodGet, "/devices", readDevices, listDevices)
	h.handle(d, http.MethodPost, "/devices", writeDevices, bulk)
	h.handle(d, http.MethodGet, "/devices/:id", readDevices, getDevice)
	h.handle(d, http.MethodPut, "/devices/:id", writeDevices, putDevice)
	h.handle(d, http.MethodDelete, "/devices/:id", writeDevices, deleteDevice)
	h.handle(d, http.MethodGet, "/twins/:id", readTwins, getTwin)
	h.handle(d, http.MethodPatch, "/twins/:id", writeTwins, patchTwin)
	h.handle(d, http.MethodPut, "/twins/:id", writeTwins, replaceTwin)
	h.handle(d, http.MethodGet, "/statistics/devices", readDevices, statistics)
	return d
}

// call is one request of somebody who may make it.
type call struct {
	c      *gin.Context
	engine *provisioning.Engine
	hub    string
	actor  string
	// revealTo is the actor again if he may see symmetric keys, else "".
	revealTo string
}

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

func (k call) ctx() context.Context { return k.c.Request.Context() }

func (k call) id() (verify.RegistrationID, error) { return parseID(k.c.Param("id")) }

func (k call) ifMatch() (provisioning.Precondition, error) {
	return azure.ParseIfMatch(k.c.Request.Header.Get("If-Match"))
}

// read decodes the body.
func (k call) read(limit int64, into any) error {
	text, err := wire.ReadBody(k.c.Request, limit, wire.MediaTypeJSON)
	if err != nil {
		return err
	}
	return wire.DecodeJSON(text, into)
}

// replyTagged answers with a record and its ETag: quoted in the header, bare in the body (§8).
func (k call) replyTagged(version int64, v any) error {
	k.c.Header("ETag", strconv.Quote(etag(version)))
	return k.reply(http.StatusOK, v)
}

func (k call) reply(status int, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	k.write(status, text)
	return nil
}

func (k call) write(status int, text []byte) {
	k.c.Header("x-ms-request-id", wire.TraceID(k.c.Request))
	k.c.Data(status, wire.MediaTypeJSON+"; charset=utf-8", text)
}

func etag(version int64) string { return strconv.FormatInt(version, 10) }

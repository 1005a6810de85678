package log

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/transparency-dev/tessera/api/layout"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
)

// NewCT makes the door of the CT logs of certificates, under /ct/{idScope}/: submission as
// RFC 6962 §4 has it, reading as C2SP static-ct-api does.
func NewCT(tenants wire.Tenants, s wire.Settings) http.Handler {
	h := handler{tenants}
	d := wire.NewDoor("ct", s, fail)
	d.Handle(http.MethodPost, "/ct/:scope/ct/v1/add-chain", h.withCT(submit(false)))
	d.Handle(http.MethodPost, "/ct/:scope/ct/v1/add-pre-chain", h.withCT(submit(true)))
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		d.Handle(method, "/ct/:scope/ct/v1/get-roots", h.withCT(roots))
		d.Handle(method, "/ct/:scope/checkpoint", h.withCT(func(c *gin.Context, l wire.CT) error { return note(c, l.Note) }))
		d.Handle(method, "/ct/:scope/tile/*name", h.withCT(ctTile))
		d.Handle(method, "/ct/:scope/issuer/:fingerprint", h.withCT(ctIssuer))
		d.Handle(method, "/ct/:scope/key", h.withCT(ctKey))
	}
	return d
}

func (h handler) withCT(serve func(*gin.Context, wire.CT) error) wire.Handler {
	return func(c *gin.Context) error {
		t, err := h.tenants.Find(c.Param("scope"))
		if err != nil {
			return err
		}
		if t.CT == nil {
			return fault.New(fault.NotFound, wire.RuleNoRoute, "There is no such log.")
		}
		return serve(c, t.CT)
	}
}

// maxChain bounds a submission: a chain has at most 10 certificates (INV-C4).
const maxChain = 128 << 10

func submit(pre bool) func(*gin.Context, wire.CT) error {
	return func(c *gin.Context, l wire.CT) error {
		var body struct {
			Chain [][]byte `json:"chain"`
		}
		raw, err := wire.ReadBody(c.Request, maxChain, "application/json")
		if err != nil {
			return err
		}
		if err := json.Unmarshal(raw, &body); err != nil {
			return fault.New(fault.Malformed, "ct-chain", "Send a JSON object with the chain, certificates in base64.").Because(err)
		}
		answer, err := l.Add(c.Request.Context(), body.Chain, pre)
		if err != nil {
			return err
		}
		c.Data(http.StatusOK, "application/json", answer)
		return nil
	}
}

func roots(c *gin.Context, l wire.CT) error {
	c.JSON(http.StatusOK, map[string][][]byte{"certificates": l.Roots()})
	return nil
}

func ctTile(c *gin.Context, l wire.CT) error {
	level, name, _ := strings.Cut(strings.TrimPrefix(c.Param("name"), "/"), "/")
	if level != "data" {
		return tile(c, l)
	}
	index, partial, err := layout.ParseTileIndexPartial(name)
	if err != nil || layout.NWithSuffix(0, index, partial) != name {
		return fault.New(fault.NotFound, wire.RuleNoRoute, "There is no such file.").Because(err)
	}
	data, err := l.Data(c.Request.Context(), index, partial)
	if err != nil {
		return err
	}
	return unchanging(c, "application/octet-stream", data)
}

func ctIssuer(c *gin.Context, l wire.CT) error {
	der, err := l.Issuer(c.Param("fingerprint"))
	if err != nil {
		return err
	}
	return unchanging(c, "application/pkix-cert", der)
}

// ctKey serves the log's key as log lists have it: a SubjectPublicKeyInfo.
func ctKey(c *gin.Context, l wire.CT) error {
	c.Data(http.StatusOK, "application/octet-stream", l.Public())
	return nil
}

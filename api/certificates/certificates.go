// Package certificates speaks the certificates API of Azure's resource manager
// (protocols/dps.md §5): trust anchors, uploaded and proved to be somebody's.
//
// It is the engine's anchors behind another shape. What it keeps of its own is the wire:
// dates of RFC 1123, certificates in base64 both ways, bare ETags, 200 also for what was
// created. Nothing is answered before an operator's token was looked at; subscription,
// resource group and service are echoed and mean nothing. A certificate that comes with
// isVerified is an operator's word in place of a proof (scenario B8): taken only where
// [Options] allow it, and on record as his.
//
// Called by package api, which mounts it on the listener for devices.
package certificates

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/verify"
)

// Options are what an installation decides about this door.
type Options struct {
	// AllowUnproven lets an operator with the scope security mark a certificate as verified
	// when he uploads it, without a proof of possession.
	AllowUnproven bool
}

const (
	base   = "/subscriptions/:subscription/resourcegroups/:group/providers/microsoft.devices/provisioningservices/:service/certificates"
	single = base + "/:name"
)

// maxBody is that of every door of Azure's shape (INV-R1).
const maxBody = 128 << 10

// New makes the door.
func New(tenants wire.Tenants, s wire.Settings, o Options) http.Handler {
	h := &handler{tenants: tenants, log: s.Log, options: o}
	d := wire.NewDoor("certificates", s, fail)
	d.Handle(http.MethodGet, base, h.as(policies.ScopeRead, list))
	d.Handle(http.MethodGet, single, h.as(policies.ScopeRead, get))
	d.Handle(http.MethodPut, single, h.as(policies.ScopeSecurity, h.put))
	d.Handle(http.MethodDelete, single, h.as(policies.ScopeSecurity, remove))
	d.Handle(http.MethodPost, single+"/generateverificationcode", h.as(policies.ScopeSecurity, newCode))
	d.Handle(http.MethodPost, single+"/verify", h.as(policies.ScopeSecurity, prove))
	return d
}

// list answers all certificates, in one page.
func list(c *gin.Context, k call) error {
	const atOnce = 100
	all := []resource{}
	for after := ""; ; {
		page, err := k.engine.Anchors(c.Request.Context(), after, atOnce)
		if err != nil {
			return err
		}
		for _, a := range page {
			all = append(all, resourceOf(c, a))
			after = a.Name()
		}
		if len(page) < atOnce {
			return reply(c, struct {
				Value []resource `json:"value"`
			}{all})
		}
	}
}

func get(c *gin.Context, k call) error {
	a, err := k.engine.Anchor(c.Request.Context(), c.Param("name"))
	return replyAnchor(c, a, err)
}

// put uploads. Over something that is there it takes If-Match, for the very same bytes too,
// which change nothing.
func (h *handler) put(c *gin.Context, k call) error {
	pre := precondition(c.Request)
	var asked struct {
		Properties struct {
			Certificate string `json:"certificate"`
			IsVerified  bool   `json:"isVerified"`
		} `json:"properties"`
	}
	if err := readJSON(c.Request, &asked); err != nil {
		return err
	}
	was, err := k.engine.Anchor(c.Request.Context(), c.Param("name"))
	switch {
	case err == nil:
		if err := meets(pre, was); err != nil {
			return err
		}
	case !fault.Is(err, fault.NotFound):
		return err
	}
	uploaded, vouched := []byte(asked.Properties.Certificate), asked.Properties.IsVerified
	if vouched && !h.options.AllowUnproven {
		if !provedAlready(was, uploaded) {
			return h.forbid(c, k, fault.New(fault.Forbidden, "unproven-anchor", "This server takes nobody's word for a certificate: leave isVerified out and prove possession."))
		}
		vouched = false // what was read is put back; it stays as it is
	}
	a, err := k.engine.UploadAnchor(c.Request.Context(), k.operator.Actor(), c.Param("name"), uploaded, vouched, pre)
	return replyAnchor(c, a, err)
}

// provedAlready says whether an upload repeats what is on record as verified.
func provedAlready(was verify.TrustAnchor, upload []byte) bool {
	cert, err := verify.ParseCertificate(upload)
	return err == nil && was.IsVerified() && was.Link().Cert.Equal(cert)
}

func remove(c *gin.Context, k call) error {
	if err := k.engine.DeleteAnchor(c.Request.Context(), k.operator.Actor(), c.Param("name"), precondition(c.Request)); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}

// newCode makes a verification code, which is in this answer alone. Whatever a client
// sends as its body is left unread.
func newCode(c *gin.Context, k call) error {
	pre, err := required(c.Request)
	if err != nil {
		return err
	}
	a, err := k.engine.NewVerificationCode(c.Request.Context(), k.operator.Actor(), c.Param("name"), pre)
	if err != nil {
		return err
	}
	r := resourceOf(c, a)
	r.Properties.Code = a.Record().Code
	return reply(c, r)
}

// prove takes the verification certificate: base64 of DER or PEM, or plain PEM.
func prove(c *gin.Context, k call) error {
	pre, err := required(c.Request)
	if err != nil {
		return err
	}
	var asked struct {
		Certificate string `json:"certificate"`
	}
	if err := readJSON(c.Request, &asked); err != nil {
		return err
	}
	a, err := k.engine.ProveAnchor(c.Request.Context(), k.operator.Actor(), c.Param("name"), []byte(asked.Certificate), pre)
	return replyAnchor(c, a, err)
}

func readJSON(r *http.Request, into any) error {
	body, err := wire.ReadBody(r, maxBody, wire.MediaTypeJSON)
	if err != nil {
		return err
	}
	return wire.DecodeJSON(body, into)
}

package admin

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/provisioning"
)

// prefix is where the API lives; its version is the path's.
const prefix = "/api/v1"

// Deps is what the door stands on. AfterRevoke and OnPanic may be nil; Now is
// time.Now unless given.
type Deps struct {
	Engine    *provisioning.Engine
	Authority *ca.Authority
	Log       *slog.Logger
	Now       func() time.Time
	// AfterRevoke is called after a certificate was revoked, so that the next CRL is
	// signed soon. It must be quick.
	AfterRevoke func()
	// OnPanic is called when a request panicked: a bug to be counted (INV-R2).
	OnPanic func()
}

type door struct {
	Deps
	api huma.API
}

// New makes the handler of everything under /api/v1. Other paths are a 404 problem.
func New(deps Deps) http.Handler {
	d, router := open(deps)
	return d.guarded(router)
}

func open(deps Deps) (*door, *gin.Engine) {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.AfterRevoke == nil {
		deps.AfterRevoke = func() {}
	}
	if deps.OnPanic == nil {
		deps.OnPanic = func() {}
	}
	d := &door{Deps: deps}
	router := newRouter()
	router.NoRoute(func(c *gin.Context) { d.write(c.Writer, c.Request, noSuchResource()) })
	router.NoMethod(func(c *gin.Context) { d.write(c.Writer, c.Request, noSuchMethod()) })
	d.api = humagin.NewWithGroup(router, router.Group(prefix), d.config())
	d.api.UseMiddleware(d.authorize, d.readBody, oneStatusForBadInput)
	d.addAnchors()
	d.addEnrollments()
	d.addGroups()
	d.addRegistrations()
	d.addExplain()
	d.addCertificates()
	d.addIssuers()
	d.addProfiles()
	d.addHubs()
	d.addTokens()
	d.addAudit()
	d.addDocument()
	return d, router
}

// newRouter takes paths as they come: an id is percent-decoded once, and nobody is
// sent elsewhere.
func newRouter() *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.UseRawPath, r.UnescapePathValues = true, true
	r.RedirectTrailingSlash, r.RedirectFixedPath = false, false
	r.HandleMethodNotAllowed = true
	_ = r.SetTrustedProxies(nil) // fails for a malformed list only
	return r
}

func (d *door) config() huma.Config {
	c := huma.DefaultConfig("Muster admin API", "v1")
	c.CreateHooks = nil // no $schema in every body
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", ""
	c.Info.Description = "Trust anchors, enrollments, registrations, certificates, issuers, profiles, hubs, tokens and the ledger of one id scope."
	c.Servers = []*huma.Server{{URL: prefix}}
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{bearer: {
		Type: "http", Scheme: "bearer", Description: "An operator token, mst_…; each operation's x-scope is the scope it must have.",
	}}
	c.RejectUnknownQueryParameters = true
	format := huma.Format{Marshal: encode, Unmarshal: json.Unmarshal}
	c.Formats = map[string]huma.Format{"application/json": format, "json": format}
	c.Transformers = []huma.Transformer{d.transform}
	return c
}

// encode writes an answer in one piece. A client that has gone is nobody's error.
func encode(w io.Writer, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, _ = w.Write(b.Bytes())
	return nil
}

package admin

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

// prefix is where the API lives; its version is the path's.
const prefix = "/api/v1"

// Deps is what the door stands on. Engine, Authority and Log are needed.
type Deps struct {
	Engine    *provisioning.Engine
	Authority *ca.Authority
	Log       *slog.Logger
	Version   string           // of this program, for the document
	Now       func() time.Time // time.Now unless given

	// ServerCertificate is that of Muster's own TLS listeners, nil where there is none yet.
	ServerCertificate func() *x509.Certificate
	// IssuanceLog is the log of the ledger; nil where there is none.
	IssuanceLog Log
	// Jobs is how the jobs do; nil where there are none.
	Jobs Jobs
	// AfterRevoke is called after a certificate was revoked or disallowed or an issuer has moved, so that
	// jobs learn of it and the next CRL is signed soon. It must be quick.
	AfterRevoke func()
	// Observe is told of every request that was answered.
	Observe func(wire.Observation)
	// OnPanic is called when a request panicked: a bug to be counted (INV-R2).
	OnPanic func()
}

func (d Deps) complete() Deps {
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.AfterRevoke == nil {
		d.AfterRevoke = func() {}
	}
	if d.ServerCertificate == nil {
		d.ServerCertificate = noCertificate
	}
	if d.OnPanic == nil {
		d.OnPanic = func() {}
	}
	return d
}

type door struct {
	Deps
	api huma.API
}

// New makes the handler of everything under /api/v1. Other paths are a 404 problem.
func New(deps Deps) http.Handler {
	return guarded(open(deps.complete()))
}

// guarded puts in front of a door what every request passes first: a trace id, a time
// limit, a line for the log, and a net under panics.
func guarded(d *door, router *gin.Engine) http.Handler {
	guard := wire.NewDoor("admin", wire.Settings{
		Log: d.Log, Now: d.Now, Observe: d.Observe, Panicked: func(string) { d.OnPanic() },
	}, d.fail)
	guard.HandleAny("/*path", func(c *gin.Context) error {
		private(c.Writer.Header())
		router.ServeHTTP(c.Writer, c.Request)
		return nil
	})
	return guard
}

// private marks an answer as nobody else's business.
func private(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
}

// open makes the door and the router behind its guard.
func open(deps Deps) (*door, *gin.Engine) {
	d := &door{Deps: deps}
	router := newRouter()
	router.NoRoute(func(c *gin.Context) {
		d.fail(c.Writer, c.Request, fault.New(fault.NotFound, wire.RuleNoRoute, "this API has no such path"))
	})
	router.NoMethod(func(c *gin.Context) { d.fail(c.Writer, c.Request, wire.MethodNotAllowed(c)) })
	d.api = humagin.NewWithGroup(router, router.Group(prefix), d.config())
	d.api.UseMiddleware(d.authorize, d.readBody, oneStatusForBadInput)
	d.addAnchors()
	d.addEnrollments()
	d.addGroups()
	d.addRegistrations()
	d.addPending()
	d.addHolds()
	d.addQuarantines()
	d.addTripwires()
	d.addExplain()
	d.addCertificates()
	d.addIssuers()
	d.addUpstreams()
	d.addProfiles()
	d.addHubs()
	d.addHubChecks()
	d.addSubscriptions()
	d.addAccess()
	d.addTokens()
	d.addCodes()
	d.addLineage()
	d.addCampaigns()
	d.addDisallowances()
	d.addRetirements()
	d.addAudit()
	d.addLog()
	d.addJobs()
	d.addPlans()
	d.addRotation()
	d.addExpiry()
	d.addCalendar()
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
	c := huma.DefaultConfig("Muster admin API", d.Version)
	c.CreateHooks = nil // no $schema in every body
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", ""
	c.Info.Description = "Trust anchors, enrollments, registrations, certificates, issuers, profiles, hubs, shared access, tokens and the ledger of one id scope."
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

// Package check answers brokers that ask whether a client may connect: EMQX, by its HTTP
// authenticator, and any other in a neutral shape (docs/reference/hub-check.md).
//
// It decodes, asks the engine and encodes. What it keeps of its own is the wire:
//
//   - A broker has an operator's token of the scope hub, which opens nothing else. Without one
//     nothing is answered but a refusal.
//   - An answer to EMQX is 200 whatever happened: any 4xx or 5xx means to it that the next
//     authenticator decides (https://docs.emqx.com/en/emqx/latest/access-control/authn/http.html).
//     Nothing but the engine's word is an allow, and nothing is ever "ignore".
//   - An answer comes before a broker stops waiting for it; what takes longer is a refusal.
//   - How long an answer is good for is said with it: a broker that drops a client then asks again.
//
// Called by cmd, which mounts it beside the admin API or on a listener of its own.
package check

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

const (
	neutralPath = "/hub/v1/check"
	emqxPath    = "/hub/v1/emqx"
)

const (
	// maxBody holds a chain of ten certificates (INV-R1).
	maxBody = 64 << 10
	// patience is less than the 5 s that EMQX waits by default.
	patience = 3 * time.Second
)

// Options are what an installation decides about this door.
type Options struct {
	// AskAgain is the longest that an answer is good for.
	AskAgain time.Duration
	// Checked is told of every client that was judged, by the rule word of its refusal; nil for none.
	Checked func(broker, reason string)
}

type handler struct {
	tenants wire.Tenants
	log     *slog.Logger
	now     func() time.Time
	options Options
}

// New makes the door.
func New(s wire.Settings, o Options, tenants ...wire.Tenant) (http.Handler, error) {
	served, err := wire.NewTenants(tenants...)
	if err != nil {
		return nil, err
	}
	if o.Checked == nil {
		o.Checked = func(string, string) {}
	}
	h := &handler{tenants: served, log: s.Log, now: s.Now, options: o}
	d := wire.NewDoor("check", s, fail)
	d.Handle(http.MethodPost, neutralPath, func(c *gin.Context) error {
		var q neutralRequest
		v, err := h.judge(c, "check", &q)
		if err != nil {
			return err
		}
		return reply(c, neutralAnswerOf(v))
	})
	d.Handle(http.MethodPost, emqxPath, func(c *gin.Context) error {
		var q emqxRequest
		v, err := h.judge(c, "emqx", &q)
		if err != nil {
			return err
		}
		return reply(c, emqxAnswerOf(v))
	})
	return d, nil
}

// question is what a broker sends, in its own words.
type question interface {
	// client is who is asked about, and the hub, "" for the only one.
	client() (hub string, c provisioning.HubClient, err error)
}

// judge answers a broker's question, the token first.
func (h *handler) judge(c *gin.Context, broker string, q question) (v provisioning.HubVerdict, err error) {
	ctx, cancel := context.WithTimeout(c.Request.Context(), patience)
	defer cancel()
	engine, err := h.authorize(ctx, c.Request)
	if err != nil {
		return v, late(ctx, err)
	}
	body, err := wire.ReadBody(c.Request, maxBody, wire.MediaTypeJSON)
	if err != nil {
		return v, err
	}
	if err := wire.DecodeJSON(body, q); err != nil {
		return v, err
	}
	hub, client, err := q.client()
	if err != nil {
		return v, err
	}
	list, err := engine.CheckHub(ctx, hub, client)
	if err != nil {
		return v, late(ctx, err)
	}
	v = list[0]
	h.options.Checked(broker, v.Reason)
	if v.Reason != "" {
		h.log.Debug("client of a broker refused", "door", "check", "op", broker, "deviceId", client.Device.String(), "reason", v.Reason)
	}
	v.Until = wire.AskAgain(v.Until, h.now(), h.options.AskAgain)
	return v, nil
}

// authorize finds the id scope that a token is of, if it is good for this.
func (h *handler) authorize(ctx context.Context, r *http.Request) (*provisioning.Engine, error) {
	token, _ := wire.Bearer(r.Header.Get("Authorization"))
	tenant, who, err := h.tenants.Operator(ctx, token)
	if err != nil {
		return nil, err
	}
	if !who.Scopes.Allows(policies.ScopeHub) {
		wire.OnRecord(h.log, tenant.Engine, r, who.Actor(), who.Scopes.String())
		return nil, fault.New(fault.Forbidden, "scope-missing", "This needs a token with the scope %s.", policies.ScopeHub)
	}
	return tenant.Engine, nil
}

// late is err, or that the time was over.
func late(ctx context.Context, err error) error {
	if ctx.Err() != nil && fault.As(err) == nil {
		return fault.New(fault.Unavailable, "timed-out", "The question was not answered in time.").Because(err)
	}
	return err
}

func reply(c *gin.Context, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	c.Header("Cache-Control", "no-store")
	c.Data(http.StatusOK, wire.MediaTypeJSON, text)
	return nil
}

// statuses is what each kind of fault is in HTTP.
var statuses = [...]int{
	fault.Internal:        http.StatusInternalServerError,
	fault.Malformed:       http.StatusBadRequest,
	fault.Unauthenticated: http.StatusUnauthorized,
	fault.Forbidden:       http.StatusForbidden,
	fault.NotFound:        http.StatusNotFound,
	fault.TooLarge:        http.StatusRequestEntityTooLarge,
	fault.Throttled:       http.StatusTooManyRequests,
	fault.Unavailable:     http.StatusServiceUnavailable,
}

// statusOf is that of a kind, and of the rules that HTTP has a status of its own for.
func statusOf(f *fault.Error) int {
	switch f.Rule {
	case wire.RuleMethodNotAllowed:
		return http.StatusMethodNotAllowed
	case wire.RuleMediaType:
		return http.StatusUnsupportedMediaType
	}
	if int(f.Kind) < len(statuses) && statuses[f.Kind] != 0 {
		return statuses[f.Kind]
	}
	return http.StatusBadRequest
}

// fail refuses, in the words of who asks.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	f := fault.As(err)
	if f == nil || f.Kind == fault.Internal {
		f = fault.New(fault.Internal, "internal", "Something went wrong here; the log has it under this trace id.")
	}
	status, answer := statusOf(f), any(neutralAnswer{Reason: f.Rule, Detail: f.Detail, TraceID: wire.TraceID(r)})
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="muster"`)
	}
	if status == http.StatusRequestEntityTooLarge {
		w.Header().Set("Connection", "close") // the rest of the body is not waited for
	}
	if r.URL.Path == emqxPath {
		status, answer = http.StatusOK, emqxAnswer{Result: deny, Reason: f.Rule, Detail: f.Detail, TraceID: wire.TraceID(r)}
	} else {
		wire.Advise(w.Header(), status, err)
	}
	text, err := json.Marshal(answer)
	if err != nil {
		panic("internal error: a refusal does not encode: " + err.Error())
	}
	w.Header().Set("Content-Type", wire.MediaTypeJSON)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(text) // a broker that has gone is nobody's error
}

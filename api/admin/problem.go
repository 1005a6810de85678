package admin

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"regexp"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/passmuster/muster/internal/fault"
)

// problem is an RFC 9457 answer. TraceID finds the request in the log; RefusedBy names
// the rule, which is also the end of Type.
type problem struct {
	Type      string       `json:"type" doc:"urn:muster:problem:RULE" example:"urn:muster:problem:hub-not-linked"`
	Title     string       `json:"title"`
	Status    int          `json:"status"`
	Detail    string       `json:"detail,omitempty" doc:"One sentence about this very request."`
	Instance  string       `json:"instance,omitempty" doc:"The path that was asked for."`
	TraceID   string       `json:"traceId,omitempty" doc:"Finds this request in the server's log."`
	Errors    []badValue   `json:"errors,omitempty" nullable:"false" doc:"The values that are wrong."`
	RefusedBy *ruleApplied `json:"refusedBy,omitempty"`

	headers http.Header
}

// badValue is one value that is wrong, in the body or elsewhere.
type badValue struct {
	Pointer  string `json:"pointer,omitempty" doc:"JSON pointer into the body."`
	Location string `json:"location,omitempty" doc:"Where else: query.NAME, path.NAME or header.NAME."`
	Code     string `json:"code" doc:"A stable word."`
	Detail   string `json:"detail"`
}

// ruleApplied is the rule that refused, and what it was about.
type ruleApplied struct {
	Rule   string `json:"rule" doc:"A stable word."`
	Object string `json:"object,omitempty" doc:"Kind and name." example:"group line-3"`
}

// Error makes a problem an error that huma can answer with.
func (p *problem) Error() string { return p.Detail }

// GetStatus is the HTTP status.
func (p *problem) GetStatus() int { return p.Status }

// GetHeaders are the headers that go with it.
func (p *problem) GetHeaders() http.Header { return p.headers }

// ContentType is that of RFC 9457 §6.1.
func (p *problem) ContentType(string) string { return problemType }

const (
	problemType   = "application/problem+json"
	problemPrefix = "urn:muster:problem:"
)

// kinds is what each kind of fault is in HTTP.
var kinds = [...]struct {
	status int
	title  string
}{
	fault.Internal:             {http.StatusInternalServerError, "Internal error"},
	fault.Malformed:            {http.StatusBadRequest, "Bad input"},
	fault.Unauthenticated:      {http.StatusUnauthorized, "Not signed in"},
	fault.Forbidden:            {http.StatusForbidden, "Not allowed"},
	fault.Disallowed:           {http.StatusForbidden, "Disallowed"},
	fault.NotFound:             {http.StatusNotFound, "Not found"},
	fault.Conflict:             {http.StatusConflict, "Conflict"},
	fault.PreconditionFailed:   {http.StatusPreconditionFailed, "Changed meanwhile"},
	fault.PreconditionRequired: {http.StatusPreconditionRequired, "Precondition required"},
	fault.Throttled:            {http.StatusTooManyRequests, "Too many requests"},
	fault.TooLarge:             {http.StatusRequestEntityTooLarge, "Too large"},
	fault.Unavailable:          {http.StatusServiceUnavailable, "Unavailable"},
}

// problemOf turns an error into an answer. What is not a fault is logged, and the
// caller learns its trace id alone.
func (d *door) problemOf(ctx context.Context, err error) *problem {
	var ready *problem
	if errors.As(err, &ready) {
		return ready
	}
	f := fault.As(err)
	switch {
	case f == nil && ctx.Err() != nil:
		f = fault.New(fault.Unavailable, "timed-out", "the request was given up before it was done")
	case f == nil || f.Kind == fault.Internal:
		d.Log.Error("admin request failed", "traceId", traceOf(ctx), "err", err)
		return internalProblem()
	}
	p := &problem{
		Type: problemPrefix + f.Rule, Title: kinds[f.Kind].title, Status: kinds[f.Kind].status, Detail: sentence(f.Detail),
		RefusedBy: &ruleApplied{Rule: f.Rule, Object: f.Object}, headers: http.Header{},
	}
	for _, field := range f.Fields {
		p.Errors = append(p.Errors, badValue{Pointer: field.Pointer, Code: f.Rule, Detail: sentence(field.Detail)})
	}
	switch f.Kind {
	case fault.Unauthenticated:
		p.headers.Set("WWW-Authenticate", `Bearer realm="muster"`)
	case fault.Throttled, fault.Unavailable:
		p.headers.Set("Retry-After", "1")
	}
	return p
}

// sentence begins with a capital and ends with a full stop, however the rule put it.
func sentence(s string) string {
	if s == "" {
		return s
	}
	if s = strings.ToUpper(s[:1]) + s[1:]; !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

func internalProblem() *problem {
	return &problem{
		Type: problemPrefix + "internal", Title: kinds[fault.Internal].title, Status: http.StatusInternalServerError,
		Detail: "Something went wrong here; the log has it under this trace id.",
	}
}

func noSuchResource() *problem {
	return &problem{Type: problemPrefix + "no-such-path", Title: "Not found", Status: http.StatusNotFound, Detail: "This API has no such path."}
}

func noSuchMethod() *problem {
	return &problem{Type: problemPrefix + "method-not-allowed", Title: "Method not allowed", Status: http.StatusMethodNotAllowed, Detail: "This path does not take this method."}
}

func unsupportedMedia() *problem {
	return &problem{Type: problemPrefix + "unsupported-media-type", Title: "Unsupported media type", Status: http.StatusUnsupportedMediaType, Detail: "A request's body is JSON, and not compressed."}
}

// transform finishes every problem on its way out.
func (d *door) transform(ctx huma.Context, _ string, v any) (any, error) {
	p, ok := v.(*problem)
	if !ok {
		bad, isBad := v.(*huma.ErrorModel)
		if !isBad {
			return v, nil
		}
		p = badInput(bad)
	}
	u := ctx.URL()
	p.Instance, p.TraceID = u.EscapedPath(), traceOf(ctx.Context())
	return p, nil
}

// badInput says what in a request does not fit its schema. The values themselves are
// left out: one may be a key (INV-K4).
func badInput(m *huma.ErrorModel) *problem {
	p := &problem{
		Type: problemPrefix + "schema", Title: kinds[fault.Malformed].title, Status: http.StatusBadRequest,
		Detail: "The request does not fit its schema.", RefusedBy: &ruleApplied{Rule: "schema"},
	}
	if len(m.Errors) == 0 {
		p.Detail = sentence(m.Detail)
	}
	for _, e := range m.Errors {
		p.Errors = append(p.Errors, badValueOf(e))
	}
	return p
}

var index = regexp.MustCompile(`\[(\d+)\]`)

func badValueOf(e *huma.ErrorDetail) badValue {
	b := badValue{Code: "invalid", Detail: sentence(e.Message)}
	switch {
	case strings.HasPrefix(e.Message, "json: "):
		b.Detail = "The value has the wrong type."
	case strings.HasPrefix(e.Message, "unexpected property"), strings.HasPrefix(e.Message, "unknown query parameter"):
		b.Code = "unknown"
	case strings.HasPrefix(e.Message, "expected required property"), strings.HasPrefix(e.Message, "required "):
		b.Code = "missing"
	}
	rest, inBody := strings.CutPrefix(e.Location, "body")
	if !inBody {
		b.Location = e.Location
		return b
	}
	rest = index.ReplaceAllString(strings.NewReplacer("~", "~0", "/", "~1").Replace(rest), ".$1")
	b.Pointer = strings.ReplaceAll(rest, ".", "/")
	return b
}

// oneStatusForBadInput makes 400 of huma's 422, so that bad input is one status.
func oneStatusForBadInput(ctx huma.Context, next func(huma.Context)) { next(badInputContext{ctx}) }

type badInputContext struct{ huma.Context }

func (c badInputContext) SetStatus(code int) {
	if code == http.StatusUnprocessableEntity {
		code = http.StatusBadRequest
	}
	c.Context.SetStatus(code)
}

// Unwrap is how humagin finds the request.
func (c badInputContext) Unwrap() huma.Context { return c.Context }

// refuse ends a request before its handler.
func (d *door) refuse(ctx huma.Context, err error) {
	p := d.problemOf(ctx.Context(), err)
	u := ctx.URL()
	p.Instance, p.TraceID = u.EscapedPath(), traceOf(ctx.Context())
	for name, values := range p.headers {
		ctx.SetHeader(name, values[0])
	}
	ctx.SetHeader("Content-Type", problemType)
	ctx.SetStatus(p.Status)
	_ = encode(ctx.BodyWriter(), p) // a problem always encodes
}

// write is refuse for a request that no operation took.
func (d *door) write(w http.ResponseWriter, r *http.Request, p *problem) {
	p.Instance, p.TraceID = r.URL.EscapedPath(), traceOf(r.Context())
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	_ = encode(w, p) // a problem always encodes
}

func (d *door) problemResponse() *huma.Response {
	schema := d.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[problem](), true, "problem")
	return &huma.Response{Description: "A problem", Content: map[string]*huma.MediaType{problemType: {Schema: schema}}}
}

// at is err, if it is a fault, with the place in the body it is about.
func at(err error, pointer string) error {
	if f := fault.As(err); f != nil {
		return f.At(pointer)
	}
	return err
}

package admin

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"regexp"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"

	"github.com/passmuster/muster/api/internal/wire"
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
	cause   error // for the log
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

// statuses are those of rules that HTTP has a status of its own for.
var statuses = [...]struct {
	rule, title string
	status      int
}{
	{wire.RuleMethodNotAllowed, "Method not allowed", http.StatusMethodNotAllowed},
	{wire.RuleMediaType, "Unsupported media type", http.StatusUnsupportedMediaType},
}

// problemOf turns an error into an answer. Of what is not a fault the caller learns
// the trace id alone.
func problemOf(ctx context.Context, err error) *problem {
	var ready *problem
	if errors.As(err, &ready) {
		return ready
	}
	f := fault.As(err)
	switch {
	case f == nil && ctx.Err() != nil:
		f = fault.New(fault.Unavailable, "timed-out", "the request was given up before it was done")
	case f == nil || f.Kind == fault.Internal:
		f = fault.New(fault.Internal, "internal", "something went wrong here; the log has it under this trace id").Because(err)
	}
	p := &problem{
		Type: problemPrefix + f.Rule, Title: kinds[f.Kind].title, Status: kinds[f.Kind].status, Detail: sentence(f.Detail),
		RefusedBy: &ruleApplied{Rule: f.Rule, Object: f.Object}, headers: http.Header{},
	}
	for _, field := range f.Fields {
		p.Errors = append(p.Errors, badValue{Pointer: field.Pointer, Code: f.Rule, Detail: sentence(field.Detail)})
	}
	for _, s := range statuses {
		if s.rule == f.Rule {
			p.Title, p.Status = s.title, s.status
		}
	}
	switch f.Kind {
	case fault.Internal:
		p.RefusedBy, p.cause = nil, err
	case fault.Unauthenticated:
		p.headers.Set("WWW-Authenticate", `Bearer realm="muster"`)
	case fault.Unavailable:
		p.cause = err
	}
	wire.Advise(p.headers, p.Status, err)
	return p
}

// sentence begins with a capital and ends with a full stop, however the rule put it.
func sentence(s string) string {
	if s == "" {
		return s
	}
	if 'a' <= s[0] && s[0] <= 'z' {
		s = strings.ToUpper(s[:1]) + s[1:]
	}
	return strings.TrimSuffix(s, ".") + "."
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
	d.finish(p, humagin.Unwrap(ctx).Request)
	return p, nil
}

// finish adds what only the request knows, and logs what the answer does not tell.
func (d *door) finish(p *problem, r *http.Request) {
	p.Instance, p.TraceID = r.URL.EscapedPath(), wire.TraceID(r)
	if p.cause != nil {
		d.Log.Error("request failed", "door", "admin", "traceId", p.TraceID, "err", p.cause)
	}
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

// humaContext is huma's under a name that does not hide its method Context.
type humaContext = huma.Context

type badInputContext struct{ humaContext }

func (c badInputContext) SetStatus(code int) {
	if code == http.StatusUnprocessableEntity {
		code = http.StatusBadRequest
	}
	c.humaContext.SetStatus(code)
}

// Unwrap is how humagin finds the request.
func (c badInputContext) Unwrap() huma.Context { return c.humaContext }

// refuse ends a request before its handler.
func (d *door) refuse(ctx huma.Context, err error) {
	c := humagin.Unwrap(ctx)
	d.fail(c.Writer, c.Request, err)
}

// fail answers an error.
func (d *door) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(r.Context(), err)
	d.finish(p, r)
	private(w.Header())
	for name, values := range p.headers {
		w.Header()[name] = values
	}
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

package wire

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/internal/fault"
)

// requestLimit bounds one request from its header to its answer: what waits longer is
// not wanted any more (INV-R6).
const requestLimit = 30 * time.Second

// Settings are what every door is given.
type Settings struct {
	Log *slog.Logger
	Now func() time.Time // of timestamps in answers
	// Hosts are the names of this server that a token of a shared access policy may be for
	// (protocols/dps.md §1.2); a request's own Host counts for nothing.
	Hosts []string

	// Observe is told of every request that was answered, for metrics; nil for none.
	Observe func(Observation)
	// Panicked is told of every panic that was caught, which is a bug; nil for none.
	Panicked func(door string)
}

// Observation is one answered request. Method is one of the methods of RFC 9110, or
// "other": a stranger's words make no new time series.
type Observation struct {
	Door, Method string
	Code         int
	Duration     time.Duration
}

// Handler serves one route. It answers, or returns an error and has not begun to.
type Handler func(*gin.Context) error

// Fail answers an error in a door's shape.
type Fail func(w http.ResponseWriter, r *http.Request, err error)

// Door is one protocol's router and the guard in front of it.
type Door struct {
	name     string
	router   *gin.Engine
	routes   []route
	fixed    map[string]bool // the routes without ids
	fail     Fail
	settings Settings
}

// Rule words of faults that HTTP has a status of its own for.
const (
	RuleNoRoute          = "no-route"           // NotFound: no such path
	RuleMethodNotAllowed = "method-not-allowed" // Malformed: the path has other methods
	RuleMediaType        = "media-type"         // Malformed: Content-Type or Content-Encoding
)

// NewDoor makes a door without routes. Every error of its handlers, and every request
// that fits no route, is answered by fail.
func NewDoor(name string, s Settings, fail Fail) *Door {
	gin.SetMode(gin.ReleaseMode)
	d := &Door{name: name, router: gin.New(), fixed: map[string]bool{}, fail: fail, settings: s}
	// A client's address comes from the connection alone (threat model, trust lines).
	d.router.ForwardedByClientIP = false
	if err := d.router.SetTrustedProxies(nil); err != nil {
		panic("internal error: trusting no proxy: " + err.Error())
	}
	// So that an id with an encoded slash is one id, which the grammar then refuses.
	d.router.UseRawPath = true
	d.router.RedirectTrailingSlash = false
	d.router.HandleMethodNotAllowed = true
	d.router.NoRoute(d.guard(func(*gin.Context) error {
		return fault.New(fault.NotFound, RuleNoRoute, "There is nothing at this address.")
	}))
	d.router.NoMethod(d.guard(MethodNotAllowed))
	return d
}

// MethodNotAllowed refuses whatever comes.
func MethodNotAllowed(*gin.Context) error {
	return fault.New(fault.Malformed, RuleMethodNotAllowed, "This address does not have that method.")
}

// Handle adds a route in gin's notation: a segment with a colon is an id and keeps its
// spelling, any other is a fixed word in lower case.
func (d *Door) Handle(method, path string, h Handler) {
	d.router.Handle(method, path, d.guard(h))
	d.addRoute(path)
}

// HandleAny adds a route for every method.
func (d *Door) HandleAny(path string, h Handler) {
	d.router.Any(path, d.guard(h))
	d.addRoute(path)
}

func (d *Door) guard(h Handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := h(c); err != nil {
			d.refuse(c.Writer, c.Request, err)
		}
	}
}

// refuse answers an error, and logs it where the answer does not say what happened.
func (d *Door) refuse(w http.ResponseWriter, r *http.Request, err error) {
	switch kind := fault.KindOf(err); {
	case errors.Is(r.Context().Err(), context.Canceled): // the client has gone
	case kind == fault.Internal:
		d.settings.Log.Error("request failed", "door", d.name, "traceId", TraceID(r), "error", err)
	case kind == fault.Unavailable:
		d.settings.Log.Warn("request not served", "door", d.name, "traceId", TraceID(r), "error", err)
	}
	d.fail(w, r, err)
}

// ServeHTTP guards one request and routes it.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	answer := &recorder{ResponseWriter: w}
	ctx := &requestContext{Context: r.Context(), until: began.Add(requestLimit)}
	defer ctx.end()
	r = r.WithContext(ctx)
	matched := d.canonical(r)
	defer func() {
		v := recover()
		aborted := v != nil && d.caught(answer, r, v)
		d.done(r, matched, cmp.Or(answer.code, http.StatusOK), time.Since(began))
		if aborted {
			panic(http.ErrAbortHandler) // net/http cuts the connection and says nothing
		}
	}()
	d.router.ServeHTTP(answer, r)
}

// caught deals with a panic and reports whether the answer must be cut off, because it
// had begun.
func (d *Door) caught(answer *recorder, r *http.Request, v any) (abort bool) {
	if err, is := v.(error); is && errors.Is(err, http.ErrAbortHandler) {
		return true
	}
	d.settings.Log.Error("panic", "door", d.name, "traceId", TraceID(r), "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	if d.settings.Panicked != nil {
		d.settings.Panicked(d.name)
	}
	if answer.code != 0 {
		return true
	}
	clear(answer.Header())
	d.fail(answer, r, fault.New(fault.Internal, "panic", ""))
	return false
}

func (d *Door) done(r *http.Request, matched string, code int, took time.Duration) {
	method := methodLabel(r.Method)
	// The route stands for the path: a stranger's text is kept out of the log (INV-P3).
	if d.settings.Log.Enabled(r.Context(), slog.LevelDebug) {
		d.settings.Log.Debug("request", "door", d.name, "op", matched, "method", method, "code", code,
			"dur", took, "traceId", TraceID(r), "address", Address(r))
	}
	if d.settings.Observe != nil {
		d.settings.Observe(Observation{Door: d.name, Method: method, Code: code, Duration: took})
	}
}

func methodLabel(method string) string {
	if slices.Contains([]string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace,
	}, method) {
		return method
	}
	return "other"
}

// Address is where the connection comes from, without its port: for the log only.
func Address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	code int // 0: not begun
}

func (w *recorder) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *recorder) Write(b []byte) (int, error) {
	w.code = cmp.Or(w.code, http.StatusOK)
	return w.ResponseWriter.Write(b)
}

// Hijack gives the connection away, to WebSocket.
func (w *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.code = http.StatusSwitchingProtocols
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

package admin

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"
	"regexp"
	"runtime/debug"
	"time"
)

type traceKey struct{}

// guarded is what every request passes first: a trace id, the headers of answers that
// are nobody else's business, one line for the log, and a net under panics.
func (d *door) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		r = r.WithContext(context.WithValue(r.Context(), traceKey{}, traceID(r)))
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		answer := &recorder{ResponseWriter: w}
		defer func() {
			if p := recover(); p != nil {
				d.panicked(answer, r, p)
			}
			d.Log.Debug("admin request", "door", "admin", "method", r.Method, "path", r.URL.EscapedPath(),
				"status", answer.status, "traceId", traceOf(r.Context()), "dur", time.Since(began))
		}()
		next.ServeHTTP(answer, r)
	})
}

// panicked answers for a request that hit a bug; the process goes on (INV-R2).
func (d *door) panicked(w *recorder, r *http.Request, p any) {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p)
	}
	d.OnPanic()
	d.Log.Error("panic", "door", "admin", "traceId", traceOf(r.Context()), "panic", p, "stack", string(debug.Stack()))
	if w.status == 0 {
		d.write(w, r, internalProblem())
	}
}

// recorder remembers the status that was sent, 0 while none was.
type recorder struct {
	http.ResponseWriter
	status int
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

var traceparent = regexp.MustCompile(`^00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$`)

// traceID goes on with the caller's trace (W3C Trace Context §3.2) or begins one.
func traceID(r *http.Request) string {
	if m := traceparent.FindStringSubmatch(r.Header.Get("Traceparent")); m != nil {
		return m[1]
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

func traceOf(ctx context.Context) string {
	id, _ := ctx.Value(traceKey{}).(string)
	return id
}

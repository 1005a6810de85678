package wire

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/internal/fault"
)

// testDoor answers faults with their kind's name, and keeps what it was told.
type testDoor struct {
	*Door
	log      bytes.Buffer
	observed []Observation
	panics   int
}

func newTestDoor(level slog.Level) *testDoor {
	td := &testDoor{}
	td.Door = NewDoor("test", Settings{
		Log: slog.New(slog.NewTextHandler(&td.log, &slog.HandlerOptions{Level: level})), Now: time.Now,
		Observe:  func(o Observation) { td.observed = append(td.observed, o) },
		Panicked: func(string) { td.panics++ },
	}, func(w http.ResponseWriter, r *http.Request, err error) {
		w.Header().Set("X-Trace", TraceID(r))
		w.WriteHeader(map[fault.Kind]int{fault.Malformed: 400, fault.NotFound: 404, fault.Unavailable: 503}[fault.KindOf(err)] + map[bool]int{true: 500}[fault.Is(err, fault.Internal)])
		_, _ = io.WriteString(w, fault.RuleOf(err))
	})
	return td
}

func (td *testDoor) serve(method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	td.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

func TestAPanicIsCaughtCountedAndAnswered(t *testing.T) {
	d := newTestDoor(slog.LevelError)
	d.Handle("GET", "/early", func(c *gin.Context) error { c.Header("X-Half", "done"); panic("a bug") })
	w := d.serve("GET", "/early")
	if w.Code != 500 || w.Header().Get("X-Half") != "" || d.panics != 1 {
		t.Errorf("answer %d %v, %d panics counted", w.Code, w.Header(), d.panics)
	}
	for _, part := range []string{"a bug", "door_test.go", w.Header().Get("X-Trace")} {
		if !strings.Contains(d.log.String(), part) {
			t.Errorf("the log does not have %q:\n%s", part, d.log.String())
		}
	}
	if len(d.observed) != 1 || d.observed[0].Code != 500 {
		t.Errorf("observed %+v", d.observed)
	}
}

func TestAPanicInTheMiddleOfAnAnswerCutsTheConnection(t *testing.T) {
	tests := map[string]struct {
		with   any
		panics int
	}{
		"a bug":                  {"a bug", 1},
		"an abort that is meant": {http.ErrAbortHandler, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := newTestDoor(slog.LevelError)
			d.Handle("GET", "/late", func(c *gin.Context) error {
				c.String(http.StatusAccepted, "half")
				panic(tt.with)
			})
			defer func() {
				if err, is := recover().(error); !is || !errors.Is(err, http.ErrAbortHandler) {
					t.Errorf("recovered %v, want an abort", err)
				}
				if d.panics != tt.panics || len(d.observed) != 1 || d.observed[0].Code != http.StatusAccepted {
					t.Errorf("%d panics counted, observed %+v", d.panics, d.observed)
				}
			}()
			d.serve("GET", "/late")
		})
	}
}

func TestWhatTheAnswerDoesNotSayIsLogged(t *testing.T) {
	tests := map[string]struct {
		err    error
		code   int
		logged string
	}{
		"an error nobody classified": {errors.New("disk on fire"), 500, "level=ERROR msg=\"request failed\""},
		"unavailable":                {fault.New(fault.Unavailable, "db", "Try later.").Because(errors.New("disk on fire")), 503, "level=WARN msg=\"request not served\""},
		"the caller's own mistake":   {fault.New(fault.Malformed, "x", "No."), 400, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := newTestDoor(slog.LevelInfo)
			d.Handle("GET", "/x", func(*gin.Context) error { return tt.err })
			if w := d.serve("GET", "/x"); w.Code != tt.code {
				t.Errorf("answer %d, want %d", w.Code, tt.code)
			}
			if log := d.log.String(); (log == "") != (tt.logged == "") || !strings.Contains(log, tt.logged) || tt.logged != "" && !strings.Contains(log, "disk on fire") {
				t.Errorf("log %q", log)
			}
		})
	}
}

func TestStrangeRequestsMakeNoNewNames(t *testing.T) {
	d := newTestDoor(slog.LevelDebug)
	d.Handle("GET", "/x/:id", func(c *gin.Context) error { c.Status(http.StatusNoContent); return nil })
	tests := []struct {
		method, path string
		code         int
		body, label  string
	}{
		{"GET", "/x/1", 204, "", "GET"},
		{"GET", "/elsewhere", 404, RuleNoRoute, "GET"},
		{"PUT", "/x/1", 400, RuleMethodNotAllowed, "PUT"},
		{"EVIL-WORD", "/x/1", 400, RuleMethodNotAllowed, "other"},
	}
	for _, tt := range tests {
		w := d.serve(tt.method, tt.path)
		last := d.observed[len(d.observed)-1]
		if w.Code != tt.code || w.Body.String() != tt.body || last.Method != tt.label || last.Door != "test" || last.Code != tt.code {
			t.Errorf("%s %s: %d %q, observed %+v", tt.method, tt.path, w.Code, w.Body, last)
		}
	}
	if log := d.log.String(); strings.Contains(log, "EVIL") || strings.Contains(log, "elsewhere") || !strings.Contains(log, "op=/x/:id") {
		t.Errorf("log:\n%s", log)
	}
}

func TestNoHeaderNamesTheClient(t *testing.T) {
	d := newTestDoor(slog.LevelDebug)
	seen := ""
	d.Handle("GET", "/x", func(c *gin.Context) error { seen = c.ClientIP() + " " + Address(c.Request); return nil })
	r := httptest.NewRequest("GET", "/x", nil)
	r.RemoteAddr = "192.0.2.7:4711"
	for _, name := range []string{"X-Forwarded-For", "X-Real-Ip", "Forwarded"} {
		r.Header.Set(name, "10.0.0.1")
	}
	d.ServeHTTP(httptest.NewRecorder(), r)
	if seen != "192.0.2.7 192.0.2.7" {
		t.Errorf("the client is %s", seen)
	}
}

func TestEveryRequestHasALimitAndItsOwnTraceID(t *testing.T) {
	d := newTestDoor(slog.LevelError)
	seen := map[string]bool{}
	d.Handle("GET", "/x", func(c *gin.Context) error {
		seen[TraceID(c.Request)] = true
		if until, ok := c.Request.Context().Deadline(); !ok || time.Until(until) > requestLimit {
			t.Errorf("the request may take until %v", until)
		}
		return nil
	})
	d.serve("GET", "/x")
	d.serve("GET", "/x")
	if len(seen) != 2 || seen[""] {
		t.Errorf("trace ids %v", seen)
	}
	if id := TraceID(httptest.NewRequest("GET", "/", nil)); id != "" {
		t.Errorf("outside a door the trace id is %q", id)
	}
}

package wire

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

func TestAdviceToComeBack(t *testing.T) {
	refused := fault.New(fault.Unauthenticated, "x", "X.")
	busy := fault.New(fault.Unavailable, "x", "X.")
	tests := map[string]struct {
		status   int
		err      error
		from, to int // seconds; 0 = no header
	}{
		"a refusal without advice":        {401, refused, 0, 0},
		"a refusal with advice":           {401, refused.Later(8 * time.Second), 8, 16},
		"too many requests":               {429, fault.New(fault.Throttled, "x", "X."), 5, 10},
		"too many requests, and a moment": {429, refused.Later(time.Millisecond), 1, 2},
		"a server that is busy":           {503, busy, 5, 10},
		"a server that is very busy":      {503, busy.Later(time.Minute), 60, 120},
		"an error of nobody":              {500, http.ErrAbortHandler, 0, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			drawn := map[string]bool{}
			for range 50 {
				header := http.Header{}
				Advise(header, tt.status, tt.err)
				got := header.Get("Retry-After")
				drawn[got] = true
				if seconds, _ := strconv.Atoi(got); seconds < tt.from || seconds > tt.to {
					t.Fatalf("Retry-After %q, want %d to %d s", got, tt.from, tt.to)
				}
			}
			if tt.to > 0 && len(drawn) < 2 {
				t.Error("everybody gets the same: there is no jitter")
			}
		})
	}
}

package wire

import (
	"log/slog"
	"net/http"

	"github.com/passmuster/muster/provisioning"
)

// maxAct is the most that the ledger keeps of a refused request's line.
const maxAct = 256

// OnRecord tells the ledger that a caller who is known was denied this request, and what he
// may do (INV-L1). That the ledger could not be written opens nothing: it is logged.
func OnRecord(log *slog.Logger, e *provisioning.Engine, r *http.Request, actor, may string) {
	act := r.Method + " " + r.URL.EscapedPath()
	if err := e.Refused(r.Context(), actor, may, act[:min(len(act), maxAct)]); err != nil {
		log.Error("recording a refused act", "traceId", TraceID(r), "actor", actor, "err", err)
	}
}

package certificates

import (
	"encoding/json"
	"net/http"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
)

// kinds is what each kind of fault is here: a status, and the word that the resource
// manager has for it. A PUT over something that exists without If-Match has not met its
// precondition, as one with another ETag has not.
var kinds = [...]struct {
	status int
	code   string
}{
	fault.Internal:             {http.StatusInternalServerError, "InternalServerError"},
	fault.Malformed:            {http.StatusBadRequest, "BadRequest"},
	fault.Unauthenticated:      {http.StatusUnauthorized, "AuthenticationFailed"},
	fault.Forbidden:            {http.StatusForbidden, "AuthorizationFailed"},
	fault.Disallowed:           {http.StatusForbidden, "Forbidden"},
	fault.NotFound:             {http.StatusNotFound, "ResourceNotFound"},
	fault.Conflict:             {http.StatusConflict, "Conflict"},
	fault.PreconditionFailed:   {http.StatusPreconditionFailed, "PreconditionFailed"},
	fault.PreconditionRequired: {http.StatusPreconditionFailed, "PreconditionFailed"},
	fault.Throttled:            {http.StatusTooManyRequests, "TooManyRequests"},
	fault.TooLarge:             {http.StatusRequestEntityTooLarge, "RequestEntityTooLarge"},
	fault.Unavailable:          {http.StatusServiceUnavailable, "ServiceUnavailable"},
}

// statusOf is the one table of kinds. Some rules have a status of their own.
func statusOf(err error) (status int, code string) {
	switch fault.RuleOf(err) {
	case wire.RuleMethodNotAllowed:
		return http.StatusMethodNotAllowed, "MethodNotAllowed"
	case wire.RuleMediaType:
		return http.StatusUnsupportedMediaType, "UnsupportedMediaType"
	}
	kind := kinds[fault.KindOf(err)]
	return kind.status, kind.code
}

// errorBody is the shape that clients of the resource manager read (§5).
type errorBody struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// fail answers an error.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	status, code := statusOf(err)
	var body errorBody
	body.Error.Code = code
	header := w.Header()
	switch status {
	case http.StatusUnauthorized:
		// Whatever the reason was, the same.
		header.Set("WWW-Authenticate", `Bearer realm="muster"`)
		body.Error.Message = "Sign in with a token of this server: Authorization: Bearer mst_…"
	case http.StatusInternalServerError:
		body.Error.Message = "Something went wrong here; the log has it under the request id."
	default:
		body.Error.Message = fault.As(err).Detail
	}
	if status == http.StatusRequestEntityTooLarge {
		header.Set("Connection", "close") // the rest of the body is not waited for
	}
	wire.Advise(header, status, err)
	header.Set("Content-Type", wire.MediaTypeJSON+"; charset=utf-8")
	header.Set("x-ms-request-id", wire.TraceID(r))
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // of two texts: it always encodes
}

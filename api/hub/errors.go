package hub

import (
	"encoding/json"
	"net/http"

	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
)

// ruleNoHub is the rule of a request for which there is no hub.
const ruleNoHub = "hub-not-found"

// answer is how a fault is told: the HTTP status, and the word clients go by (§8).
type answer struct {
	status int
	word   string
}

// answerOf is the one table of kinds for this plane.
func answerOf(err error) answer {
	switch fault.RuleOf(err) {
	case ruleNoHub:
		return answer{http.StatusNotFound, "IotHubNotFound"}
	case wire.RuleNoRoute:
		return answer{http.StatusNotFound, "ResourceNotFound"}
	case wire.RuleMethodNotAllowed:
		return answer{http.StatusMethodNotAllowed, "MethodNotAllowed"}
	case wire.RuleMediaType:
		return answer{http.StatusUnsupportedMediaType, "UnsupportedMediaType"}
	}
	switch fault.KindOf(err) {
	case fault.Malformed, fault.Disallowed:
		return answer{http.StatusBadRequest, "ArgumentInvalid"}
	case fault.Unauthenticated, fault.Forbidden:
		return answer{http.StatusUnauthorized, "IotHubUnauthorizedAccess"}
	case fault.NotFound:
		return answer{http.StatusNotFound, "DeviceNotFound"}
	case fault.Conflict, fault.PreconditionRequired: // a PUT without If-Match over a device
		return answer{http.StatusConflict, "DeviceAlreadyExists"}
	case fault.PreconditionFailed:
		return answer{http.StatusPreconditionFailed, "PreconditionFailed"}
	case fault.TooLarge:
		return answer{http.StatusRequestEntityTooLarge, "MessageTooLarge"}
	case fault.Throttled:
		return answer{http.StatusTooManyRequests, "ThrottlingException"}
	case fault.Unavailable:
		return answer{http.StatusServiceUnavailable, "ServiceUnavailable"}
	}
	return answer{http.StatusInternalServerError, "ServerError"}
}

type errorBody struct {
	Message          string
	ExceptionMessage string
}

// fail answers an error. Clients cut the message at its first semicolon and colons (§8).
func fail(w http.ResponseWriter, r *http.Request, err error) {
	a := answerOf(err)
	text, failed := json.Marshal(errorBody{Message: "ErrorCode:" + a.word + ";" + azure.MessageOf(err), ExceptionMessage: "Tracking ID:" + wire.TraceID(r)})
	if failed != nil {
		panic("internal error: an error body does not encode: " + failed.Error())
	}
	header := w.Header()
	header.Set("Content-Type", wire.MediaTypeJSON+"; charset=utf-8")
	header.Set("iothub-errorcode", a.word)
	header.Set("x-ms-request-id", wire.TraceID(r))
	wire.Advise(header, a.status, err)
	if a.status == http.StatusRequestEntityTooLarge {
		header.Set("Connection", "close") // the rest of the body is not waited for
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(text) // a client that has gone is nobody's error
}

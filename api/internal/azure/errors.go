package azure

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
)

// RuleToken is the rule of a request to the service plane without a token that can be read
// (§1.1): Unauthenticated, like every other refusal of a token.
const RuleToken = "token-missing"

// CodeOf is the error code of a fault (§1.1): its first three digits are the HTTP status.
// It is the one table of kinds for the device and service planes; some rules have a code of
// their own.
func CodeOf(err error) int {
	switch fault.RuleOf(err) {
	case RuleToken:
		return 401000
	case wire.RuleIDScope:
		return 404001
	case "enrollment-not-found":
		return 404201
	case wire.RuleNoRoute:
		return 404000
	case wire.RuleMethodNotAllowed:
		return 405000
	case wire.RuleMediaType:
		return 415000
	}
	switch fault.KindOf(err) {
	case fault.Malformed:
		return 400000
	case fault.Disallowed:
		return 400000 // the device has proved itself: what it asks for was withdrawn
	case fault.Unauthenticated, fault.Forbidden:
		return 401002
	case fault.NotFound:
		return 404202
	case fault.Conflict, fault.PreconditionRequired: // a PUT without If-Match over something (§4.3)
		return 409201
	case fault.PreconditionFailed:
		return 412202
	case fault.TooLarge:
		return 413000
	case fault.Throttled:
		return 429001
	case fault.Unavailable:
		return 503000
	}
	return 500000
}

// errorBody is the shape of an error (§1.1).
type errorBody struct {
	Code       int    `json:"errorCode"`
	TrackingID string `json:"trackingId"`
	Message    string `json:"message"`
	Timestamp  string `json:"timestampUtc"`
}

// challengeBody is what a device with a TPM is asked by (§2.4): clients know it by its shape.
type challengeBody struct {
	Message string `json:"message"`
	KeyName string `json:"keyName"`
	Key     []byte `json:"authenticationKey"`
	// KeyChallenge is ours, for a device that sent an attestation key.
	KeyChallenge []byte `json:"attestationChallenge,omitempty"`
}

// Error is the body of an error and its HTTP status.
func Error(err error, trackingID string, now time.Time) (status int, body []byte) {
	code := CodeOf(err)
	status = code / 1000
	var shape any = errorBody{Code: code, TrackingID: trackingID, Message: MessageOf(err), Timestamp: Stamp(now)}
	if f := fault.As(err); f != nil && f.Challenge != nil {
		shape = challengeBody{"Authorization required", "registration", f.Challenge, f.KeyChallenge}
	}
	body, failed := json.Marshal(shape)
	if failed != nil {
		panic("internal error: an error body does not encode: " + failed.Error())
	}
	return status, body
}

// Fail answers an error over HTTP.
func Fail(now func() time.Time) wire.Fail {
	return func(w http.ResponseWriter, r *http.Request, err error) {
		status, body := Error(err, wire.TraceID(r), now())
		header := w.Header()
		header.Set("Content-Type", wire.MediaTypeJSON+"; charset=utf-8")
		header.Set("x-ms-error-code", strconv.Itoa(CodeOf(err)))
		header.Set("x-ms-request-id", wire.TraceID(r))
		wire.Advise(header, status, err)
		if status == http.StatusRequestEntityTooLarge {
			header.Set("Connection", "close") // the rest of the body is not waited for
		}
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}
}

// MessageOf is what the caller is told: of a failed authentication nothing at all, whatever
// the reason was, and of a failure of ours nothing but that it is ours. Who was let in and
// lacks a right is told which.
func MessageOf(err error) string {
	switch fault.KindOf(err) {
	case fault.Unauthenticated:
		return "Unauthorized"
	case fault.Internal:
		return "Internal error"
	}
	return fault.As(err).Detail
}

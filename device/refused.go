package device

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Refused is the server's no: an answer that came, was understood, and is not what
// was asked for.
type Refused struct {
	// HTTPStatus of the answer. It is 200 when the device was recognised but its
	// registration ended as failed; then ErrorCode tells more.
	HTTPStatus int
	// ErrorCode is the service's number, whose first three digits repeat or refine
	// the status (DPS contract section 1.1); 0 if none was given.
	ErrorCode int
	// Message is one printable line.
	Message string
	// RetryAfter is the server's wish, 0 if it named none.
	RetryAfter time.Duration
	TrackingID string
}

func (r *Refused) Error() string {
	s := "refused with status " + strconv.Itoa(r.HTTPStatus)
	if r.ErrorCode != 0 {
		s += fmt.Sprintf(" (code %d)", r.ErrorCode)
	}
	if r.Message != "" {
		s += ": " + r.Message
	}
	return s
}

// Unreachable means that no whole answer came: name not found, no connection, a
// server certificate that Config.CA does not vouch for, or a cut in the middle.
type Unreachable struct{ Err error }

func (u *Unreachable) Error() string { return "no answer from the server: " + u.Err.Error() }

// Unwrap returns what the network said.
func (u *Unreachable) Unwrap() error { return u.Err }

// ErrBadAnswer means that the server said yes in a form its protocol does not have.
var ErrBadAnswer = errors.New("the server's answer breaks the protocol")

// IsRefused reports whether err is a Refused of that HTTP status.
func IsRefused(err error, status int) bool {
	var r *Refused
	return errors.As(err, &r) && r.HTTPStatus == status
}

// IsTemporary reports whether the same request may succeed later without anybody
// changing anything: throttled, a failing server, or no answer at all.
func IsTemporary(err error) bool {
	if r, ok := errors.AsType[*Refused](err); ok {
		status := r.HTTPStatus
		if status == http.StatusOK {
			status = r.ErrorCode / 1000
		}
		return status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status >= 500
	}
	_, ok := errors.AsType[*Unreachable](err)
	return ok
}

// refusal reads an error answer: the JSON of DPS, or text as EST sends it.
func refusal(a answer) *Refused {
	r := &Refused{HTTPStatus: a.status, RetryAfter: retryAfter(a.header)}
	var body struct {
		ErrorCode  int    `json:"errorCode"`
		Message    string `json:"message"`
		TrackingID string `json:"trackingId"`
	}
	if json.Unmarshal(a.body, &body) == nil {
		r.ErrorCode, r.Message, r.TrackingID = body.ErrorCode, oneLine(body.Message), oneLine(body.TrackingID)
	} else if strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
		r.Message = oneLine(string(a.body))
	}
	if r.Message == "" {
		r.Message = http.StatusText(a.status)
	}
	return r
}

// oneLine makes a server's text fit for a terminal and a log: printable, one line,
// at most 300 characters.
func oneLine(text string) string {
	var b strings.Builder
	n := 0
	for _, r := range strings.Join(strings.Fields(text), " ") {
		if n == 300 {
			break
		}
		if !unicode.IsPrint(r) {
			r = '?'
		}
		b.WriteRune(r)
		n++
	}
	return b.String()
}

// maxRetryAfter keeps a mistaken header from putting a device to sleep for years.
const maxRetryAfter = 24 * time.Hour

// retryAfter reads the header (RFC 9110 section 10.2.3): whole seconds, or a date,
// counted from the answer's own Date so that the device's clock does not matter.
// It is 0 if absent or unreadable.
func retryAfter(h http.Header) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	seconds, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		at, err := http.ParseTime(text)
		date, derr := http.ParseTime(h.Get("Date"))
		if err != nil || derr != nil || !at.After(date) {
			return 0
		}
		seconds = uint64(at.Sub(date) / time.Second)
	}
	return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
}

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/passmuster/muster/internal/fault"
)

// apiError is what the API refused, said in one sentence with its rule and the next
// command. Its fault's kind picks the exit code.
type apiError struct {
	fault   *fault.Error
	next    string
	problem json.RawMessage // with --verbose
}

func (e *apiError) Error() string {
	f := e.fault
	var b strings.Builder
	if f.Object != "" {
		b.WriteString(f.Object + ": ")
	}
	b.WriteString(f.Detail)
	if f.Rule != "" {
		b.WriteString(" (rule " + f.Rule + ")")
	}
	for _, field := range f.Fields {
		b.WriteString("\n  " + field.Pointer + ": " + field.Detail)
	}
	if e.next != "" {
		b.WriteString("\n  next: " + e.next)
	}
	if e.problem != nil {
		b.WriteString("\n" + string(e.problem))
	}
	return b.String()
}

// Unwrap gives the fault, which report maps to an exit code.
func (e *apiError) Unwrap() error { return e.fault }

// problemDocument is what of RFC 9457 is read.
type problemDocument struct {
	Title     string
	Detail    string
	Errors    []struct{ Pointer, Location, Detail string }
	RefusedBy struct{ Rule, Object string }
}

// kindOfStatus is the API's table of kinds, read backwards. A Disallowed is a 403 too
// and is told by its title.
func kindOfStatus(status int, title string) fault.Kind {
	switch status {
	case http.StatusBadRequest, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return fault.Malformed
	case http.StatusUnauthorized:
		return fault.Unauthenticated
	case http.StatusForbidden:
		if title == "Disallowed" {
			return fault.Disallowed
		}
		return fault.Forbidden
	case http.StatusNotFound:
		return fault.NotFound
	case http.StatusConflict:
		return fault.Conflict
	case http.StatusPreconditionFailed:
		return fault.PreconditionFailed
	case http.StatusPreconditionRequired:
		return fault.PreconditionRequired
	case http.StatusTooManyRequests:
		return fault.Throttled
	case http.StatusRequestEntityTooLarge:
		return fault.TooLarge
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return fault.Unavailable
	}
	return fault.Internal
}

// nextFor is the command that usually helps.
func nextFor(kind fault.Kind) string {
	switch kind {
	case fault.Unauthenticated:
		return "set " + tokenEnv + " or --token-file; a development server leaves both in its dev.env"
	case fault.Forbidden:
		return "use a token with that right"
	case fault.PreconditionFailed:
		return "look at it again, then repeat the command"
	case fault.Throttled, fault.Unavailable:
		return "muster status"
	}
	return ""
}

// refused makes an error of an answer that is no success.
func (c *client) refused(status int, body []byte, next string) error {
	var p problemDocument
	if err := json.Unmarshal(body, &p); err != nil || p.Title == "" {
		return &apiError{
			fault: fault.New(kindOfStatus(status, ""), "", "the server at %s answered %d, and not as Muster's API does", c.base, status),
			next:  "does --admin-url name the admin listener?",
		}
	}
	f := &fault.Error{Kind: kindOfStatus(status, p.Title), Rule: p.RefusedBy.Rule, Object: p.RefusedBy.Object, Detail: p.Detail}
	if f.Detail == "" {
		f.Detail = p.Title
	}
	for _, e := range p.Errors {
		// A fault about one value says the same sentence twice.
		if at := e.Pointer + e.Location; e.Detail != p.Detail || len(p.Errors) > 1 {
			f.Fields = append(f.Fields, fault.Field{Pointer: at, Detail: e.Detail})
		} else if at != "" {
			f.Detail = fmt.Sprintf("%s: %s", at, p.Detail)
		}
	}
	out := &apiError{fault: f, next: next}
	if usual := nextFor(f.Kind); usual != "" || f.Kind != fault.NotFound {
		out.next = usual
	}
	if c.verbose {
		var pretty bytes.Buffer
		if json.Indent(&pretty, body, "", "  ") == nil {
			out.problem = pretty.Bytes()
		}
	}
	return out
}

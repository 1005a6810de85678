// Package fault is the one error vocabulary of Muster: a kind that every door
// maps to its own protocol in one table, a stable reason word, and a detail that
// is safe to show. Errors that are not faults are internal: logged, never shown.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what sort of answer an error deserves. Doors map kinds, never texts.
type Kind uint8

// The kinds. Internal is the zero value: an error nobody classified.
const (
	Internal Kind = iota
	Malformed
	Unauthenticated
	Forbidden // an authenticated operator lacks the right
	Disallowed
	NotFound
	Conflict
	PreconditionFailed
	PreconditionRequired
	Throttled
	TooLarge
	Unavailable
)

var names = [...]string{
	"internal", "malformed", "unauthenticated", "forbidden", "disallowed", "not-found", "conflict",
	"precondition-failed", "precondition-required", "throttled", "too-large", "unavailable",
}

func (k Kind) String() string {
	if int(k) < len(names) {
		return names[k]
	}
	return "internal"
}

// Error is a classified failure. Rule is a stable word of the form
// "enrollment-disabled"; Object names what the rule was about ("group line-3");
// Detail is one sentence that may be shown to the caller. What a device is told
// before it is authenticated is decided at the door, not here (it is always the same).
type Error struct {
	Kind   Kind
	Rule   string
	Object string
	Detail string
	Fields []Field
	// RetryAfter is how long the caller should wait at least before it asks again; 0 says
	// nothing. Doors add the jitter (INV-R4).
	RetryAfter time.Duration
	// Pending says of something Unavailable that it was accepted and is under way: the
	// same request, asked again later, is answered.
	Pending bool
	// Challenge is what the caller has to answer to be let in; doors hand it over.
	Challenge []byte
	// KeyChallenge is what shows where the caller's key is, if it answers that as well.
	KeyChallenge []byte
	cause        error
}

// Field names one bad input value by JSON pointer ("/attestation/x509").
type Field struct{ Pointer, Detail string }

func (e *Error) Error() string {
	s := e.Detail
	if s == "" {
		s = e.Rule
	}
	if s == "" {
		s = e.Kind.String()
	}
	if e.Object != "" {
		s = e.Object + ": " + s
	}
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Unwrap returns the cause, which is for the log only.
func (e *Error) Unwrap() error { return e.cause }

// New makes a fault of a kind with its rule word and a sentence.
func New(kind Kind, rule, format string, args ...any) *Error {
	detail := format
	if len(args) > 0 {
		detail = fmt.Sprintf(format, args...)
	}
	return &Error{Kind: kind, Rule: rule, Detail: detail}
}

// About returns a copy that names the object the rule was about.
func (e *Error) About(object string) *Error {
	c := *e
	c.Object = object
	return &c
}

// Because returns a copy that carries a cause for the log.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

// Later returns a copy that advises when to ask again.
func (e *Error) Later(wait time.Duration) *Error {
	c := *e
	c.RetryAfter = wait
	return &c
}

// Accepted returns a copy that is Pending.
func (e *Error) Accepted() *Error {
	c := *e
	c.Pending = true
	return &c
}

// Asking returns a copy with a challenge.
func (e *Error) Asking(challenge []byte) *Error {
	c := *e
	c.Challenge = challenge
	return &c
}

// AskingForKey returns a copy with a challenge about the caller's key beside the other.
func (e *Error) AskingForKey(challenge []byte) *Error {
	c := *e
	c.KeyChallenge = challenge
	return &c
}

// At returns a copy with a field pointer.
func (e *Error) At(pointer string) *Error {
	c := *e
	c.Fields = append(append([]Field(nil), e.Fields...), Field{Pointer: pointer, Detail: e.Detail})
	return &c
}

// KindOf is the kind of the first fault in err's tree; Internal when there is none.
func KindOf(err error) Kind {
	if f := As(err); f != nil {
		return f.Kind
	}
	return Internal
}

// As returns the first fault in err's tree, or nil.
func As(err error) *Error {
	var f *Error
	if errors.As(err, &f) {
		return f
	}
	return nil
}

// Is reports whether err is a fault of the kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }

// RuleOf is the rule word of err's fault, or "".
func RuleOf(err error) string {
	if f := As(err); f != nil {
		return f.Rule
	}
	return ""
}

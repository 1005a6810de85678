package store

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/passmuster/muster/verify"
)

// row reads the values of one row in the order of its columns. The first value that is
// not what its column says is kept in err: the scan goes on and its result is dropped.
type row struct {
	values []any
	next   int
	err    error
}

func (r *row) take() any {
	v := r.values[r.next]
	r.next++
	return v
}

func (r *row) spoilt(what string, v any) {
	if r.err == nil {
		r.err = fmt.Errorf("internal error: value %d of a row is a %T, not %s", r.next, v, what)
	}
}

func (r *row) int() int64 {
	switch v := r.take().(type) {
	case int64:
		return v
	case nil:
		return 0
	default:
		r.spoilt("an integer", v)
		return 0
	}
}

func (r *row) bool() bool { return r.int() != 0 }

// time reads microseconds; 0 is the zero time.
func (r *row) time() time.Time {
	return fromMicros(r.int())
}

func fromMicros(us int64) time.Time {
	if us != 0 {
		return time.UnixMicro(us).UTC()
	}
	return time.Time{}
}

func (r *row) text() string {
	switch v := r.take().(type) {
	case string:
		return v
	case nil:
		return ""
	default:
		r.spoilt("text", v)
		return ""
	}
}

// blob reads bytes; none are nil.
func (r *row) blob() []byte {
	switch v := r.take().(type) {
	case []byte:
		if len(v) == 0 {
			return nil
		}
		return v
	case nil:
		return nil
	default:
		r.spoilt("bytes", v)
		return nil
	}
}

// hash reads a SHA-256; an empty one is zero.
func (r *row) hash() (h [32]byte) {
	switch b := r.blob(); len(b) {
	case 0:
	case len(h):
		copy(h[:], b)
	default:
		r.spoilt("a SHA-256", b)
	}
	return h
}

func (r *row) hex() string { return hex.EncodeToString(r.blob()) }

// id reads a registration or group id, canonical as it was written.
func (r *row) id() verify.RegistrationID {
	s := r.text()
	if s == "" {
		return verify.RegistrationID{}
	}
	id, err := verify.ParseRegistrationID(s)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("id on record: %w", err)
	}
	return id
}

// list reads what lines wrote.
func (r *row) list() []string {
	s := strings.Trim(r.text(), "\n")
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// lines stores a list of names so that "\nname\n" is found in it; no name holds a line break.
func lines(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "\n" + strings.Join(names, "\n") + "\n"
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// octets is a value of a NOT NULL column: nothing is no bytes, not NULL.
func octets(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// orNull is a value of a column that may be NULL.
func orNull(b []byte) any {
	if len(b) == 0 {
		return nil
	}
	return b
}

// digest stores a SHA-256; a zero one is no bytes.
func digest(h [32]byte) []byte {
	if h == [32]byte{} {
		return []byte{}
	}
	return h[:]
}

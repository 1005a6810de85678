package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
)

// Bounds of a request's body (INV-R1).
const (
	maxBody  = 1 << 20
	maxDepth = 32
)

// readBody reads the body of an operation that has one, and lets it on only as sound
// JSON. Anything an operation does not ask for is left alone.
func (d *door) readBody(ctx huma.Context, next func(huma.Context)) {
	if ctx.Operation().RequestBody == nil {
		next(ctx)
		return
	}
	r := humagin.Unwrap(ctx).Request
	body, err := wire.ReadBody(r, maxBody, mediaType(r))
	if err == nil && body != nil {
		err = checkJSON(body)
	}
	if err != nil {
		d.refuse(ctx, err)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	next(ctx)
}

// mediaType is what the body must be: JSON, which a request without a word about it is
// taken for, or of a PATCH also a merge patch.
func mediaType(r *http.Request) string {
	const mergePatch = "application/merge-patch+json"
	if r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", wire.MediaTypeJSON)
	}
	sent, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")) // ReadBody looks again
	if r.Method == http.MethodPatch && sent == mergePatch {
		return mergePatch
	}
	return wire.MediaTypeJSON
}

// checkJSON admits exactly one JSON value, in UTF-8 (RFC 8259 §8.1), nested at most
// maxDepth deep, in which no object has a name twice: of such two, readers differ
// which one counts.
func checkJSON(body []byte) error {
	if !utf8.Valid(body) || !json.Valid(body) {
		return fault.New(fault.Malformed, "json", "the body is not one JSON value")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var open []*object
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fault.New(fault.Malformed, "json", "the body is not one JSON value").Because(err)
		}
		if delim, ok := token.(json.Delim); ok && (delim == '}' || delim == ']') {
			open = open[:len(open)-1]
			continue
		}
		if n := len(open); n > 0 && !open[n-1].next(token) {
			return fault.New(fault.Malformed, "json-name-twice", "an object in the body has the same name twice")
		}
		if delim, ok := token.(json.Delim); ok {
			if len(open) == maxDepth {
				return fault.New(fault.Malformed, "json-depth", "the body is nested more than 32 deep")
			}
			open = append(open, newObject(delim))
		}
	}
}

// object is an object or array being read: names is nil for an array.
type object struct {
	names map[string]bool
	value bool // a name has been read, its value comes next
}

func newObject(d json.Delim) *object {
	if d == '{' {
		return &object{names: map[string]bool{}}
	}
	return &object{}
}

// next takes the next token of the object itself; false for a name it already has.
func (o *object) next(token json.Token) bool {
	if o.names == nil {
		return true
	}
	if o.value = !o.value; !o.value {
		return true
	}
	name, _ := token.(string)
	if o.names[name] {
		return false
	}
	o.names[name] = true
	return true
}

package provisioning

import (
	"encoding/base64"

	"github.com/passmuster/muster/internal/fault"
)

// cursorTag is how much of the MAC a cursor carries: 128 bits.
const cursorTag = 16

// Cursor writes where a page of a list ended, for a caller to bring back. It is good for
// that list of this id scope alone, and after a restart as well. Nothing in it is secret.
func (e *Engine) Cursor(list, last string) string {
	tag := e.box.MAC(e.cursors(list), last)
	return base64.RawURLEncoding.EncodeToString(append(tag[:cursorTag], last...))
}

func (e *Engine) cursors(list string) string { return "cursor|" + e.idScope + "|" + list }

// AfterCursor reads what Cursor wrote for the same list: the last key of that page.
// Anything else is Malformed, rule "continuation".
func (e *Engine) AfterCursor(list, cursor string) (last string, err error) {
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil && len(text) > cursorTag {
		last = string(text[cursorTag:])
		// A decoder takes more than one spelling of the same bytes: only ours is a cursor.
		if base64.RawURLEncoding.EncodeToString(text) == cursor && e.box.CheckMAC(e.cursors(list), last, text[:cursorTag]) {
			return last, nil
		}
	}
	return "", fault.New(fault.Malformed, "continuation", "this is no continuation of this query: begin again without one")
}

package wire

import (
	"encoding/json"
	"errors"

	"github.com/passmuster/muster/internal/fault"
)

// MediaTypeJSON is the media type of JSON bodies.
const MediaTypeJSON = "application/json"

// maxDepth bounds how deep JSON may be nested (INV-R1).
const maxDepth = 32

// DecodeJSON reads one JSON value; unknown fields are passed over (protocols/dps.md
// §1). Errors are Malformed: "json-depth", "json-type" with the field, "json".
func DecodeJSON(body []byte, into any) error {
	if depth(body) > maxDepth {
		return fault.New(fault.Malformed, "json-depth", "The JSON is nested deeper than %d levels.", maxDepth)
	}
	err := json.Unmarshal(body, into)
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrong) && wrong.Field != "":
		return fault.New(fault.Malformed, "json-type", "The field %s has the wrong type.", wrong.Field).Because(err)
	}
	return fault.New(fault.Malformed, "json", "The body is not the JSON object expected.").Because(err)
}

// Given tells a field that is there from one that is absent or null.
func Given(field json.RawMessage) bool { return len(field) > 0 && string(field) != "null" }

// depth is how deep a text is nested, if it is JSON; of other text it is some number.
func depth(text []byte) int {
	deepest, now, quoted := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch b := text[i]; {
		case quoted && b == '\\':
			i++
		case b == '"':
			quoted = !quoted
		case quoted:
		case b == '{' || b == '[':
			now++
			deepest = max(deepest, now)
		case b == '}' || b == ']':
			now--
		}
	}
	return deepest
}

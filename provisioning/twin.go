package provisioning

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// maxDesired is the most an initial twin's desired properties may take (scenarios F6).
const maxDesired = 8 << 10

var emptyObject = []byte("{}")

// twinShape is an initial twin as it is written (contract §4.1).
type twinShape struct {
	Tags       json.RawMessage
	Properties struct{ Desired json.RawMessage }
}

// initialTwin is the twin a device starts with. The JSON was checked when the entry was
// written, or the webhook answered.
func initialTwin(raw []byte, now time.Time) *Twin {
	shape := twinShape{}
	_ = json.Unmarshal(raw, &shape) // nil or checked: both leave a usable shape
	t := &Twin{Tags: emptyObject, Desired: emptyObject, Updated: now}
	if given(shape.Tags) {
		t.Tags = shape.Tags
	}
	if given(shape.Properties.Desired) {
		t.Desired = shape.Properties.Desired
	}
	return t
}

func given(part json.RawMessage) bool { return len(part) > 0 && !bytes.Equal(part, []byte("null")) }

// CheckTwin refuses what could not become a device's twin: tags and desired must be
// objects, no key may begin with "$" (metadata that C# sends back is dropped by the
// door) or hold a dot, space or control character, and both have a size.
func CheckTwin(raw []byte) error {
	if len(raw) == 0 {
		return nil
	}
	bad := func(detail string) error {
		return fault.New(fault.Malformed, "initial-twin", "%s", detail).At("/initialTwin")
	}
	var shape twinShape
	if err := json.Unmarshal(raw, &shape); err != nil {
		return bad("the initial twin is not a JSON object with tags and properties.desired")
	}
	if len(shape.Properties.Desired) > maxDesired {
		return bad("the desired properties are larger than 8 KB")
	}
	if len(shape.Tags) > maxTwinTags {
		return bad("the tags are larger than 8 KB")
	}
	for _, part := range [][]byte{shape.Tags, shape.Properties.Desired} {
		if !given(part) {
			continue
		}
		var object map[string]any
		if err := json.Unmarshal(part, &object); err != nil {
			return bad("tags and desired properties must be JSON objects")
		}
		if key := badKey(object); key != "" {
			return bad("a property may not be named " + strings.ToValidUTF8(key, "?"))
		}
	}
	return nil
}

func badKey(object map[string]any) string {
	for key, value := range object {
		if key == "" {
			return `""`
		}
		if key[0] == '$' || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r == '.' || r == 0x7f }) {
			return key
		}
		if inner, ok := value.(map[string]any); ok {
			if k := badKey(inner); k != "" {
				return k
			}
		}
	}
	return ""
}

package query

import (
	"encoding/json"
	"strings"
)

// condition is what a WHERE says of an item's JSON.
type condition interface {
	holds(item map[string]any) bool
}

// all holds when each of its parts does, one when at least one of them does.
type (
	all []condition
	one []condition
)

func (c all) holds(item map[string]any) bool {
	for _, part := range c {
		if !part.holds(item) {
			return false
		}
	}
	return true
}

func (c one) holds(item map[string]any) bool {
	for _, part := range c {
		if part.holds(item) {
			return true
		}
	}
	return false
}

// comparison holds when a field has one of the values, or with unequal none of them. Of a
// field that is not there nothing holds, as in SQL.
type comparison struct {
	field   []string // names from the top
	unequal bool
	values  []any // string, float64, bool
}

func (c comparison) holds(item map[string]any) bool {
	var v any = item
	for _, name := range c.field {
		object, _ := v.(map[string]any)
		next, there := object[name]
		if !there {
			return false
		}
		v = next
	}
	return c.has(v) != c.unequal
}

func (c comparison) has(v any) bool {
	if n, is := v.(json.Number); is {
		f, err := n.Float64()
		if err != nil {
			return false // beyond what a query can name
		}
		v = f
	}
	for _, want := range c.values {
		a, text := v.(string)
		b, texts := want.(string)
		switch {
		case text && texts && c.isID() && strings.EqualFold(a, b):
			return true
		case !isTree(v) && v == want:
			return true
		}
	}
	return false
}

// isID says whether the field is an id: those are compared without regard to case (INV-P3).
func (c comparison) isID() bool {
	switch strings.Join(c.field, ".") {
	case "registrationId", "enrollmentGroupId", "deviceId":
		return true
	}
	return false
}

// isTree says whether a value is no plain one: those cannot be compared.
func isTree(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}

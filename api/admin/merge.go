package admin

import (
	"bytes"
	"encoding/json"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

// mergePatch is the body of a PATCH (RFC 7396): members replace, null removes.
type mergePatch struct{ text json.RawMessage }

// UnmarshalJSON keeps the text, so that numbers stay as they were written.
func (p *mergePatch) UnmarshalJSON(text []byte) error {
	p.text = bytes.Clone(text)
	return nil
}

// Schema is any object: the resource's schema is held against the outcome.
func (mergePatch) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true, Description: "A merge patch (RFC 7396) over what GET answers."}
}

// patched is the resource that comes of applying a patch to what GET answers. It is
// held against the resource's schema like the body of a PUT.
func patched[T any](d *door, current T, p mergePatch) (T, error) {
	var next T
	text, err := json.Marshal(current)
	if err != nil {
		return next, err
	}
	target, err := exactly(text)
	if err != nil {
		return next, err
	}
	patch, err := exactly(p.text)
	if err != nil {
		return next, err
	}
	if text, err = json.Marshal(merge(target, patch)); err != nil {
		return next, err
	}
	var plain any
	if err := json.Unmarshal(text, &plain); err != nil {
		return next, fault.New(fault.Malformed, "schema", "the patched resource has a number that is too large").Because(err)
	}
	registry := d.api.OpenAPI().Components.Schemas
	path, result := huma.NewPathBuffer(nil, 0), &huma.ValidateResult{}
	path.Push("body")
	huma.Validate(registry, registry.Schema(reflect.TypeFor[T](), true, ""), path, huma.ModeWriteToServer, plain, result)
	if len(result.Errors) > 0 {
		return next, badInput(modelOf(result.Errors))
	}
	if err := json.Unmarshal(text, &next); err != nil {
		return next, fault.New(fault.Malformed, "schema", "the patched resource does not fit its schema").Because(err)
	}
	return next, nil
}

// exactly decodes JSON without rounding its numbers.
func exactly(text []byte) (v any, err error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	err = decoder.Decode(&v)
	return v, err
}

func modelOf(errs []error) *huma.ErrorModel {
	m := &huma.ErrorModel{}
	for _, err := range errs {
		m.Add(err)
	}
	return m
}

// merge is MergePatch of RFC 7396 §2.
func merge(target, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, ok := target.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	for name, value := range changes {
		if value == nil {
			delete(object, name)
		} else {
			object[name] = merge(object[name], value)
		}
	}
	return object
}

// over is the precondition of writing back what was read at a version: the caller
// must have named that version, or any.
func over(p provisioning.Precondition, read int64) (provisioning.Precondition, error) {
	switch {
	case p.Absent || p.Version != 0 && p.Version != read:
		return p, fault.New(fault.PreconditionFailed, "etag-mismatch", "it was changed meanwhile: read it again")
	case p.Version == 0 && !p.Any:
		return p, fault.New(fault.PreconditionRequired, "if-match-required", "a PATCH needs If-Match: say which version you mean")
	}
	return provisioning.Precondition{Version: read}, nil
}

package azure

import (
	"encoding/json"
	"strings"
)

// TwinWithoutMetadata is an initial twin without what clients add to it of their own: in C#
// tags and desired properties are TwinCollections, which send $version, $metadata and the like
// back (§4.1), and its older shape is version, count and metadata beside the properties. The
// latter are dropped only where all three stand together: each alone may be somebody's own.
// What is no twin is returned as it is, for the engine to refuse.
func TwinWithoutMetadata(raw json.RawMessage) json.RawMessage {
	raw = given(raw)
	var twin, properties map[string]json.RawMessage
	if json.Unmarshal(raw, &twin) != nil || twin == nil {
		return raw
	}
	if tags, ok := twin["tags"]; ok {
		twin["tags"] = collection(tags)
	}
	if json.Unmarshal(twin["properties"], &properties) == nil && properties != nil {
		if desired, ok := properties["desired"]; ok {
			properties["desired"] = collection(desired)
		}
		twin["properties"] = encoded(properties)
	}
	return encoded(twin)
}

func collection(raw json.RawMessage) json.RawMessage {
	var c map[string]json.RawMessage
	if json.Unmarshal(raw, &c) != nil || c == nil {
		return raw
	}
	var version, count *int64
	var metadata map[string]any
	counted := json.Unmarshal(c["version"], &version) == nil && version != nil &&
		json.Unmarshal(c["count"], &count) == nil && count != nil &&
		json.Unmarshal(c["metadata"], &metadata) == nil && metadata != nil
	for name := range c {
		if strings.HasPrefix(name, "$") || counted && (name == "version" || name == "count" || name == "metadata") {
			delete(c, name)
		}
	}
	return encoded(c)
}

// encoded is JSON made of JSON.
func encoded(object map[string]json.RawMessage) json.RawMessage {
	text, err := json.Marshal(object)
	if err != nil {
		panic("internal error: JSON of JSON does not encode: " + err.Error())
	}
	return text
}

package azure

import (
	"strconv"
	"strings"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

// never is a version that no record has: an ETag that is not ours matches nothing.
const never = -1

// ParseIfMatch reads an ETag as clients send it (§4.3): quoted or bare, with or without the
// mark of weakness, "*" in quotes as well; "" is no condition, and an empty ETag in quotes
// one that nothing meets. A list of several is Malformed, rule "if-match": a caller has read
// one version.
func ParseIfMatch(header string) (provisioning.Precondition, error) {
	switch tag := BareETag(header); {
	case strings.TrimSpace(header) == "":
		return provisioning.Precondition{}, nil
	case tag == "*":
		return provisioning.Precondition{Any: true}, nil
	case strings.Contains(tag, ","):
		return provisioning.Precondition{}, fault.New(fault.Malformed, "if-match", "If-Match names one ETag, or *")
	default:
		v, err := strconv.ParseInt(tag, 10, 64)
		if err != nil || v < 1 {
			v = never
		}
		return provisioning.Precondition{Version: v}, nil
	}
}

// BareETag is an entity tag without its quotes and mark of weakness.
func BareETag(tag string) string {
	tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
	if len(tag) >= 2 && tag[0] == '"' && tag[len(tag)-1] == '"' {
		tag = tag[1 : len(tag)-1]
	}
	return tag
}

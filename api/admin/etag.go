package admin

import (
	"strconv"
	"strings"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

// Conditions are the headers that make a write conditional (RFC 9110 §13.1).
type Conditions struct {
	IfMatch     string `header:"If-Match" doc:"The ETag of the version to be changed, or *. Needed over something that exists."`
	IfNoneMatch string `header:"If-None-Match" doc:"Only *: write only if nothing of that name exists."`
}

// never is a version that no record has: an ETag that is not ours matches nothing.
const never = -1

// precondition reads both headers. A list of several ETags is Malformed: a caller has
// read one version.
func (c Conditions) precondition() (provisioning.Precondition, error) {
	var p provisioning.Precondition
	switch tag := bare(c.IfMatch); {
	case tag == "":
	case tag == "*":
		p.Any = true
	case strings.Contains(tag, ","):
		return p, fault.New(fault.Malformed, "if-match", "If-Match names one ETag, or *")
	default:
		v, err := strconv.ParseInt(tag, 10, 64)
		if err != nil || v < 1 {
			v = never
		}
		p.Version = v
	}
	switch bare(c.IfNoneMatch) {
	case "":
	case "*":
		p.Absent = true
	default:
		return p, fault.New(fault.Malformed, "if-none-match", "If-None-Match takes only *")
	}
	return p, nil
}

// creates says what a write under p does when it succeeds: a write over something
// that exists would have needed a version.
func creates(p provisioning.Precondition) bool { return p.Version == 0 && !p.Any }

// bare is an entity tag without its quotes and mark of weakness, as clients of the
// DPS service API send it with either (contract §4.3).
func bare(tag string) string {
	tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
	if len(tag) >= 2 && tag[0] == '"' && tag[len(tag)-1] == '"' {
		tag = tag[1 : len(tag)-1]
	}
	return tag
}

// etag is the strong entity tag of a version.
func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

package admin

import (
	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

// Conditions are the headers that make a write conditional (RFC 9110 §13.1).
type Conditions struct {
	IfMatch     string `header:"If-Match" doc:"The ETag of the version to be changed, or *. Needed over something that exists."`
	IfNoneMatch string `header:"If-None-Match" doc:"Only *: write only if nothing of that name exists."`
}

// precondition reads both headers. A list of several ETags is Malformed: a caller has
// read one version.
func (c Conditions) precondition() (provisioning.Precondition, error) {
	p, err := azure.ParseIfMatch(c.IfMatch)
	if err != nil {
		return p, err
	}
	switch azure.BareETag(c.IfNoneMatch) {
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

// etag is the strong entity tag of a version.
func etag(version int64) string { return azure.ETag(version) }

package provisioning

import (
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// Precondition is what a write's If-Match and If-None-Match said. The zero value
// creates, and refuses to replace.
type Precondition struct {
	Version int64 // If-Match: an ETag; 0 = none
	Any     bool  // If-Match: *
	Absent  bool  // If-None-Match: *
}

// check says whether the write may go on over a stored version (0 = nothing stored).
func (p Precondition) check(stored int64) error {
	switch {
	case stored == 0 && (p.Version != 0 || p.Any):
		return fault.New(fault.PreconditionFailed, "etag-mismatch", "If-Match was given, and there is nothing of that name")
	case stored == 0:
		return nil
	case p.Absent:
		return fault.New(fault.PreconditionFailed, "exists", "it exists already")
	case p.Any:
		return nil
	case p.Version == 0:
		return fault.New(fault.PreconditionRequired, "if-match-required", "it exists: say which version you mean by If-Match")
	case p.Version != stored:
		return fault.New(fault.PreconditionFailed, "etag-mismatch", "it was changed meanwhile: read it again")
	}
	return nil
}

// firstVersion starts a record's versions at the time of its making, so that an ETag
// of a deleted namesake never matches.
func firstVersion(now time.Time) int64 { return now.UnixMilli() }

package device

import "time"

// EventKind is a stable word for what an Agent reports.
type EventKind string

// The kinds.
const (
	Registering EventKind = "registering" // about to ask, with a named credential
	Registered  EventKind = "registered"  // first certificate, or one again after a refusal
	Renewed     EventKind = "renewed"
	Rejected    EventKind = "refused" // the server does not take a credential
	Failed      EventKind = "failed"  // anything else went wrong
)

// Event is one line of an Agent's progress.
type Event struct {
	Time time.Time
	Kind EventKind
	Text string
}

func (e Event) String() string { return string(e.Kind) + ": " + e.Text }

package provisioning

import (
	"sync"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
)

// HubCircuit says whether a hub that lives elsewhere is told of its devices.
type HubCircuit string

// The states. One that is open is half-open when its pause is over.
const (
	CircuitClosed   HubCircuit = "closed"    // it is
	CircuitOpen     HubCircuit = "open"      // it failed, and is left alone for a while, longer each time
	CircuitHalfOpen HubCircuit = "half-open" // it is tried with one device
)

// hubFailures is how many calls in a row fail until the hub has; one that fails now and then
// still gets its devices.
const hubFailures = 3

// Circuit is the state at now.
func (l HubLink) Circuit(now time.Time) HubCircuit {
	switch {
	case l.Tries == 0:
		return CircuitClosed
	case now.Before(l.NextTry):
		return CircuitOpen
	}
	return CircuitHalfOpen
}

// rests says that the hub is not to be told at now: it failed, asked for a pause, or is being tried.
func (l HubLink) rests(now time.Time) bool { return now.Before(l.NextTry) || now.Before(l.Trial) }

// hubCourse is how a hub has taken the calls of a step so far.
type hubCourse struct {
	mu       sync.Mutex
	trial    bool         // one failure is enough
	answered bool         // any call
	row      int          // failures in a row
	problem  *fault.Error // the last failure
	over     bool         // the hub is to be left alone
}

// note takes down how one call went.
func (c *hubCourse) note(answered bool, failure *fault.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answered = c.answered || answered
	if failure == nil {
		c.row = 0
		return
	}
	c.row++
	if c.problem == nil || failure.RetryAfter >= c.problem.RetryAfter {
		c.problem = failure
	}
	c.over = c.over || c.trial || c.row >= hubFailures || failure.RetryAfter > 0
}

func (c *hubCourse) isOver() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over
}

// after is how the hub does when a step is done. Where it answered and then asked for a pause it
// gets that, and nothing else is wrong with it.
func (c *hubCourse) after(was HubLink, now time.Time) HubLink {
	next := was
	next.Trial = time.Time{}
	switch {
	case c.problem != nil && (!c.answered || c.over && c.problem.RetryAfter == 0):
		next.Tries, next.Problem = was.Tries+1, c.problem.Detail
		next.NextTry = now.Add(max(backoff(next.Tries), c.problem.RetryAfter))
	case c.answered:
		next.Tries, next.NextTry, next.Problem, next.Answered = 0, time.Time{}, "", now
		if c.over {
			next.NextTry, next.Problem = now.Add(c.problem.RetryAfter), c.problem.Detail
		}
	}
	return next
}

// moveHub writes how a hub does; that it failed, and that it is told again, is on record once.
func moveHub(tx Tx, was, is HubLink, now time.Time) error {
	if err := tx.MoveHubLink(was, is); err != nil {
		return err
	}
	event := audit.Event{At: now, Actor: jobHubs, Subject: "hub:" + is.Hub}
	switch {
	case was.Tries == 0 && is.Tries > 0:
		event.Action, event.Body = audit.HubCircuitOpened, audit.Body(map[string]any{"problem": is.Problem})
	case was.Tries > 0 && is.Tries == 0:
		event.Action, event.Body = audit.HubCircuitClosed, audit.Body(map[string]any{"tries": was.Tries})
	default:
		return nil
	}
	return tx.Append(event)
}

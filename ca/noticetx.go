package ca

import "time"

// NoticeTx remembers what operators were told of that has no row of its own to say so:
// each is told once.
type NoticeTx interface {
	// Noticed says whether a notice, by its text, was given.
	Noticed(notice string) (bool, error)
	// Notice says that it is given now; fault.Conflict, rule "notice-exists", when it was.
	Notice(notice string, at time.Time) error
}

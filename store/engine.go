package store

import (
	"context"
	"fmt"

	"github.com/passmuster/muster/internal/fault"
)

// Lane says which sort of Update is waiting to be run.
type Lane uint8

// Devices are served first; Jobs take what is left. Trust is an Update that must be
// ordered before every later one that reads trust (INV-D1).
const (
	Devices Lane = iota
	Jobs
	Trust
)

func (l Lane) String() string {
	return [...]string{"devices", "jobs", "trust"}[l]
}

// Engine runs transactions on one kind of database.
//
// View gives its function one snapshot. Update commits durably before it returns nil;
// a function that returns an error or panics (fault.Internal) leaves nothing behind.
// Update may run its function again (package doc). Constraint violations become the
// faults named in the [Stmt] that met them; a database that cannot commit is
// fault.Unavailable. A caller whose context ends while it waits is answered
// fault.Unavailable, rule "request-cancelled": whether its Update took place is then
// unknown to it.
type Engine interface {
	View(ctx context.Context, f func(Conn) error) error
	Update(ctx context.Context, lane Lane, f func(Conn) error) error
	// TrustChanges counts the commits with a write that is marked [Stmt].Trust, each before
	// its caller is answered. It is exact where no other process writes.
	TrustChanges() (n uint64, exact bool)
	Stats() Stats
	Close() error
}

// Conn runs the statements of one transaction, for one goroutine. Arguments are int64,
// string, []byte or nil.
type Conn interface {
	// Query calls each with every row in turn. Values are int64, string, []byte or nil
	// and may be kept; the slice may not.
	Query(s *Stmt, each func(values []any) error, args ...any) error
	// Exec runs a write, or queues it: its error can surface at a later call or at the commit.
	Exec(s *Stmt, args ...any) error
}

// ErrCancelled is the answer to a caller who stopped waiting.
func ErrCancelled(ctx context.Context) error {
	return fault.New(fault.Unavailable, "request-cancelled", "The request ended before its answer was known.").Because(context.Cause(ctx))
}

// ErrUnavailable is the answer when the database cannot be read or cannot commit (INV-S5).
func ErrUnavailable(cause error) error {
	return fault.New(fault.Unavailable, "database-unavailable", "The database cannot do this now; try again later.").Because(cause)
}

// ErrPanic is the answer to the caller whose function panicked.
func ErrPanic(value any, stack []byte) error {
	return fault.New(fault.Internal, "panic", "Something is wrong inside the server.").
		Because(fmt.Errorf("internal error: a transaction panicked: %v\n%s", value, stack))
}

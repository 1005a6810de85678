package sqlite

import (
	"context"
	"errors"
	"runtime/debug"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/store"
)

// connections is how many Views run at once: more would only wait for the processor.
const connections = 4

// readers lends out the read-only connections.
type readers struct {
	free   chan *conn
	closed chan struct{}
}

func openReaders(path string) (*readers, error) {
	r := &readers{free: make(chan *conn, connections), closed: make(chan struct{})}
	for range connections {
		c, err := open(dsn(path, "ro", readerSettings))
		if err != nil {
			close(r.closed)
			for range len(r.free) {
				err = errors.Join(err, (<-r.free).close())
			}
			return nil, err
		}
		r.free <- c
	}
	return r, nil
}

// close waits for the Views at work.
func (r *readers) close() error {
	close(r.closed)
	var errs []error
	for range connections {
		errs = append(errs, (<-r.free).close())
	}
	return errors.Join(errs...)
}

// View runs f on one snapshot of the file. Its context ends the wait for a connection,
// and nothing after that: reads are short.
func (e *Engine) View(ctx context.Context, f func(store.Conn) error) error {
	var c *conn
	select {
	case <-e.readers.closed:
		return errClosed
	default:
	}
	select {
	case c = <-e.readers.free:
	case <-e.readers.closed:
		return errClosed
	case <-ctx.Done():
		return store.ErrCancelled(ctx)
	}
	defer func() { e.readers.free <- c }()
	if err := c.run("BEGIN"); err != nil {
		return broken(err)
	}
	err := call(c, f)
	e.meter.View()
	if end := c.run("COMMIT"); end != nil {
		c.run("ROLLBACK") // so that the connection's next View can begin
		return first(err, broken(end))
	}
	return err
}

var errClosed = fault.New(fault.Unavailable, "database-closed", "The server is stopping.")

// call runs f and turns a panic into an error for its caller alone.
func call(c *conn, f func(store.Conn) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = store.ErrPanic(p, debug.Stack())
		}
	}()
	return f(c)
}

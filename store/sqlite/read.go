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

// readers lends out the read-only connections. All but the first are opened when they
// are first needed, and wait as nil until then.
type readers struct {
	path   string
	free   chan *conn
	closed chan struct{}
}

func openReaders(path string) (*readers, error) {
	first, err := openReader(path)
	if err != nil {
		return nil, err
	}
	r := &readers{path: path, free: make(chan *conn, connections), closed: make(chan struct{})}
	r.free <- first
	for range connections - 1 {
		r.free <- nil
	}
	return r, nil
}

func openReader(path string) (*conn, error) { return open(dsn(path, "ro", readerSettings)) }

// lend waits for a connection as long as its caller does.
func (r *readers) lend(ctx context.Context) (*conn, error) {
	select {
	case <-r.closed:
		return nil, errClosed
	default:
	}
	select {
	case c := <-r.free: // as nearly always: then nothing has to be made ready for a wait
		return r.opened(c)
	default:
	}
	select {
	case c := <-r.free:
		return r.opened(c)
	case <-r.closed:
		return nil, errClosed
	case <-ctx.Done():
		return nil, store.ErrCancelled(ctx)
	}
}

// opened opens a connection that is needed for the first time.
func (r *readers) opened(c *conn) (*conn, error) {
	if c != nil {
		return c, nil
	}
	c, err := openReader(r.path)
	if err != nil {
		r.free <- nil
		return nil, store.ErrUnavailable(err)
	}
	return c, nil
}

// close waits for the Views at work.
func (r *readers) close() error {
	close(r.closed)
	var errs []error
	for range connections {
		if c := <-r.free; c != nil {
			errs = append(errs, c.close())
		}
	}
	return errors.Join(errs...)
}

// View runs f on one snapshot of the file. Its context ends the wait for a connection,
// and nothing after that: reads are short.
func (e *Engine) View(ctx context.Context, f func(store.Conn) error) error {
	c, err := e.readers.lend(ctx)
	if err != nil {
		return err
	}
	defer func() { e.readers.free <- c }()
	c.waiting = true
	err = call(c, f)
	e.meter.View()
	if c.waiting {
		c.waiting = false
		return err
	}
	if end := c.run("COMMIT"); end != nil {
		_ = c.run("ROLLBACK") // so that the connection's next View can begin
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

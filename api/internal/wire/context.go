package wire

import (
	"context"
	"sync"
	"time"
)

type requestKey struct{}

// requestContext ends with its request: when that is answered, when its time is up, or when
// the client goes. Most requests are answered before anything waits for that or asks for the
// trace id, so the timer, the channel and the id are made when they are first asked for:
// made for every request they are a twenty-fifth of what an OCSP answer from the cache costs.
type requestContext struct {
	context.Context // of the connection
	until           time.Time

	mu      sync.Mutex
	ended   bool
	limited context.Context // nil until somebody waits
	cancel  context.CancelFunc
	trace   string
}

func (c *requestContext) Deadline() (time.Time, bool) {
	if until, is := c.Context.Deadline(); is && until.Before(c.until) {
		return until, true
	}
	return c.until, true
}

func (c *requestContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.limited == nil {
		c.limited, c.cancel = context.WithDeadline(c.Context, c.until)
		if c.ended {
			c.cancel()
		}
	}
	return c.limited.Done()
}

func (c *requestContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.limited != nil {
		return c.limited.Err()
	}
	if err := c.Context.Err(); err != nil {
		return err
	}
	switch {
	case c.ended:
		return context.Canceled
	case !time.Now().Before(c.until):
		return context.DeadlineExceeded
	}
	return nil
}

// Value finds what package context looks for in its own contexts, so that one made of this
// one needs no goroutine to wait for it.
func (c *requestContext) Value(key any) any {
	if key == (requestKey{}) {
		return c
	}
	c.mu.Lock()
	limited := c.limited
	c.mu.Unlock()
	if limited != nil {
		return limited.Value(key)
	}
	return c.Context.Value(key)
}

// end is called when the request has been answered.
func (c *requestContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.cancel != nil {
		c.cancel()
	}
}

// traceID is the request's own; one that a client sends would let it write into the traces
// of others.
func (c *requestContext) traceID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trace == "" {
		c.trace = NewTraceID()
	}
	return c.trace
}

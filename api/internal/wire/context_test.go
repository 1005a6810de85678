package wire

import (
	"context"
	"errors"
	"testing"
	"time"
)

type someKey struct{}

func TestARequestsContextEnds(t *testing.T) {
	soon := func() time.Time { return time.Now().Add(time.Minute) }
	tests := map[string]struct {
		until time.Time
		end   func(c *requestContext, connection context.CancelFunc)
		want  error
	}{
		"when it is answered":    {soon(), func(c *requestContext, _ context.CancelFunc) { c.end() }, context.Canceled},
		"when the client goes":   {soon(), func(_ *requestContext, gone context.CancelFunc) { gone() }, context.Canceled},
		"when its time is up":    {time.Now(), func(*requestContext, context.CancelFunc) {}, context.DeadlineExceeded},
		"not before one of them": {soon(), func(*requestContext, context.CancelFunc) {}, nil},
	}
	for name, tt := range tests {
		for waiting, before := range map[string]bool{"": false, ", with somebody waiting": true} {
			t.Run(name+waiting, func(t *testing.T) {
				connection, gone := context.WithCancel(context.WithValue(t.Context(), someKey{}, "kept"))
				defer gone()
				c := &requestContext{Context: connection, until: tt.until}
				defer c.end()
				below := context.Context(c)
				if before {
					var cancel context.CancelFunc
					below, cancel = context.WithCancel(c)
					defer cancel()
				}
				tt.end(c, gone)
				if !before && !errors.Is(c.Err(), tt.want) {
					t.Errorf("nobody had waited: %v, want %v", c.Err(), tt.want)
				}
				if tt.want == nil {
					if c.Err() != nil || below.Err() != nil {
						t.Errorf("it ended: %v, %v", c.Err(), below.Err())
					}
				} else {
					<-below.Done()
					<-c.Done()
					if !errors.Is(c.Err(), tt.want) || !errors.Is(below.Err(), tt.want) || !errors.Is(context.Cause(c), tt.want) {
						t.Errorf("it ended with %v, below it %v, want %v", c.Err(), below.Err(), tt.want)
					}
				}
				if c.Value(someKey{}) != "kept" || below.Value(requestKey{}) != c {
					t.Error("what the connection and the request know is not found")
				}
			})
		}
	}
}

func TestARequestMayTakeNoLongerThanWhoAsksAllows(t *testing.T) {
	early := time.Now().Add(time.Second)
	ctx, cancel := context.WithDeadline(t.Context(), early)
	defer cancel()
	if until, is := (&requestContext{Context: ctx, until: early.Add(time.Minute)}).Deadline(); !is || !until.Equal(early) {
		t.Errorf("it may take until %v, %v", until, is)
	}
}

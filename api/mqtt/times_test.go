package mqtt

import (
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// lasts is how long the connection goes on from now.
func (r raw) lasts() time.Duration {
	r.t.Helper()
	began := time.Now()
	if _, err := io.Copy(io.Discard, r); err != nil {
		r.t.Fatal(err)
	}
	return time.Since(began)
}

// drip writes an octet a second until the connection ends.
func (r raw) drip(b []byte) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range b {
			if _, err := r.Write(b[i : i+1]); err != nil {
				return
			}
			time.Sleep(time.Second)
		}
	}()
	r.t.Cleanup(func() { <-done })
}

func TestAClientHasSoMuchTime(t *testing.T) {
	t.Parallel()
	slow := publish(0, registerTopic+"?$rid=1", `{"registrationId":"dev-7"}`)
	const noKeepAlive = 0xffff
	tests := map[string]struct {
		keepAlive uint16 // 0: no CONNECT is sent
		act       func(*world, raw)
		lasts     time.Duration
	}{
		"to say anything":                             {0, nil, connectLimit},
		"for half a CONNECT":                          {0, func(w *world, r raw) { r.send(w.hello("dev-7").bytes()[:20]) }, connectLimit},
		"for a CONNECT of an octet a second":          {0, func(w *world, r raw) { r.drip(w.hello("dev-7").bytes()) }, connectLimit},
		"between packets, 1.5 times its keep-alive":   {60, nil, 90 * time.Second},
		"between packets, however short it is":        {1, nil, 1500 * time.Millisecond},
		"between packets, without a keep-alive":       {noKeepAlive, nil, 30 * time.Minute},
		"after a packet":                              {60, func(_ *world, r raw) { time.Sleep(80 * time.Second); r.send(pingreq); r.expect(pingresp) }, 90 * time.Second},
		"for half a packet":                           {600, func(_ *world, r raw) { r.send(slow[:10]) }, packetLimit},
		"for a packet of an octet a second":           {600, func(_ *world, r raw) { r.drip(slow) }, packetLimit},
		"for half a packet, and less between packets": {10, func(_ *world, r raw) { time.Sleep(5 * time.Second); r.send(slow[:10]) }, 10 * time.Second},
	}
	synctest.Test(t, func(t *testing.T) { // one world for all: a bubble has no subtests
		w := newWorld(t)
		for name, tt := range tests {
			r := w.dial(t)
			if tt.keepAlive > 0 {
				h := w.hello("dev-7")
				if h.keepAlive = tt.keepAlive; tt.keepAlive == noKeepAlive {
					h.keepAlive = 0
				}
				r.send(h.bytes())
				r.expect(accepted)
			}
			if tt.act != nil {
				tt.act(w, r)
			}
			if took := r.lasts(); took != tt.lasts {
				t.Errorf("%s it had %s, want %s", name, took, tt.lasts)
			}
		}
		r := w.connected(t, "dev-7")
		r.send(pingreq)
		time.Sleep(writeLimit + time.Second)
		w.connections(0) // and the answer was not read
	})
}

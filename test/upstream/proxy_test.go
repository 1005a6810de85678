package upstream_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// proxy stands between Muster and a step-ca. Held, it passes requests on and keeps the
// answers to itself until it is released.
type proxy struct {
	addr string

	mu   sync.Mutex
	gate chan struct{} // closed while answers pass; guarded by mu
	both []net.Conn    // guarded by mu
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), gate: make(chan struct{})}
	close(p.gate)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			p.mu.Lock()
			p.both = append(p.both, in, out)
			p.mu.Unlock()
			running.Go(func() { _, _ = io.Copy(out, in); _ = out.Close() })
			running.Go(func() { p.answers(in, out) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		p.release()
		running.Wait()
	})
	return p
}

// answers passes on what comes back, while the gate is open.
func (p *proxy) answers(in io.WriteCloser, out io.Reader) {
	defer in.Close()
	buffer := make([]byte, 16<<10)
	for {
		n, err := out.Read(buffer)
		p.mu.Lock()
		gate := p.gate
		p.mu.Unlock()
		<-gate
		if _, failed := in.Write(buffer[:n]); err != nil || failed != nil {
			return
		}
	}
}

func (p *proxy) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate = make(chan struct{})
}

func (p *proxy) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.gate:
	default:
		close(p.gate)
	}
}

// cut breaks every connection.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.both {
		_ = c.Close()
	}
	p.both = nil
}

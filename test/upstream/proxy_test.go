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
	t        *testing.T
	addr, to string
	running  sync.WaitGroup
	listener net.Listener // of the test's goroutine alone

	mu   sync.Mutex
	gate chan struct{} // closed while answers pass; guarded by mu
	both []net.Conn    // guarded by mu
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	p := &proxy{t: t, addr: "127.0.0.1:0", to: to, gate: make(chan struct{})}
	close(p.gate)
	p.open()
	t.Cleanup(func() {
		p.close()
		p.release()
		p.running.Wait()
	})
	return p
}

// open takes connections, at the same address each time.
func (p *proxy) open() {
	p.t.Helper()
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.listener, p.addr = l, l.Addr().String()
	p.running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", p.to)
			if err != nil {
				_ = in.Close()
				continue
			}
			p.mu.Lock()
			p.both = append(p.both, in, out)
			p.mu.Unlock()
			p.running.Go(func() { _, _ = io.Copy(out, in); _ = out.Close() })
			p.running.Go(func() { p.answers(in, out) })
		}
	})
}

// close takes no more connections and breaks those there are.
func (p *proxy) close() {
	_ = p.listener.Close()
	p.cut()
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

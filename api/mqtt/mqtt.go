// Package mqtt speaks the device data plane of the provisioning service over MQTT 3.1.1, on
// TLS and over WebSocket (protocols/dps.md §3).
//
// It is a door, no broker: a device asks on two topics and is answered on a third, and
// nobody ever hears another.
//
//   - CONNECT is decided by the engine, and so is every PUBLISH after it (INV-D1).
//   - Whatever is not of this protocol closes the connection.
//   - Connections share nothing: neither topics nor client ids, so nobody hears, takes over or
//     ends somebody else's, and nothing outlives one, whatever its clean flag says.
//   - Packets, times, connections and unacknowledged answers are bounded (INV-R1, R6), and a
//     panic ends one connection, no more (INV-R2).
//
// Reading and writing packets is mochi-mqtt's work; its broker, which is made to bring
// clients together, is left out. Decoding a request, asking the engine and encoding the
// answer are package dps's.
//
// Called by package cmd, which gives it a listener, and by package api, which mounts the
// WebSocket on the listener for devices.
package mqtt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	broker "github.com/mochi-mqtt/server/v2"

	"github.com/passmuster/muster/api/internal/wire"
)

// doorName is this door's in the log, in metrics and in what explain remembers.
const doorName = "mqtt"

// Options are the limits an operator may set.
type Options struct {
	// MaxConnections bounds the open connections, those that have not said who they are
	// among them; 0 is 10,000. One more is closed at once.
	MaxConnections int
}

const defaultMaxConnections = 10_000

// Server serves devices on listeners and on upgraded HTTP connections.
type Server struct {
	tenants  wire.Tenants
	settings wire.Settings
	most     int            // connections
	codec    *broker.Server // makes clients, which read and write packets

	mu        sync.Mutex
	closed    bool
	listeners map[net.Listener]struct{}
	open      map[*connection]struct{}
	running   sync.WaitGroup // of connections; added to under mu while not closed
}

// New makes a server that does not listen yet.
func New(tenants wire.Tenants, s wire.Settings, o Options) *Server {
	if o.MaxConnections == 0 {
		o.MaxConnections = defaultMaxConnections
	}
	return &Server{
		tenants: tenants, settings: s, most: o.MaxConnections, codec: newCodec(),
		listeners: make(map[net.Listener]struct{}), open: make(map[*connection]struct{}),
	}
}

// Serve takes connections until the server closes, and is nil then, or the listener is
// closed by somebody else. The listener speaks TLS ([crypto/tls.NewListener]); connections
// without it have no certificates to show.
func (s *Server) Serve(l net.Listener) error {
	if !s.listen(l) {
		return l.Close()
	}
	defer s.forget(l)
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			s.start(conn, handshake)
		case s.isClosed():
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			// Out of file descriptors, mostly; it passes when connections end.
			s.settings.Log.Error("accepting a connection", "door", doorName, "error", err)
			time.Sleep(acceptPause)
		}
	}
}

const acceptPause = 100 * time.Millisecond

// Close stops taking connections, lets each finish what it was asked and waits for that.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for l := range s.listeners {
		_ = l.Close() // it may have been closed already
	}
	for c := range s.open {
		c.shut()
	}
	s.mu.Unlock()
	s.running.Wait()
}

func (s *Server) listen(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.listeners[l] = struct{}{}
	}
	return !s.closed
}

func (s *Server) forget(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// start serves a connection on a goroutine of its own, or closes it when there are too many.
// Its certificates are asked for there: a handshake may take its time.
func (s *Server) start(conn net.Conn, certificates func(net.Conn) ([]*x509.Certificate, error)) {
	if !s.admit(conn, certificates) {
		_ = conn.Close() // nothing was said yet; a WebSocket's says goodbye, which may take time
	}
}

func (s *Server) admit(conn net.Conn, certificates func(net.Conn) ([]*x509.Certificate, error)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.open) >= s.most {
		return false
	}
	c := newConnection(conn)
	s.open[c] = struct{}{}
	s.running.Go(func() { s.serve(c, certificates) })
	return true
}

// serve is the life of a connection.
func (s *Server) serve(c *connection, certificates func(net.Conn) ([]*x509.Certificate, error)) {
	defer func() {
		if v := recover(); v != nil {
			s.caught(v)
		}
		_ = c.Close() // closed already in most cases
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, c)
	}()
	shown, err := certificates(c.Conn)
	if err == nil {
		err = newSession(s, c, shown).converse()
	}
	s.settings.Log.Debug("connection ended", "door", doorName, "address", address(c.RemoteAddr()), "why", why(err))
}

func (s *Server) caught(v any) {
	s.settings.Log.Error("panic", "door", doorName, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	if s.settings.Panicked != nil {
		s.settings.Panicked(doorName)
	}
}

// handshake is a TLS connection's, and the certificates that the client showed.
func handshake(conn net.Conn) ([]*x509.Certificate, error) {
	secure, ok := conn.(*tls.Conn)
	if !ok {
		return nil, nil
	}
	// Its time is that of the connection's deadline.
	if err := secure.HandshakeContext(context.Background()); err != nil {
		return nil, err
	}
	return secure.ConnectionState().PeerCertificates, nil
}

func address(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}

// newCodec makes a broker that is never started: it is asked for clients alone.
func newCodec() *broker.Server {
	c := broker.NewDefaultServerCapabilities()
	c.MaximumPacketSize = maxPacket
	c.MaximumClientWritesPending = 0 // answers are written at once
	c.TopicAliasMaximum = 0
	return broker.New(&broker.Options{
		Capabilities:             c,
		ClientNetReadBufferSize:  bufferSize,
		ClientNetWriteBufferSize: bufferSize,
		// It would log what strangers send (INV-P3).
		Logger: slog.New(slog.DiscardHandler),
	})
}

package mqtt

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/passmuster/muster/api/dps"
)

// Limits of one connection (INV-R1, R6).
const (
	maxPacket  = dps.MaxBody + maxTopic + 8 // and the header
	maxConnect = 8 << 10                    // of a CONNECT: nobody has proved anything yet
	bufferSize = 512

	connectLimit = 10 * time.Second // from accept to the end of CONNECT, TLS included
	packetLimit  = 30 * time.Second // from a packet's first octet to its last
	writeLimit   = 10 * time.Second
	idleLimit    = 30 * time.Minute // between packets, if the keep-alive says no less
)

// connection is a TLS or WebSocket connection that holds its client to its times.
type connection struct {
	net.Conn

	mu      sync.Mutex
	closing bool
	idle    time.Time // when the next packet must have begun
	begun   bool      // it has
}

// newConnection gives a client the time to say who it is.
func newConnection(conn net.Conn) *connection {
	_ = conn.SetDeadline(time.Now().Add(connectLimit)) // a closed connection is seen when it is read
	return &connection{Conn: conn, begun: true}
}

// rest waits for the next packet, which must begin in time. Both directions have that time:
// TLS writes while it reads, when the client changes its keys.
func (c *connection) rest(limit time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle, c.begun = time.Now().Add(limit), false
	if !c.closing { // what shut did stands
		_ = c.SetDeadline(c.idle) // a closed connection is seen when it is read
	}
}

// Read reads, and times a packet from its first octet.
func (c *connection) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.begin()
	}
	return n, err
}

func (c *connection) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.begun || c.closing {
		return
	}
	c.begun = true
	if until := time.Now().Add(packetLimit); until.Before(c.idle) {
		_ = c.SetReadDeadline(until) // a closed connection is seen when it is read
	}
}

// Write writes in the time there is; a client that does not read is let go.
func (c *connection) Write(p []byte) (int, error) {
	_ = c.SetWriteDeadline(time.Now().Add(writeLimit)) // a closed connection is seen below
	return c.Conn.Write(p)
}

// shut ends the connection when it next waits for its client.
func (c *connection) shut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = true
	_ = c.SetReadDeadline(time.Unix(1, 0)) // a closed connection needs no more
}

// why is what ended a connection, in words that no stranger chose.
func why(err error) string {
	var code packets.Code
	var bye *websocket.CloseError // which holds the client's words
	switch {
	case errors.As(err, &code):
		return code.Reason
	case errors.As(err, &bye), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return "closed by the device"
	}
	return err.Error()
}

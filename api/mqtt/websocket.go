package mqtt

import (
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/gorilla/websocket"

	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
)

// WebSocket serves /$iothub/websocket: MQTT in binary messages (OASIS MQTT 3.1.1 §6). A page
// of another origin is refused.
func (s *Server) WebSocket() http.Handler {
	d := wire.NewDoor(doorName, s.settings, azure.Fail(s.settings.Now))
	u := &upgrade{server: s, upgrader: websocket.Upgrader{
		Subprotocols:   []string{subprotocol},
		ReadBufferSize: bufferSize, WriteBufferPool: new(sync.Pool),
		Error: func(http.ResponseWriter, *http.Request, int, error) {}, // the door answers
	}}
	d.Handle(http.MethodGet, "/$iothub/websocket", u.serve)
	return d
}

const subprotocol = "mqtt"

type upgrade struct {
	server   *Server
	upgrader websocket.Upgrader
}

func (u *upgrade) serve(c *gin.Context) error {
	if !slices.Contains(websocket.Subprotocols(c.Request), subprotocol) {
		return noWebSocket("The sub-protocol mqtt is missing.")
	}
	conn, err := u.upgrader.Upgrade(c.Writer, c.Request, nil)
	var refused websocket.HandshakeError
	switch {
	case errors.As(err, &refused):
		return noWebSocket("The request does not open a WebSocket.")
	case err != nil:
		return nil // the client has gone, and its connection with it
	}
	conn.SetReadLimit(maxPacket)
	var shown []*x509.Certificate
	if c.Request.TLS != nil {
		shown = c.Request.TLS.PeerCertificates
	}
	u.server.start(&messages{Conn: conn}, func(net.Conn) ([]*x509.Certificate, error) { return shown, nil })
	return nil
}

func noWebSocket(detail string) error {
	return fault.New(fault.Malformed, "websocket", "%s", detail)
}

// messages is a WebSocket as a stream: where a message ends means nothing to MQTT.
type messages struct {
	*websocket.Conn
	rest io.Reader // of the message being read; nil between two
}

var errText = errors.New("a message that is not binary")

// Read reads on, across messages.
func (m *messages) Read(p []byte) (int, error) {
	for {
		if m.rest == nil {
			kind, next, err := m.NextReader()
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				return 0, errText
			}
			m.rest = next
		}
		n, err := m.rest.Read(p)
		if errors.Is(err, io.EOF) {
			m.rest, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Write sends a message.
func (m *messages) Write(p []byte) (int, error) {
	if err := m.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// SetDeadline is for both directions.
func (m *messages) SetDeadline(t time.Time) error {
	return errors.Join(m.SetReadDeadline(t), m.SetWriteDeadline(t))
}

package mqtt

import (
	"crypto/x509"
	"slices"
	"time"

	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/passmuster/muster/api/dps"
	"github.com/passmuster/muster/provisioning"
)

const (
	// requestLimit bounds one request, as for the doors of HTTP (INV-R6).
	requestLimit = 30 * time.Second
	// maxUnacknowledged bounds the answers that a device has not acknowledged.
	maxUnacknowledged = 16
	// maxPackets bounds what a device sends in a second, many times what any client does: a
	// packet is cheap, and a flood of them would still keep a processor busy.
	maxPackets = 100
)

// session is one device on one connection. The goroutine that reads the connection is the
// only one that uses it.
type session struct {
	server  *Server
	conn    *connection
	client  *broker.Client
	address string
	chain   []*x509.Certificate // as sent, unchecked

	admitted bool          // CONNECT was accepted
	idle     time.Duration // between packets, then
	call     dps.Call
	attempt  provisioning.Attempt // with what CONNECT showed

	subscribed bool
	qos        byte     // of answers
	packetID   uint16   // of the last answer
	unacked    []uint16 // packet ids of answers

	second  time.Time // when packets began to be counted
	packets int
}

func newSession(s *Server, conn *connection, chain []*x509.Certificate) *session {
	return &session{
		server: s, conn: conn, client: s.codec.NewClient(conn, doorName, "", false),
		address: address(conn.RemoteAddr()), chain: chain,
	}
}

// ended is why the server closes a connection.
type ended string

func (e ended) Error() string { return string(e) }

// converse takes packets until the connection ends, and says why. What a packet needs of the
// stack is not needed between two: an idle connection costs less.
func (s *session) converse() error {
	defer s.client.Stop(nil)
	for {
		var header packets.FixedHeader
		if err := s.client.ReadFixedHeader(&header); err != nil {
			return err
		}
		if s.floods(time.Now()) {
			return ended("too many packets in a second")
		}
		if err := s.take(header); err != nil {
			return err
		}
		s.conn.rest(s.idle)
	}
}

// floods counts a packet, and says whether it is one too many.
func (s *session) floods(now time.Time) bool {
	if now.Sub(s.second) >= time.Second {
		s.second, s.packets = now, 0
	}
	s.packets++
	return s.packets > maxPackets
}

// take lets pass what the protocol has (§3): one CONNECT, a subscription to the answers,
// requests, and what keeps the connection going. Anything else ends it.
func (s *session) take(header packets.FixedHeader) error {
	switch {
	case s.admitted:
	case header.Type != packets.Connect:
		return ended("the first packet is no CONNECT")
	case header.Remaining > maxConnect:
		return ended("the CONNECT is too long")
	}
	pk, err := s.client.ReadPacket(&header)
	if err != nil {
		return err
	}
	switch header.Type {
	case packets.Connect:
		return s.connect(pk)
	case packets.Subscribe:
		return s.subscribe(pk)
	case packets.Unsubscribe:
		return s.unsubscribe(pk)
	case packets.Publish:
		return s.publish(pk)
	case packets.Puback:
		s.unacked = slices.DeleteFunc(s.unacked, func(id uint16) bool { return id == pk.PacketID })
		return nil
	case packets.Pingreq:
		return s.acknowledge(packets.Pingresp, packets.Packet{})
	case packets.Disconnect:
		return ended("disconnected by the device")
	}
	return ended("a packet that has no place here")
}

// acknowledge answers a packet with one of a type.
func (s *session) acknowledge(kind byte, pk packets.Packet) error {
	pk.FixedHeader = packets.FixedHeader{Type: kind}
	return s.client.WritePacket(pk)
}

// subscribe takes the one filter there is. QoS 2 is granted as 1.
func (s *session) subscribe(pk packets.Packet) error {
	if pk.SubscribeValidate() != packets.CodeSuccess || !onlyAnswers(pk) {
		return ended("another topic filter")
	}
	ack := packets.Packet{PacketID: pk.PacketID}
	for _, f := range pk.Filters {
		s.subscribed, s.qos = true, min(f.Qos, 1)
		ack.ReasonCodes = append(ack.ReasonCodes, s.qos)
	}
	return s.acknowledge(packets.Suback, ack)
}

func (s *session) unsubscribe(pk packets.Packet) error {
	if pk.UnsubscribeValidate() != packets.CodeSuccess || !onlyAnswers(pk) {
		return ended("another topic filter")
	}
	s.subscribed = false
	return s.acknowledge(packets.Unsuback, packets.Packet{PacketID: pk.PacketID})
}

func onlyAnswers(pk packets.Packet) bool {
	return !slices.ContainsFunc(pk.Filters, func(f packets.Subscription) bool { return f.Filter != answers })
}

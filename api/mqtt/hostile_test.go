package mqtt

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/testkit"
)

// packet is one on the wire: the first octet, then the rest behind its length.
func packet(first byte, parts ...[]byte) []byte {
	body := slices.Concat(parts...)
	return slices.Concat([]byte{first}, length(len(body)), body)
}

func length(n int) (b []byte) {
	for ; n > 127; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func text(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }

// hello is a CONNECT, to be spoilt by a test.
type hello struct {
	protocol           string
	level, flags       byte
	keepAlive          uint16
	clientID, will     string
	username, password string
}

func (w *world) hello(id string) hello {
	return hello{protocol: "MQTT", level: 4, flags: 0xc2, keepAlive: 60, clientID: id, username: idScope + "/registrations/" + id + stable, password: w.sas(id)}
}

func (h hello) with(edit func(*hello)) hello { edit(&h); return h }

func (h hello) bytes() []byte {
	body := slices.Concat(text(h.protocol), []byte{h.level, h.flags}, binary.BigEndian.AppendUint16(nil, h.keepAlive))
	if h.level == 5 {
		body = append(body, 0) // no properties
	}
	body = append(body, text(h.clientID)...)
	if h.flags&0x04 != 0 {
		body = append(body, slices.Concat(text(h.will), text("gone"))...)
	}
	if h.flags&0x80 != 0 {
		body = append(body, text(h.username)...)
	}
	if h.flags&0x40 != 0 {
		body = append(body, text(h.password)...)
	}
	return packet(0x10, body)
}

var (
	accepted   = []byte{0x20, 2, 0, 0}
	pingreq    = []byte{0xc0, 0}
	pingresp   = []byte{0xd0, 0}
	subscribed = packet(0x90, []byte{0, 1, 1}) // SUBACK of packet 1, QoS 1
)

func subscribe(qos byte, filters ...string) []byte {
	body := []byte{0, 1}
	for _, f := range filters {
		body = append(append(body, text(f)...), qos)
	}
	return packet(0x82, body)
}

func publish(flags byte, topic, payload string) []byte {
	id := []byte{0, 9}
	if flags&0x06 == 0 {
		id = nil
	}
	return packet(0x30|flags, text(topic), id, []byte(payload))
}

// raw is a client that writes what it is told.
type raw struct {
	t testing.TB
	net.Conn
}

// dial opens a connection through the server's own accept, without a listener.
func (w *world) dial(t testing.TB) raw {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _ = ours.Close() })
	w.server.start(piped{theirs}, handshake)
	return raw{t, ours}
}

// piped gives a pipe an address.
type piped struct{ net.Conn }

func (piped) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }

func (r raw) send(b []byte) {
	r.t.Helper()
	if _, err := r.Write(b); err != nil {
		r.t.Fatal(err)
	}
}

func (r raw) expect(want []byte) {
	r.t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want) {
		r.t.Fatalf("read %x, %v; want %x", got[:n], err, want)
	}
}

// expectEnd insists that nothing more is said.
func (r raw) expectEnd() {
	r.t.Helper()
	if said, err := io.ReadAll(r); err != nil || len(said) > 0 {
		r.t.Fatalf("read %x, %v; want the end", said, err)
	}
}

func (w *world) connected(t testing.TB, id string) raw {
	t.Helper()
	r := w.dial(t)
	r.send(w.hello(id).bytes())
	r.expect(accepted)
	return r
}

func TestTheDoor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	t.Run("refuses CONNECTs", func(t *testing.T) { refusesCONNECTs(t, w) })
	t.Run("takes nothing but a CONNECT at first", func(t *testing.T) { takesNothingButCONNECT(t, w) })
	t.Run("ends a flood, however cheap its packets are", func(t *testing.T) { endsAFlood(t, w) })
	t.Run("ends conversations that are not of its protocol", func(t *testing.T) { endsForeignConversations(t, w) })
	t.Run("answers with the QoS of the subscription", func(t *testing.T) { answersWithTheQoSAskedFor(t, w) })
	t.Run("waits for acknowledgements", func(t *testing.T) { waitsForAcknowledgements(t, w) })
	t.Run("asks who is refused once and again to come back later", func(t *testing.T) { asksTheRefusedToComeBackLater(t, w) })
	t.Run("bounds its connections", func(t *testing.T) { boundsConnections(t, w) })
	if w.panics != 0 {
		t.Errorf("%d panics:\n%s", w.panics, w.log.String())
	}
}

func refusesCONNECTs(t *testing.T, w *world) {
	h := w.hello("dev-7")
	name := func(s string) hello { return h.with(func(h *hello) { h.username = s }) }
	const closed = 0xff // without a CONNACK
	tests := map[string]struct {
		hello hello
		code  byte
	}{
		"MQTT 3.1":            {h.with(func(h *hello) { h.protocol, h.level = "MQIsdp", 3 }), 1},
		"a level yet to come": {h.with(func(h *hello) { h.level = 6 }), 1},
		"another protocol":    {h.with(func(h *hello) { h.protocol = "AMQP" }), 1},
		"a client id that is not the registration's": {h.with(func(h *hello) { h.clientID = "dev-8" }), 2},
		"no client id":                      {h.with(func(h *hello) { h.clientID = "" }), 2},
		"no user name":                      {h.with(func(h *hello) { h.flags, h.username = 0x02, "" }), 4},
		"an empty user name":                {name(""), 4},
		"a user name without parameters":    {name(idScope + "/registrations/dev-7"), 4},
		"no api-version":                    {name(idScope + "/registrations/dev-7/ClientVersion=1"), 4},
		"two api-versions":                  {name(idScope + "/registrations/dev-7/api-version=2019-03-31&Api-Version=2021-06-01"), 4},
		"an api-version that is no date":    {name(idScope + "/registrations/dev-7/api-version=latest"), 4},
		"a user name of an IoT hub's":       {name("hub-1.example.net/dev-7/?api-version=2021-04-12"), 4},
		"no registration id":                {name(idScope + "/registrations//api-version=2019-03-31"), 4},
		"an id with an encoded slash":       {name(idScope + "/registrations/dev%2F7/api-version=2019-03-31"), 4},
		"an id with NUL":                    {name(idScope + "/registrations/dev\x00/api-version=2019-03-31"), 4},
		"an id of 129 characters":           {name(idScope + "/registrations/" + strings.Repeat("x", 129) + "/api-version=2019-03-31"), 4},
		"another id scope":                  {name("0neFFFFFFFF/registrations/dev-7/api-version=2019-03-31"), 5},
		"no credential":                     {h.with(func(h *hello) { h.flags = 0x82 }), 5},
		"an empty password":                 {h.with(func(h *hello) { h.password = "" }), 5},
		"a password that is no token":       {h.with(func(h *hello) { h.password = "secret" }), 5},
		"a token of another device":         {h.with(func(h *hello) { h.password = w.sas("dev-8") }), 5},
		"a token of the group's own key":    {h.with(func(h *hello) { h.password = testkit.SAS(w.groupKey, idScope, "dev-7", w.now().Add(time.Hour)) }), 5},
		"a token that has expired":          {h.with(func(h *hello) { h.password = testkit.SAS(w.groupKey, idScope, "dev-7", w.now().Add(-time.Hour)) }), 5},
		"a token of a service":              {h.with(func(h *hello) { h.password = w.sas("dev-7", testkit.Resource("dps.example.net")) }), 5},
		"a will":                            {h.with(func(h *hello) { h.flags, h.will = 0xc6, "$dps/registrations/res/202/" }), 5},
		"a will that is retained, of QoS 2": {h.with(func(h *hello) { h.flags, h.will = 0xf6, "x" }), 5},
		"a reserved flag":                   {h.with(func(h *hello) { h.flags |= 1 }), closed},
		"a will's QoS without a will":       {h.with(func(h *hello) { h.flags |= 0x08 }), 5},
		"a password without a user name":    {h.with(func(h *hello) { h.flags = 0x42 }), 4},
		"a client id that is no text":       {h.with(func(h *hello) { h.clientID = "\xff\xfe" }), closed},
		"a CONNECT of 9 KiB":                {h.with(func(h *hello) { h.password = strings.Repeat("x", 9<<10) }), closed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w.advance(time.Minute) // refusals are paced
			r := w.dial(t)
			go func() { _, _ = r.Write(tt.hello.bytes()) }() // it may be closed halfway
			if tt.code != closed {
				r.expect([]byte{0x20, 2, 0, tt.code})
			}
			r.expectEnd()
		})
	}
	t.Run("MQTT 5, in its own words", func(t *testing.T) {
		r := w.dial(t)
		r.send(h.with(func(h *hello) { h.level = 5 }).bytes())
		head := make([]byte, 4)
		if _, err := io.ReadFull(r, head); err != nil || head[0] != 0x20 || head[3] != packets.ErrUnsupportedProtocolVersion.Code {
			t.Errorf("read %x, %v", head, err)
		}
	})
	w.connections(0)
}

func asksTheRefusedToComeBackLater(t *testing.T, w *world) {
	bad := w.hello("dev-6").with(func(h *hello) { h.password = w.sas("dev-8") })
	var last byte
	for range 20 {
		r := w.dial(t)
		r.send(bad.bytes())
		connack := make([]byte, 4)
		check(t, second(io.ReadFull(r, connack)))
		last = connack[3]
	}
	if last != 3 {
		t.Errorf("CONNACK %d after 20 refusals in no time, want 3", last)
	}
}

func second[T any](_ T, err error) error { return err }

func endsForeignConversations(t *testing.T, w *world) {
	register := registerTopic + "?$rid=1"
	body := `{"registrationId":"dev-7"}`
	tests := map[string][]byte{
		"a subscription to everything":                subscribe(1, "#"),
		"a subscription to every answer, another way": subscribe(1, "$dps/registrations/+/#"),
		"a subscription to one answer":                subscribe(1, "$dps/registrations/res/202/?$rid=1"),
		"a subscription to a hub's topic":             subscribe(1, "$iothub/twin/res/#"),
		"a subscription to the broker's statistics":   subscribe(1, "$SYS/#"),
		"a shared subscription":                       subscribe(1, "$share/x/$dps/registrations/res/#"),
		"the subscription and another one":            subscribe(1, answers, "#"),
		"a subscription to nothing":                   subscribe(1),
		"a subscription of QoS 3":                     subscribe(3, answers),
		"the end of another subscription":             packet(0xa2, []byte{0, 1}, text("#")),
		"a message on another topic":                  publish(2, "devices/dev-7/messages/events/", body),
		"a message on the topic of answers":           publish(2, "$dps/registrations/res/202/?$rid=1", body),
		"a message of QoS 0 on another topic":         publish(0, "x", body),
		"a message on no topic":                       publish(0, "", body),
		"a message without a $rid":                    publish(2, registerTopic+"?rid=1", body),
		"a message with two":                          publish(2, register+"&$rid=2", body),
		"a $rid with a slash":                         publish(2, register+"/2", body),
		"a $rid with a wildcard":                      publish(2, register+"#", body),
		"a $rid of 129 characters":                    publish(2, register+strings.Repeat("1", 129), body),
		"a topic of 1 KiB":                            publish(2, register+"&x="+strings.Repeat("1", 1024), body),
		"a topic that is no text":                     publish(2, register+"\xff", body),
		"a retained message":                          publish(3, register, body),
		"a message of QoS 2":                          publish(4, register, body),
		"a message of QoS 3":                          publish(6, register, body),
		"a repeated message of QoS 0":                 publish(8, register, body),
		"a message with packet id 0":                  packet(0x32, text(register), []byte{0, 0}, []byte(body)),
		"a packet that is too large":                  slices.Concat([]byte{0x30}, length(maxPacket), text(register)),
		"a packet of 256 MiB":                         {0x30, 0xff, 0xff, 0xff, 0x7f},
		"a length that does not end":                  {0x30, 0xff, 0xff, 0xff, 0xff, 0xff},
		"a second CONNECT":                            w.hello("dev-7").bytes(),
		"a CONNACK":                                   accepted,
		"a SUBACK":                                    subscribed,
		"a PUBREC":                                    packet(0x50, []byte{0, 1}),
		"a PUBREL":                                    packet(0x62, []byte{0, 1}),
		"a PUBCOMP":                                   packet(0x70, []byte{0, 1}),
		"an AUTH of MQTT 5":                           packet(0xf0),
		"a packet of type 0":                          packet(0x00),
		"a PINGREQ with a flag":                       {0xc1, 0},
		"a PINGRESP":                                  pingresp,
		"a request in HTTP":                           []byte("GET / HTTP/1.1\r\n\r\n"),
	}
	for name, sent := range tests {
		t.Run(name, func(t *testing.T) {
			r := w.connected(t, "dev-7")
			go func() { _, _ = r.Write(sent) }() // it may be closed halfway
			r.expectEnd()
		})
	}
	w.connections(0)
}

func endsAFlood(t *testing.T, w *world) {
	r := w.connected(t, "dev-7")
	go func() {
		for { // until it is closed
			if _, err := r.Write(pingreq); err != nil {
				return
			}
		}
	}()
	answers, _ := io.ReadAll(r) // its error is how a pipe is closed
	if n := len(answers) / len(pingresp); n == 0 || n > 2*maxPackets {
		t.Errorf("%d packets were answered, want %d or so", n, maxPackets)
	}
	w.connections(0)
}

func takesNothingButCONNECT(t *testing.T, w *world) {
	for name, sent := range map[string][]byte{
		"a PINGREQ":                pingreq,
		"a subscription":           subscribe(1, answers),
		"a request in HTTP":        []byte("GET /$iothub/websocket HTTP/1.1\r\n\r\n"),
		"a CONNECT with flags":     {0x11, 0},
		"a CONNECT of 256 MiB":     {0x10, 0xff, 0xff, 0xff, 0x7f},
		"an empty CONNECT":         {0x10, 0},
		"a length of five octets":  {0x10, 0x80, 0x80, 0x80, 0x80, 0},
		"a CONNECT that is no use": packet(0x10, bytes.Repeat([]byte{0xff}, 100)),
	} {
		t.Run(name, func(t *testing.T) {
			r := w.dial(t)
			go func() { _, _ = r.Write(sent) }() // it is closed halfway
			r.expectEnd()
		})
	}
}

func answersWithTheQoSAskedFor(t *testing.T, w *world) {
	register := publish(0, registerTopic+"?$rid=1", `{"registrationId":"dev-7"}`)
	for name, tt := range map[string]struct{ asked, granted byte }{"0": {0, 0}, "1": {1, 1}, "2, granted as 1": {2, 1}} {
		t.Run(name, func(t *testing.T) {
			r := w.connected(t, "dev-7")
			r.send(subscribe(tt.asked, answers))
			r.expect(packet(0x90, []byte{0, 1, tt.granted}))
			r.send(register)
			if first, _, body := r.read(); first != 0x30|tt.granted<<1 || !json.Valid(body) {
				t.Errorf("header %x, body %s", first, body)
			}
		})
	}
	t.Run("none, and nobody is answered", func(t *testing.T) {
		r := w.connected(t, "dev-7")
		r.send(register)
		r.send(subscribe(1, answers))
		r.expect(subscribed)
		r.send(packet(0xa2, []byte{0, 2}, text(answers)))
		r.expect(packet(0xb0, []byte{0, 2}))
		r.send(register)
		r.send(pingreq)
		r.expect(pingresp)
	})
}

// read reads a PUBLISH: its first octet, packet id (0 for QoS 0) and payload.
func (r raw) read() (first byte, id uint16, payload []byte) {
	r.t.Helper()
	var one [1]byte
	check(r.t, second(io.ReadFull(r, one[:])))
	n, _, err := packets.DecodeLength(byteReader{r})
	check(r.t, err)
	body := make([]byte, n)
	check(r.t, second(io.ReadFull(r, body)))
	rest := body[2+binary.BigEndian.Uint16(body):]
	if one[0]&0x06 != 0 {
		id, rest = binary.BigEndian.Uint16(rest), rest[2:]
	}
	return one[0], id, rest
}

type byteReader struct{ io.Reader }

func (b byteReader) ReadByte() (byte, error) {
	var one [1]byte
	_, err := io.ReadFull(b.Reader, one[:])
	return one[0], err
}

func waitsForAcknowledgements(t *testing.T, w *world) {
	poll := publish(0, statusTopic+"?$rid=1", " ")
	open := func() raw {
		r := w.connected(t, "dev-7")
		r.send(subscribe(1, answers))
		r.expect(subscribed)
		return r
	}
	silent, polite := open(), open()
	ids := map[uint16]bool{}
	for range maxUnacknowledged {
		silent.send(poll)
		_, id, _ := silent.read()
		ids[id] = true
	}
	if len(ids) != maxUnacknowledged || ids[0] {
		t.Errorf("packet ids %v", ids)
	}
	silent.send(poll)
	silent.expectEnd()
	for range 2 * maxUnacknowledged {
		polite.send(poll)
		_, id, _ := polite.read()
		polite.send(packet(0x40, binary.BigEndian.AppendUint16(nil, id)))
	}
}

func boundsConnections(t *testing.T, w *world) {
	w.serve(Options{MaxConnections: 2})
	first, _ := w.connected(t, "dev-7"), w.dial(t)
	w.dial(t).expectEnd()
	check(t, first.Close())
	w.connections(1)
	w.connected(t, "dev-8")
}

func TestAServerThatClosesLetsGoOfEverybody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	served := make(chan error)
	go func() { served <- w.server.Serve(l) }()
	connected, silent := w.connected(t, "dev-7"), w.dial(t)
	unfinished := must(tls.Dial("tcp", w.listen().tls, &tls.Config{InsecureSkipVerify: true}))
	w.connections(3)
	w.server.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	connected.expectEnd()
	silent.expectEnd()
	if _, err := unfinished.Read(make([]byte, 1)); err == nil {
		t.Error("a connection that said nothing goes on")
	}
	w.dial(t).expectEnd()
	if err := w.server.Serve(must(net.Listen("tcp", "127.0.0.1:0"))); err != nil {
		t.Errorf("serving when closed: %v", err)
	}
}

func TestAListenerClosedByItsOwnerIsAnError(t *testing.T) {
	t.Parallel()
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	check(t, l.Close())
	if err := New(wire.Tenants{}, wire.Settings{}, Options{}).Serve(l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("error %v", err)
	}
}

func TestAPanicEndsOneConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bug := false
	w.settings.Now = func() time.Time {
		if bug {
			panic("a bug")
		}
		return w.now()
	}
	w.serve(Options{})
	other, r := w.connected(t, "dev-8"), w.connected(t, "dev-7")
	bug = true
	r.send(publish(0, statusTopic+"?$rid=1", " "))
	r.expectEnd()
	w.connections(1)
	other.send(pingreq)
	other.expect(pingresp)
	if w.panics != 1 || !strings.Contains(w.log.String(), "a bug") {
		t.Errorf("%d panics counted, log:\n%s", w.panics, w.log.String())
	}
}

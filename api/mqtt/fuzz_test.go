package mqtt

import (
	"bytes"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	broker "github.com/mochi-mqtt/server/v2"

	"github.com/passmuster/muster/internal/fault"
)

func FuzzUsername(f *testing.F) {
	for _, seed := range []string{
		idScope + "/registrations/dev-7" + stable, "a/REGISTRATIONS/b/c=d&API-VERSION=2021-06-01", "///", "a/registrations/b/api-version=&api-version=1", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := parseUsername(text)
		if err != nil {
			if !fault.Is(err, fault.Malformed) || fault.RuleOf(err) != "username" {
				t.Errorf("error %v", err)
			}
			return
		}
		if u.apiVersion == "" || strings.Contains(u.idScope+u.registrationID, "/") ||
			!strings.HasPrefix(text, u.idScope+"/") || !strings.Contains(text, "/"+u.registrationID+"/") {
			t.Errorf("%q was read as %+v", text, u)
		}
	})
}

func FuzzTopic(f *testing.F) {
	for _, seed := range []string{
		registerTopic + "?$rid=1", statusTopic + "?operationId=4.7c1a&$rid=e0c1-7f", registerTopic + "?$rid=+", "$dps/registrations/res/#", registerTopic + "?$rid=a&$rid=b", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, topic string) {
		r, ok := parseTopic(topic)
		if !ok {
			return
		}
		out := r.answerTopic(202, "1")
		if !broker.IsValidFilter(out, true) || strings.ContainsAny(out, "+# \x00") || strings.Count(out, "/") != 4 ||
			!strings.HasPrefix(out, "$dps/registrations/res/202/?$rid="+r.rid) {
			t.Errorf("%q is answered on %q", topic, out)
		}
	})
}

// FuzzPackets is whatever comes after a CONNECT, and instead of one.
func FuzzPackets(f *testing.F) {
	w := newWorld(f)
	for _, seed := range [][]byte{
		w.hello("dev-7").bytes(), subscribe(1, answers), publish(2, registerTopic+"?$rid=1", `{"registrationId":"dev-7"}`),
		slices.Concat(subscribe(2, answers), publish(0, statusTopic+"?$rid=1&operationId=x", " "), packet(0x40, []byte{0, 1}), pingreq),
		packet(0x10, text("MQTT"), []byte{5, 2, 0, 60, 5, 0x11, 0, 0, 0, 1}, text("x")), {0xe0, 0}, {0x82, 4, 0, 1, 0, 9},
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	connect := w.hello("dev-7").bytes()
	f.Fuzz(func(t *testing.T, stream []byte, admitted bool) {
		if admitted {
			stream = slices.Concat(connect, stream)
		}
		w.server.serve(newConnection(script{Reader: bytes.NewReader(stream)}), handshake)
		if w.panics > 0 {
			t.Fatal(w.log.String())
		}
	})
}

// script is a connection whose client has written everything already and reads anything.
type script struct{ io.Reader }

func (script) Write(p []byte) (int, error)      { return len(p), nil }
func (script) Close() error                     { return nil }
func (script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (script) SetDeadline(time.Time) error      { return nil }
func (script) SetReadDeadline(time.Time) error  { return nil }
func (script) SetWriteDeadline(time.Time) error { return nil }

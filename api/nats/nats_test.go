package nats

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go"

	"github.com/passmuster/muster/provisioning"
)

func TestADeviceIsDroppedAndKeptOutWhenItIsDisallowed(t *testing.T) {
	t.Parallel()
	w := asking(t)
	first, second := w.enroll("d1"), w.enroll("d2")
	app := w.app()
	heard := must(app.SubscribeSync("devices.*.up"))
	w.must(app.Flush())
	d1, d2 := w.in("d1", first), w.in("d2", second)
	for _, d := range []*client{d1, d2} {
		w.must(d.Publish("devices."+map[*client]string{d1: "d1", d2: "d2"}[d]+".up", nil))
		if m, err := heard.NextMsg(10 * time.Second); err != nil || !strings.HasPrefix(m.Subject, "devices.d") {
			t.Fatalf("the application heard %v, %v", m, err)
		}
	}
	w.must(w.callout.Sweep(t.Context()))
	if !d1.IsConnected() || !d2.IsConnected() || !app.IsConnected() {
		t.Fatal("a sweep dropped somebody who is let in")
	}

	w.disallow(first.Certificate[0])
	w.out("d1 again, from the commit on", first)
	if !d1.IsConnected() {
		t.Fatal("d1 was dropped before anybody looked")
	}
	w.callout.rested = time.Time{}
	w.must(w.callout.Sweep(t.Context()))
	_ = w.ends("d1", d1)
	w.out("d1 after it was dropped", first)
	w.must(d2.FlushTimeout(10 * time.Second))
	w.must(app.FlushTimeout(10 * time.Second))

	w.disallow(w.factory.Cert.Raw) // all that rests on it
	w.callout.rested = time.Time{}
	w.must(w.callout.Sweep(t.Context()))
	_ = w.ends("d2", d2)
	w.out("d2", second)
	w.must(app.FlushTimeout(10 * time.Second)) // which nobody here asked for
}

func TestADeviceHasItsOwnSubjectsAlone(t *testing.T) {
	t.Parallel()
	w := asking(t)
	app := w.app()
	heard := must(app.SubscribeSync("devices.>"))
	w.must(app.Flush())
	d := w.in("press", w.enroll("press"))
	w.in("press.1", w.enroll("press.1"))
	refused := func(what string) {
		t.Helper()
		w.must(d.Flush())
		select {
		case err := <-d.failed:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s: allowed", what)
		}
	}
	for _, subject := range []string{"devices.other.up", "devices.press//1.up", "other", "$SYS.REQ.USER.AUTH", "devices"} {
		w.must(d.Publish(subject, nil))
		refused("publishing to " + subject)
	}
	for _, subject := range []string{">", "devices.>", "devices.*.up", "devices.other.>", "devices.press//1.>", "_INBOX.>"} {
		must(d.SubscribeSync(subject))
		refused("subscribing to " + subject)
	}
	own := must(d.SubscribeSync("devices.press.down"))
	w.must(d.Publish("devices.press.up", []byte("hello")))
	if m, err := heard.NextMsg(10 * time.Second); err != nil || m.Subject != "devices.press.up" || string(m.Data) != "hello" {
		t.Errorf("the application heard %v, %v", m, err)
	}
	w.must(d.Flush())
	go func() {
		if m, err := own.NextMsg(10 * time.Second); err == nil {
			_ = m.Respond([]byte("done"))
		}
	}()
	if m, err := app.Request("devices.press.down", []byte("do"), 10*time.Second); err != nil || string(m.Data) != "done" {
		t.Errorf("asked, it answered %v, %v", m, err)
	}
}

func TestWhoShowsTheWrongThingIsRefused(t *testing.T) {
	t.Parallel()
	w := asking(t)
	d1, d2 := w.enroll("d1"), w.enroll("d2")
	w.in("d1 by its certificate", d1)
	w.in("D1 by name", d1, nats.UserInfo("D1", ""))
	w.out("d1 as d2", d1, nats.UserInfo("d2", ""))
	w.out("d2's certificate as d1", d2, nats.UserInfo("d1", "hunter2"))
	w.out("as the application, without its password", d1, nats.UserInfo("app", "guessed"))
	w.out("a device that never registered", w.factory.Issue(t, "d3").TLS())
	w.out("what the factory signed for d1, which has one of ours", w.factory.Issue(t, "d1").TLS())
	w.out("a name that is none", w.plant.Issue(t, "no device > at all").TLS())
	if _, err := w.connect(tls.Certificate{}, nats.UserInfo("d1", "")); err == nil {
		t.Error("without a certificate: connected")
	}
	must(w.engine.PutHubDevice(t.Context(), operator, provisioning.HubDraft{Hub: hub, ID: id("d2"), Spelled: "d2", Enabled: new(bool)}, provisioning.Precondition{Any: true}))
	w.out("d2, disabled at the hub", d2)
}

func TestAConnectionEndsWithItsUser(t *testing.T) {
	t.Parallel()
	w := asking(t, func(c *Config) { c.AskAgain = 2 * time.Second })
	d1 := w.enroll("d1")
	c := w.in("d1", d1)
	began := time.Now()
	_ = w.ends("after its time", c)
	if lasted := time.Since(began); lasted > 10*time.Second {
		t.Errorf("it lasted %v", lasted)
	}
	if err := <-c.failed; !errors.Is(err, nats.ErrAuthExpired) {
		t.Errorf("it ended with %v", err)
	}
	w.in("d1 again", d1)
}

func TestNobodyComesInWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	w := asking(t)
	d1 := w.enroll("d1")
	open := w.in("d1", d1)
	w.callout.Close()
	if _, err := w.connect(d1); err == nil {
		t.Error("while Muster is away: connected")
	}
	w.must(open.FlushTimeout(10 * time.Second))
	w.open()
	w.in("with Muster back", d1)

	t.Log("a server that starts again is found again, and what it says anew is what it was told")
	w.server.Stop()
	w.server.Start()
	await(t, "Muster is connected again", w.callout.IsConnected)
	w.must(w.callout.conn.Flush())
	w.in("after the server's restart", d1)
}

func TestAnXKeyIsNotGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(false) // questions are only signed
	d1 := w.enroll("d1")
	w.open()
	if _, err := w.connect(d1); err == nil {
		t.Error("unsealed questions were answered, though there is an xkey")
	}
	w.callout.Close()
	w.open(func(c *Config) { c.XKey = nil })
	w.in("without an xkey on either side", d1)
}

func TestASweepGoesThroughAllPages(t *testing.T) {
	t.Parallel()
	w := asking(t)
	w.callout.page = 2
	var devices []*client
	var certs []tls.Certificate
	for _, name := range strings.Fields("d1 d2 d3 d4 d5") {
		certs = append(certs, w.enroll(name))
		devices = append(devices, w.in(name, certs[len(certs)-1]))
	}
	last := must(x509.ParseCertificate(certs[4].Certificate[0]))
	w.disallow(last.Raw)
	w.must(w.callout.Sweep(t.Context()))
	_ = w.ends("the last", devices[4])
	for _, d := range devices[:4] {
		w.must(d.FlushTimeout(10 * time.Second))
	}
}

func TestASweepDropsAllOfAFactoryThatFell(t *testing.T) {
	t.Parallel()
	w := asking(t)
	w.callout.page = 2
	var devices []*client
	for _, name := range strings.Fields("d1 d2 d3 d4 d5") {
		devices = append(devices, w.in(name, w.enroll(name)))
	}
	w.disallow(w.factory.Cert.Raw)
	w.must(w.callout.Sweep(t.Context()))
	for n, d := range devices {
		_ = w.ends(fmt.Sprint("device ", n+1), d)
	}
}

// The MQTT of a nats-server maps topics to subjects; a client there has an id of its own.
func TestADeviceComesByMQTT(t *testing.T) {
	t.Parallel()
	w := asking(t)
	app := w.app()
	heard := must(app.SubscribeSync("devices.>"))
	w.must(app.Flush())
	d1, d2 := w.enroll("d1"), w.enroll("d2")
	dial := func(clientID, user string, own tls.Certificate) (mqtt.Client, error) {
		o := mqtt.NewClientOptions().AddBroker("ssl://" + w.server.MQTT).SetTLSConfig(w.tls(own)).SetClientID(clientID).SetUsername(user).
			SetAutoReconnect(false).SetConnectTimeout(10 * time.Second).SetProtocolVersion(4)
		c := mqtt.NewClient(o)
		token := c.Connect()
		if !token.WaitTimeout(20 * time.Second) {
			t.Fatalf("%s: no answer to CONNECT", clientID)
		}
		if token.Error() == nil {
			t.Cleanup(func() { c.Disconnect(0) })
		}
		return c, token.Error()
	}
	for name, own := range map[string]tls.Certificate{"d1": d1, "d2": d2} {
		c, err := dial(name, "", own)
		w.must(err)
		for _, topic := range []string{"devices/other/up", "devices/" + name + "/up"} {
			if token := c.Publish(topic, 0, false, name); !token.WaitTimeout(10*time.Second) || token.Error() != nil {
				t.Errorf("%s: %v", topic, token.Error())
			}
		}
		m, err := heard.NextMsg(10 * time.Second)
		if err != nil || m.Subject != "devices."+name+".up" || string(m.Data) != name {
			t.Errorf("the application heard %+v, %v of %s", m, err, name)
		}
	}
	for what, x := range map[string]struct {
		id, user string
		own      tls.Certificate
	}{
		"another's id":        {"d2", "", d1},
		"two names":           {"d1", "d2", d1},
		"no device":           {"d/1", "", d1},
		"the user is another": {"d2", "d1", d1},
	} {
		if _, err := dial(x.id, x.user, x.own); err == nil {
			t.Errorf("%s: connected", what)
		}
	}
	again, err := dial("d1", hub+"/d1/?api-version=2021-04-12", d1)
	w.must(err)
	w.disallow(d1.Certificate[0])
	w.must(w.callout.Sweep(t.Context()))
	await(t, "d1 is dropped", func() bool { return !again.IsConnected() })
	if _, err := dial("d1", "", d1); err == nil {
		t.Error("d1 came again")
	}
}

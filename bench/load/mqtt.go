package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/passmuster/muster/test/instance"
)

// holding is what connections cost that have registered and idle.
type holding struct {
	Connections int     `json:"connections"`
	RSSBeforeMB float64 `json:"server_rss_before_mib"`
	RSSAfterMB  float64 `json:"server_rss_after_mib"`
}

// hold has every device of the pool connect, register and stay, and looks at the server's
// memory before the first and after the last.
func (g *generator) hold() (holding, error) {
	before := instance.UsageOf(g.pid)
	open := make([]net.Conn, len(g.pool))
	defer func() {
		for _, c := range open {
			if c != nil {
				_ = c.Close() // it has said all that was to be said
			}
		}
	}()
	errs := make([]error, g.clients)
	var next atomic.Int64
	var clients sync.WaitGroup
	for c := range g.clients {
		clients.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(g.pool)) && errs[c] == nil; i = next.Add(1) - 1 {
				open[i], errs[c] = g.connect(g.pool[i])
			}
		})
	}
	clients.Wait()
	if err := errors.Join(errs...); err != nil {
		return holding{}, err
	}
	time.Sleep(g.settle)
	return holding{Connections: len(open), RSSBeforeMB: before.RSS, RSSAfterMB: instance.UsageOf(g.pid).RSS}, nil
}

const (
	answersTopic  = "$dps/registrations/res/"
	registerTopic = "$dps/registrations/PUT/iotdps-register/?$rid=1"
	answerLimit   = 30 * time.Second
)

// connect opens a connection and registers on it (protocols/dps.md §3).
func (g *generator) connect(d *device) (conn net.Conn, err error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} // as in connection
	if d.tls != nil {
		conf.Certificates = []tls.Certificate{*d.tls}
	}
	conn, err = tls.Dial("tcp", strings.TrimPrefix(g.url, "mqtts://"), conf)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			conn = nil
			err = fmt.Errorf("%s: %w", d.name, err)
		}
	}()
	if err := conn.SetDeadline(time.Now().Add(answerLimit)); err != nil {
		return conn, err
	}
	for _, p := range g.talk(d) {
		if err := p.Write(conn); err != nil {
			return conn, err
		}
	}
	for {
		p, err := packets.ReadPacket(conn)
		if err != nil {
			return conn, err
		}
		switch p := p.(type) {
		case *packets.ConnackPacket:
			if p.ReturnCode != packets.Accepted {
				return conn, fmt.Errorf("CONNACK %d", p.ReturnCode)
			}
		case *packets.PublishPacket:
			if _, err := readRegistered(p.Payload, false); err != nil {
				return conn, fmt.Errorf("%s: %w", p.TopicName, err)
			}
			return conn, conn.SetDeadline(time.Time{})
		}
	}
}

// talk is what a device says.
func (g *generator) talk(d *device) []packets.ControlPacket {
	hello := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	hello.ProtocolName, hello.ProtocolVersion, hello.CleanSession = "MQTT", 4, true
	hello.ClientIdentifier = d.name
	hello.UsernameFlag, hello.Username = true, g.scope+"/registrations/"+d.name+"/api-version="+g.version+"&ClientVersion=load"
	hello.PasswordFlag, hello.Password = d.token != "", []byte(d.token)
	subscribe := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
	subscribe.MessageID, subscribe.Topics, subscribe.Qoss = 1, []string{answersTopic + "#"}, []byte{0}
	register := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	register.TopicName, register.Payload = registerTopic, fmt.Appendf(nil, `{"registrationId":%q}`, d.name)
	return []packets.ControlPacket{hello, subscribe, register}
}

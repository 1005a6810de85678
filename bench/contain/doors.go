package main

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"golang.org/x/crypto/ocsp"

	"github.com/passmuster/muster/test/instance"
)

// device is one that a factory's CA signed.
type device struct {
	name string
	tls  tls.Certificate
	csr  []byte
}

// door makes one request of a device, and returns the status of its answer.
type door func() (int, error)

// doors are requests over DPS, EST and MQTT, on connections of their own that are kept, and over
// DPS and MQTT on fresh ones. The kept ones are open when it returns, and have registered.
func (d device) doors(s *instance.Instance) (list []door, err error) {
	dps, est, fresh := d.client(s, false), d.client(s, false), d.client(s, true)
	mqtt, err := d.connect(s)
	if err != nil {
		return nil, err
	}
	list = []door{
		func() (int, error) { return d.dps(dps, s) }, func() (int, error) { return d.est(est, s) }, mqtt.register,
		func() (int, error) { return d.dps(fresh, s) }, func() (int, error) { return d.freshMQTT(s) },
	}
	for n, open := range list {
		if code, err := open(); err != nil || code >= 300 {
			return nil, fmt.Errorf("door %d answers %d before the act: %w", n, code, err)
		}
	}
	return list, nil
}

func (d device) trusting(s *instance.Instance) *tls.Config {
	pool := x509.NewCertPool()
	if raw, err := os.ReadFile(s.CAFile); err == nil {
		pool.AppendCertsFromPEM(raw)
	}
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{d.tls}, MinVersion: tls.VersionTLS12}
}

func (d device) client(s *instance.Instance, fresh bool) *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: fresh, TLSClientConfig: d.trusting(s)}}
}

func (d device) dps(c *http.Client, s *instance.Instance) (int, error) {
	code, _, err := ask(c, http.MethodPut, s.Devices+"/"+s.IDScope+"/registrations/"+d.name+"/register?api-version=2021-06-01", "application/json",
		`{"registrationId":"`+d.name+`"}`)
	return code, err
}

func (d device) est(c *http.Client, s *instance.Instance) (int, error) {
	code, _, err := ask(c, http.MethodPost, s.Devices+"/.well-known/est/simpleenroll", "application/pkcs10", base64.StdEncoding.EncodeToString(d.csr))
	return code, err
}

func ask(c *http.Client, method, url, mediaType, body string) (int, []byte, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", mediaType)
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }() // all was read
	raw, err := io.ReadAll(resp.Body)
	return resp.StatusCode, raw, err
}

// talk is an MQTT connection to DPS (protocols/dps.md §3).
type talk struct {
	net.Conn
	name    string
	refused bool // CONNECT was; who is refused is disconnected, and asks for nothing more
}

func (d device) connect(s *instance.Instance) (t talk, err error) {
	conn, err := tls.Dial("tcp", strings.TrimPrefix(s.MQTT, "mqtts://"), d.trusting(s))
	if err != nil {
		return t, err
	}
	hello := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	hello.ProtocolName, hello.ProtocolVersion, hello.CleanSession, hello.ClientIdentifier = "MQTT", 4, true, d.name
	hello.UsernameFlag, hello.Username = true, s.IDScope+"/registrations/"+d.name+"/api-version=2021-06-01&ClientVersion=contain"
	if err := errors.Join(conn.SetDeadline(time.Now().Add(20*time.Minute)), hello.Write(conn)); err != nil {
		return t, err
	}
	answer, err := packets.ReadPacket(conn)
	if err != nil {
		return t, err
	}
	if ack, ok := answer.(*packets.ConnackPacket); !ok || ack.ReturnCode != packets.Accepted {
		return talk{conn, d.name, true}, nil
	}
	subscribe := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
	subscribe.MessageID, subscribe.Topics, subscribe.Qoss = 1, []string{"$dps/registrations/res/#"}, []byte{0}
	return talk{conn, d.name, false}, subscribe.Write(conn)
}

// register publishes, and reads until the answer. A refused CONNECT is the status that says so.
func (t talk) register() (int, error) {
	if t.refused {
		return http.StatusUnauthorized, nil
	}
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Payload = "$dps/registrations/PUT/iotdps-register/?$rid=1", fmt.Appendf(nil, `{"registrationId":%q}`, t.name)
	if err := p.Write(t); err != nil {
		return 0, err
	}
	for {
		p, err := packets.ReadPacket(t)
		if err != nil {
			return 0, err
		}
		if p, ok := p.(*packets.PublishPacket); ok {
			status, _, _ := strings.Cut(strings.TrimPrefix(p.TopicName, "$dps/registrations/res/"), "/")
			return strconv.Atoi(status)
		}
	}
}

func (d device) freshMQTT(s *instance.Instance) (int, error) {
	t, err := d.connect(s)
	if err != nil {
		return 0, err
	}
	defer func() { _ = t.Close() }() // it has said all that was to be said
	return t.register()
}

// status asks the responder about a certificate, and wants its signature to be right.
func status(ctx context.Context, s *instance.Instance, leaf, issuer *x509.Certificate) (int, error) {
	question, err := ocsp.CreateRequest(leaf, issuer, &ocsp.RequestOptions{Hash: crypto.SHA256})
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.PKI+"/ocsp", strings.NewReader(string(question)))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/ocsp-request")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }() // all was read
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	answer, err := ocsp.ParseResponseForCert(raw, leaf, issuer)
	if err != nil {
		return 0, err
	}
	return answer.Status, nil
}

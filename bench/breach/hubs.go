package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/passmuster/muster/test/instance"
)

// door is the built-in hub's own API, as an application asks it.
type door struct {
	base, token string
	http        *http.Client
}

func (f *fleet) door() (*door, error) {
	token, err := f.server.HubToken(time.Hour)
	return &door{f.server.Devices, token, &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		MaxIdleConnsPerHost: atOnce, TLSClientConfig: &tls.Config{RootCAs: f.roots},
	}}}, err
}

// is wants a device to have a status there: enabled, disabled.
func (h *door) is(ctx context.Context, d *device, want string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.base+"/devices/"+d.name+"?api-version=2021-04-12", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", h.token)
	resp, err := h.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var is struct{ Status string }
	if err := json.NewDecoder(resp.Body).Decode(&is); err != nil {
		return fmt.Errorf("%s on the built-in hub: %d: %w", d.name, resp.StatusCode, err)
	}
	if is.Status != want {
		return fmt.Errorf("%s is %q on the built-in hub, want %s", d.name, is.Status, want)
	}
	return nil
}

// brokerDoor is the broker as devices see it.
type brokerDoor struct {
	address string
	roots   *x509.CertPool
}

func doorOf(b *instance.Broker) (brokerDoor, error) {
	text, err := os.ReadFile(b.CAFile)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return brokerDoor{"tls://" + b.Devices, pool}, err
}

// open is a device's connection to the broker.
type open struct {
	mqtt.Client
	device *device
	lost   chan struct{}
}

// connect connects a device with its own certificate; an error is the broker's refusal.
func (b brokerDoor) connect(d *device) (*open, error) {
	c := &open{device: d, lost: make(chan struct{})}
	c.Client = mqtt.NewClient(mqtt.NewClientOptions().AddBroker(b.address).SetClientID(d.name + "-" + rand.Text()).
		SetTLSConfig(&tls.Config{RootCAs: b.roots, Certificates: []tls.Certificate{d.own}}).
		SetAutoReconnect(false).SetProtocolVersion(4).SetConnectTimeout(30 * time.Second).
		SetConnectionLostHandler(func(mqtt.Client, error) { close(c.lost) }))
	token := c.Connect()
	token.Wait()
	return c, token.Error()
}

// works wants the broker to give a device back what it publishes.
func (c *open) works() error {
	heard := make(chan struct{}, 1)
	topic := "dt/" + c.device.name
	c.Subscribe(topic, 1, func(mqtt.Client, mqtt.Message) { heard <- struct{}{} }).Wait()
	c.Publish(topic, 1, false, "hello")
	select {
	case <-heard:
		return nil
	case <-time.After(20 * time.Second):
		return fmt.Errorf("%s hears nothing on %s", c.device.name, topic)
	}
}

// isDropped wants the broker to have ended a connection.
func (c *open) isDropped() error {
	select {
	case <-c.lost:
		return nil
	case <-time.After(10 * time.Second):
		return fmt.Errorf("%s is still connected to the broker", c.device.name)
	}
}

// shut wants the broker to refuse a device.
func (b brokerDoor) shut(d *device) error {
	c, err := b.connect(d)
	if err == nil {
		c.Disconnect(0)
		return fmt.Errorf("%s is let in by the broker", d.name)
	}
	return nil
}

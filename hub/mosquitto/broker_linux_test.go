package mosquitto_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/passmuster/muster/hub/hubtest"
	"github.com/passmuster/muster/hub/mosquitto"
	"github.com/passmuster/muster/internal/callout"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/test/instance"
)

const hubName = "mqtt.example.net"

// world is a CA and a real Mosquitto that trusts it.
type world struct {
	testing.TB
	broker *instance.Broker
	root   *testkit.Entity

	mu      sync.Mutex
	revoked []*big.Int
	number  int64
}

func newWorld(t testing.TB, edits ...func(*instance.Broker)) *world {
	t.Helper()
	w := &world{TB: t, broker: &instance.Broker{Folder: t.TempDir()}, root: testkit.Root(t, "Muster test CA")}
	w.broker.Trusts, w.broker.CRLFile = w.path("ca.pem"), w.path("crls.pem")
	w.write("ca.pem", w.root.PEM())
	w.write("crls.pem", w.crls())
	for _, edit := range edits {
		edit(w.broker)
	}
	if err := w.broker.Prepare(); err != nil {
		t.Fatal(err)
	}
	w.start()
	t.Cleanup(func() {
		w.broker.Stop()
		if t.Failed() {
			t.Logf("the broker said:\n%s", w.broker.Log())
		}
	})
	return w
}

func (w *world) start() {
	w.Helper()
	if err := w.broker.Start(); err != nil {
		w.Fatal(err)
	}
}

func (w *world) path(name string) string { return filepath.Join(w.broker.Folder, name) }

func (w *world) write(name string, data []byte) {
	w.Helper()
	if err := os.WriteFile(w.path(name), data, 0o600); err != nil {
		w.Fatal(err)
	}
}

func (w *world) read(name string) []byte {
	w.Helper()
	data, err := os.ReadFile(w.path(name))
	if err != nil {
		w.Fatal(err)
	}
	return data
}

// ctrl does what an operator of the broker does.
func (w *world) ctrl(args ...string) {
	w.Helper()
	if err := w.broker.Ctrl(args...); err != nil {
		w.Fatal(err)
	}
}

// crls is the CA's list, of a new number.
func (w *world) crls() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.number++
	list := &x509.RevocationList{Number: big.NewInt(w.number), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, serial := range w.revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: time.Now().Add(-time.Second)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, w.root.Cert, w.root.Key)
	if err != nil {
		w.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// revoke is what the CA does before a hub is told.
func (w *world) revoke(leaf *testkit.Entity) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.revoked = append(w.revoked, leaf.Cert.SerialNumber)
}

// pool is who vouches for the broker.
func (w *world) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(w.read("server.pem"))
	return pool
}

// driver is one that keeps the broker's CRL file, unless an edit takes that away.
func (w *world) driver(edits ...func(*mosquitto.Broker)) *mosquitto.Driver {
	b := mosquitto.Broker{CRLFile: w.path("crls.pem"), PIDFile: w.broker.PIDFile}
	for _, edit := range edits {
		edit(&b)
	}
	return mosquitto.New(mosquitto.Options{
		Callout: callout.Options{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Roots: w.pool()},
		Brokers: map[string]mosquitto.Broker{hubName: b},
		CRLs:    func(context.Context) ([]byte, error) { return w.crls(), nil },
	})
}

func (w *world) access(edits ...func(*url.URL)) provisioning.HubAccess {
	u, err := url.Parse(w.broker.Address())
	if err != nil {
		w.Fatal(err)
	}
	for _, edit := range edits {
		edit(u)
	}
	return provisioning.HubAccess{IDScope: "0neTEST", Hub: hubName, URL: u.String()}
}

// Access is how the broker is reached.
func (w *world) Access() provisioning.HubAccess { return w.access() }

// Keyless says that a broker knows certificates alone.
func (w *world) Keyless() {}

// holds reads the file that the plugin keeps.
func (w *world) holds() (list []held) {
	var all struct{ Clients []held }
	if err := json.Unmarshal(w.read("dynsec.json"), &all); err != nil {
		w.Fatal(err)
	}
	return all.Clients
}

type held struct {
	Username, TextDescription string
	Disabled                  bool
	Roles                     []struct{ RoleName string }
}

// names are of the clients that are Muster's.
func (w *world) names() (list []string) {
	for _, c := range w.holds() {
		if c.Username != instance.BrokerOperator {
			list = append(list, c.Username)
		}
	}
	return list
}

// Device is what the broker holds of a device.
func (w *world) Device(id string) (hubtest.Device, bool) {
	for _, c := range w.holds() {
		if c.Username != id {
			continue
		}
		var d struct {
			Muster struct {
				Present, IoTEdge bool
				Type             provisioning.HubAuthType
				Thumbprints      [2]string
			}
		}
		if err := json.Unmarshal([]byte(c.TextDescription), &d); err != nil {
			w.Fatalf("the description of %s: %v", id, err)
		}
		enabled := !c.Disabled && len(c.Roles) == 1 && c.Roles[0].RoleName == "device"
		m := d.Muster
		return hubtest.Device{Enabled: enabled, IoTEdge: m.IoTEdge, Type: m.Type, Thumbprints: m.Thumbprints}, m.Present
	}
	return hubtest.Device{}, false
}

// device is a client of the broker with a certificate.
type device struct {
	paho.Client
	lost chan error
}

// connect connects as a device; an error is the broker's refusal.
func (w *world) connect(leaf *testkit.Entity) (*device, error) {
	d := &device{lost: make(chan error, 1)}
	d.Client = paho.NewClient(paho.NewClientOptions().AddBroker("tls://" + w.broker.Devices).SetClientID(leaf.Name + "-" + rand.Text()).
		SetTLSConfig(&tls.Config{RootCAs: w.pool(), Certificates: []tls.Certificate{leaf.TLS()}}).
		SetAutoReconnect(false).SetProtocolVersion(4).SetConnectTimeout(5 * time.Second).
		SetConnectionLostHandler(func(_ paho.Client, err error) { d.lost <- err }))
	token := d.Connect()
	if !token.WaitTimeout(10 * time.Second) {
		w.Fatal("the broker does not answer a device")
	}
	if token.Error() == nil {
		w.Cleanup(func() { d.Disconnect(0) })
	}
	return d, token.Error()
}

func (w *world) connected(leaf *testkit.Entity) *device {
	w.Helper()
	d, err := w.connect(leaf)
	if err != nil {
		w.Fatalf("%s is refused: %v", leaf.Name, err)
	}
	return d
}

// works says whether the device hears what it publishes.
func (d *device) works(t testing.TB, topic string) bool {
	t.Helper()
	heard := make(chan struct{}, 1)
	subscribed := d.Subscribe(topic, 1, func(paho.Client, paho.Message) { heard <- struct{}{} })
	if !subscribed.WaitTimeout(5*time.Second) || subscribed.Error() != nil {
		return false
	}
	if subscribed.(*paho.SubscribeToken).Result()[topic] >= 0x80 {
		return false
	}
	d.Publish(topic, 1, false, "hello")
	select {
	case <-heard:
		return true
	case <-time.After(2 * time.Second):
		return false
	}
}

// isDropped waits for the broker to end the connection.
func (d *device) isDropped(t testing.TB) {
	t.Helper()
	select {
	case <-d.lost:
	case <-time.After(5 * time.Second):
		t.Error("the connection is still open")
	}
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within 10 s: " + what)
		}
	}
}

package mqtt

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/go-cmp/cmp"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/verify"
)

// device is a client of Eclipse Paho, connected and subscribed.
type device struct {
	t       testing.TB
	client  paho.Client
	answers chan answered
}

type answered struct{ topic, body string }

// operation is what tests read of an answer.
type operation struct {
	ID        string `json:"operationId"`
	Status    string `json:"status"`
	ErrorCode int    `json:"errorCode"`
	Message   string `json:"message"`
	State     struct {
		RegistrationID, AssignedHub, DeviceID, Status string

		SymmetricKey *struct{ EnrollmentGroupID string }
		X509         *struct{ EnrollmentGroupID string }
		Chain        [][]byte `json:"issuedCertificateChain"`
	} `json:"registrationState"`
}

const patience = 30 * time.Second

// options are those of a device at an address: a token or a certificate is its credential.
func (w *world) options(address, id, version, token string, own *tls.Certificate) *paho.ClientOptions {
	config := &tls.Config{InsecureSkipVerify: true}
	if own != nil {
		config.Certificates = []tls.Certificate{*own}
	}
	return paho.NewClientOptions().AddBroker(address).SetTLSConfig(config).SetProtocolVersion(4).
		SetClientID(id).SetUsername(idScope + "/registrations/" + id + version).SetPassword(token).
		SetAutoReconnect(false).SetConnectTimeout(patience)
}

func (w *world) transports() map[string]string {
	return map[string]string{"TLS": "ssl://" + w.tls, "WebSocket": "wss://" + w.webSocket + "/$iothub/websocket"}
}

func (w *world) connect(t testing.TB, o *paho.ClientOptions) *device {
	t.Helper()
	d := &device{t: t, answers: make(chan answered, 64)}
	o.SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) {
		d.answers <- answered{m.Topic(), string(m.Payload())}
	})
	d.client = paho.NewClient(o)
	d.wait(d.client.Connect())
	t.Cleanup(func() { d.client.Disconnect(0) })
	d.wait(d.client.Subscribe(answers, 1, nil))
	return d
}

func (d *device) wait(token paho.Token) {
	d.t.Helper()
	if !token.WaitTimeout(patience) {
		d.t.Fatal("no acknowledgement")
	}
	check(d.t, token.Error())
}

// ask publishes and reads the answer, which must come on one topic.
func (d *device) ask(topic, payload, want string) operation {
	d.t.Helper()
	d.wait(d.client.Publish(topic, 1, false, payload))
	select {
	case a := <-d.answers:
		if a.topic != want {
			d.t.Fatalf("answered on %s, want %s: %s", a.topic, want, a.body)
		}
		var op operation
		check(d.t, json.Unmarshal([]byte(a.body), &op))
		return op
	case <-time.After(patience):
		d.t.Fatal("no answer")
		return operation{}
	}
}

func (d *device) register(rid, payload, want string) operation {
	d.t.Helper()
	return d.ask(registerTopic+"?$rid="+rid, payload, "$dps/registrations/res/"+want+"/?$rid="+rid)
}

func TestADevice(t *testing.T) {
	t.Parallel()
	w := newWorld(t).listen()
	t.Run("registers and polls", func(t *testing.T) { registersAndPolls(t, w) })
	t.Run("connects under user names of any shape that clients send", func(t *testing.T) { connectsUnderAnyUserName(t, w) })
	t.Run("registers without a payload as who it connected", func(t *testing.T) { registersWithoutPayload(t, w) })
	t.Run("sends as much as a message of Azure's may hold", func(t *testing.T) { sendsLargePayloads(t, w) })
	t.Run("is told errors as over HTTPS", func(t *testing.T) { isToldErrorsAsOverHTTPS(t, w) })
	t.Run("opens a WebSocket in one way", func(t *testing.T) { opensWebSocketsInOneWay(t, w) })
}

func registersAndPolls(t *testing.T, w *world) {
	for transport, address := range w.transports() {
		t.Run("with a key derived from a group's, over "+transport, func(t *testing.T) {
			id := "Pump-" + transport
			d := w.connect(t, w.options(address, id, stable, w.sas(id), nil))
			op := d.register("e0c1-7f", fmt.Sprintf(`{"registrationId":%q,"payload":{"model":"pump-7"}}`, id), "202")
			if op.Status != "assigned" || op.State.AssignedHub != hubName || op.State.RegistrationID != id ||
				op.State.SymmetricKey == nil || op.State.SymmetricKey.EnrollmentGroupID != "sas-line" || op.State.Chain != nil {
				t.Errorf("operation %+v", op)
			}
			polled := d.ask(statusTopic+"?$rid=1&operationId="+op.ID, " ", "$dps/registrations/res/200/?$rid=1")
			if diff := cmp.Diff(op, polled); diff != "" {
				t.Errorf("the poll differs from the registration (-registered +polled):\n%s", diff)
			}
		})
		t.Run("with a certificate, asking for another, over "+transport, func(t *testing.T) {
			own, key := w.factory.Get("dev-1").TLS(), testkit.NewKey(t, "p256")
			d := w.connect(t, w.options(address, "dev-1", preview, "", &own))
			csr := base64.StdEncoding.EncodeToString(testkit.CSR(t, key, "dev-1"))
			op := d.register("1", fmt.Sprintf(`{"registrationId":"dev-1","csr":%q}`, csr), "202")
			if op.Status != "assigned" || op.State.X509 == nil || op.State.X509.EnrollmentGroupID != "line-3" || len(op.State.Chain) != 3 {
				t.Fatalf("operation %+v", op)
			}
			leaf := must(x509.ParseCertificate(op.State.Chain[0]))
			if !key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(leaf.PublicKey) {
				t.Error("the certificate is of another key")
			}
			polled := d.ask(statusTopic+"?$rid=1&operationId="+op.ID, "{}", "$dps/registrations/res/200/?$rid=1")
			if diff := cmp.Diff(op, polled); diff != "" {
				t.Errorf("the poll differs from the registration (-registered +polled):\n%s", diff)
			}
		})
	}
	if connects, publishes := w.answered("CONNECT", 200), w.answered("PUBLISH", 202); connects != 4 || publishes != 4 {
		t.Errorf("%d CONNECT and %d PUBLISH were observed, want 4 and 4", connects, publishes)
	}
	for _, secret := range []string{"SharedAccessSignature", "sig=", "Pump-TLS"} {
		if strings.Contains(w.log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

func connectsUnderAnyUserName(t *testing.T, w *world) {
	id := "Var-1"
	for name, tt := range map[string]struct{ username, token string }{
		"without a ClientVersion":         {idScope + "/registrations/Var-1/api-version=2019-03-31", w.sas(id)},
		"in another order and case":       {strings.ToLower(idScope) + "/Registrations/Var-1/clientversion=a/b&API-Version=2021-06-01", w.sas(id)},
		"with a token that is encoded":    {idScope + "/registrations/Var-1/api-version=2019-03-31", w.sas(id, testkit.Encoded())},
		"with parameters nobody knows":    {idScope + "/registrations/Var-1/x&api-version=2019-03-31&=&y=z", w.sas(id)},
		"with a date that is yet to come": {idScope + "/registrations/Var-1/api-version=2031-01-01", w.sas(id)},
	} {
		t.Run(name, func(t *testing.T) {
			o := w.options("ssl://"+w.tls, "var-1", "", tt.token, nil).SetUsername(tt.username)
			if op := w.connect(t, o).register("1", `{"registrationId":"VAR-1"}`, "202"); op.Status != "assigned" {
				t.Errorf("operation %+v", op)
			}
		})
	}
}

func registersWithoutPayload(t *testing.T, w *world) {
	d := w.connect(t, w.options("ssl://"+w.tls, "dev-7", stable, w.sas("dev-7"), nil))
	if op := d.register("1", "", "202"); op.State.RegistrationID != "dev-7" {
		t.Errorf("operation %+v", op)
	}
}

func sendsLargePayloads(t *testing.T, w *world) {
	body := `{"registrationId":"dev-7","payload":{"log":"` + strings.Repeat("x", 96<<10) + `"}}`
	for transport, address := range w.transports() {
		d := w.connect(t, w.options(address, "dev-7", stable, w.sas("dev-7"), nil))
		if op := d.register("1", body, "202"); op.Status != "assigned" {
			t.Errorf("over %s: operation %+v", transport, op)
		}
	}
}

func isToldErrorsAsOverHTTPS(t *testing.T, w *world) {
	d := w.connect(t, w.options("ssl://"+w.tls, "dev-7", stable, w.sas("dev-7"), nil))
	tests := map[string]struct {
		topic, payload string
		status, code   int
	}{
		"another registration in the body": {registerTopic + "?$rid=1", `{"registrationId":"dev-8"}`, 400, 400000},
		"no registration in the body":      {registerTopic + "?$rid=1", `{}`, 400, 400000},
		"a body that is no JSON":           {registerTopic + "?$rid=1", `{registrationId: dev-7}`, 400, 400000},
		"TPM, which MQTT never carries":    {registerTopic + "?$rid=1", `{"registrationId":"dev-7","tpm":{"endorsementKey":"AA=="}}`, 400, 400000},
		"an operation that is not there":   {statusTopic + "?$rid=1&operationId=4.7c1a", " ", 404, 404202},
		"no operation":                     {statusTopic + "?$rid=1", " ", 400, 400000},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			op := d.ask(tt.topic, tt.payload, fmt.Sprintf("$dps/registrations/res/%d/?$rid=1", tt.status))
			if op.ErrorCode != tt.code || op.Message == "" {
				t.Errorf("answer %+v", op)
			}
		})
	}
}

func TestADeviceDisabledAfterItsCONNECTIsRefusedAtItsPUBLISH(t *testing.T) {
	t.Parallel()
	w := newWorld(t).listen()
	own := w.factory.Get("dev-1").TLS()
	certified := w.connect(t, w.options("ssl://"+w.tls, "dev-1", stable, "", &own))
	keyed := w.connect(t, w.options("ssl://"+w.tls, "dev-7", stable, w.sas("dev-7"), nil))
	certified.register("1", `{"registrationId":"dev-1"}`, "202")
	op := keyed.register("1", `{"registrationId":"dev-7"}`, "202")
	w.disable("line-3")
	w.disable("sas-line")
	for name, got := range map[string]operation{
		"a certificate": certified.register("2", `{"registrationId":"dev-1"}`, "401"),
		"a key":         keyed.register("2", `{"registrationId":"dev-7"}`, "401"),
		"a key, a poll": keyed.ask(statusTopic+"?$rid=3&operationId="+op.ID, " ", "$dps/registrations/res/401/?$rid=3"),
	} {
		if got.ErrorCode != 401002 || got.Message != "Unauthorized" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	t.Run("and its next CONNECT is refused and explained", func(t *testing.T) {
		o := w.options("ssl://"+w.tls, "dev-7", stable, w.sas("dev-7"), nil).SetConnectRetry(false)
		token := paho.NewClient(o).Connect()
		if !token.WaitTimeout(patience) || token.Error() == nil || !strings.Contains(strings.ToLower(token.Error().Error()), "not authorized") {
			t.Fatalf("connected, or another error: %v", token.Error())
		}
		id := must(verify.ParseRegistrationID("dev-7"))
		x := must(w.engine.Explain(t.Context(), id, nil))
		if x.LastRefusal == nil || x.LastRefusal.Rule != "enrollment-disabled" || x.LastRefusal.Door != "mqtt" || x.LastRefusal.Address != "127.0.0.1" {
			t.Errorf("remembered %+v", x.LastRefusal)
		}
		if w.answered("CONNECT", 401) != 1 {
			t.Error("the refusal was not observed")
		}
	})
}

// A registration id is no name in the broker: neither a stranger nor the device's own second
// connection ends the first, and each hears only what it asked.
func TestAClientIDTakesNothingFromAnotherConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t).listen()
	first := w.connect(t, w.options("ssl://"+w.tls, "dev-7", stable, w.sas("dev-7"), nil).SetCleanSession(false))
	second := w.connect(t, w.options("ssl://"+w.tls, "dev-7", stable, w.sas("dev-7"), nil).SetCleanSession(false))
	stranger := paho.NewClient(w.options("ssl://"+w.tls, "dev-7", stable, w.sas("dev-8"), nil).SetConnectRetry(false)).Connect()
	if !stranger.WaitTimeout(patience) || stranger.Error() == nil {
		t.Fatal("a stranger connected")
	}
	first.register("first", `{"registrationId":"dev-7"}`, "202")
	second.register("second", `{"registrationId":"dev-7"}`, "202")
	for name, d := range map[string]*device{"first": first, "second": second} {
		if !d.client.IsConnectionOpen() || len(d.answers) > 0 {
			t.Errorf("the %s: open %t, %d answers that it did not ask for", name, d.client.IsConnectionOpen(), len(d.answers))
		}
	}
	first.client.Disconnect(100)
	w.connections(1)
	resumed := w.connect(t, w.options("ssl://"+w.tls, "dev-7", stable, w.sas("dev-7"), nil).SetCleanSession(false))
	if len(resumed.answers) > 0 {
		t.Error("something outlived a connection")
	}
}

func opensWebSocketsInOneWay(t *testing.T, w *world) {
	token := w.sas("dev-7")
	for name, edit := range map[string]func(*paho.ClientOptions){
		"elsewhere": func(o *paho.ClientOptions) {
			o.Servers = []*url.URL{must(url.Parse("wss://" + w.webSocket + "/mqtt"))}
		},
		"from a page of another origin": func(o *paho.ClientOptions) {
			o.SetHTTPHeaders(map[string][]string{"Origin": {"https://elsewhere.example"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := w.options("wss://"+w.webSocket+"/$iothub/websocket", "dev-7", stable, token, nil).SetConnectRetry(false)
			edit(o)
			connecting := paho.NewClient(o).Connect()
			if !connecting.WaitTimeout(patience) || connecting.Error() == nil {
				t.Error("it connected")
			}
		})
	}
}

package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/passmuster/muster/internal/testkit"
)

// A device that Muster issued a certificate to comes to a NATS server and to EMQX, which ask; it is
// disallowed, dropped by the one, and refused by both.
func TestBrokersAreAnswered(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	out, _ := h.init("--root-key-out", h.path("root-key.pem"))
	bearer := []string{"Authorization", "Bearer " + strings.TrimPrefix(strings.SplitN(out, "\n", 2)[0], "MUSTER_TOKEN="), "Content-Type", "application/json"}
	at := h.fixPorts("devices", "admin", "pki", "ops")

	seeds := map[string]nkeys.KeyPair{}
	for name, create := range map[string]func() (nkeys.KeyPair, error){
		"user": nkeys.CreateUser, "system": nkeys.CreateUser, "issuer": nkeys.CreateAccount, "xkey": nkeys.CreateCurveKeys,
	} {
		key, err := create()
		if err != nil {
			t.Fatal(err)
		}
		seed, err := key.Seed()
		if err != nil {
			t.Fatal(err)
		}
		seeds[name] = key
		h.write(name+".seed", string(seed)+"\n", 0o600)
	}
	public := func(name string) string {
		text, err := seeds[name].PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	plant := testkit.Root(t, "plant")
	own := plant.Issue(t, "muster")
	h.write("plant.pem", string(plant.PEM()), 0o600)
	h.write("muster.pem", string(own.PEM()), 0o600)
	h.write("muster.key", string(testkit.KeyPEM(t, own.Key)), 0o600)
	_, stop := h.start() // which writes ca.pem
	stop()
	server := testkit.NewNATSServer(t, plant, append(plant.PEM(), h.read("data/ca.pem")...), fmt.Sprintf(`
system_account: SYS
accounts: {SYS: {users: [{nkey: %s}]}, AUTH: {users: [{nkey: %s}]}, DEVICES: {}}
authorization: {auth_callout: {issuer: %s, account: AUTH, auth_users: [%s, %s], xkey: %s}}
`, public("system"), public("user"), public("issuer"), public("user"), public("system"), public("xkey")))
	h.write("muster.yaml", h.read("muster.yaml")+fmt.Sprintf(`
brokers:
  askAgain: 10m
  nats: {url: "tls://%s", hub: hub-1.example.net, account: DEVICES, userFile: %q, issuerFile: %q, xkeyFile: %q, systemFile: %q, caFile: %q, certificate: %q, key: %q}
`, server.Address, h.path("user.seed"), h.path("issuer.seed"), h.path("xkey.seed"), h.path("system.seed"), h.path("plant.pem"), h.path("muster.pem"), h.path("muster.key")), 0o600)
	said, _ := h.start()
	client := h.client()
	metric := func(line string) func() bool {
		return func() bool {
			_, _, text := ask(t, client, http.MethodGet, "http://"+at["ops"]+"/metrics", "")
			return strings.Contains(string(text), "\n"+line+"\n")
		}
	}
	said.await(t, "NATS is connected", metric("muster_nats_connected 1"))
	api := func(method, path, body string, into any) {
		t.Helper()
		code, _, answer := ask(t, client, method, "https://"+at["admin"]+path, body, bearer...)
		if code >= 300 {
			t.Fatalf("%s %s: %d %s", method, path, code, answer)
		}
		if err := json.Unmarshal(answer, into); err != nil {
			t.Fatal(err)
		}
	}
	var token struct{ Token string }
	api(http.MethodPost, "/api/v1/tokens", `{"name": "emqx", "scopes": ["hub"]}`, &token)
	device := h.enrolledTwice(at, bearer)
	leaf := device.Certificate[0]
	emqx := func() (got struct{ Result, Reason string }) {
		t.Helper()
		_, _, answer := ask(t, client, http.MethodPost, "https://"+at["admin"]+"/hub/v1/emqx",
			fmt.Sprintf(`{"clientid": "dev-1", "username": "", "password": "", "cert_pem": %q, "hub": "hub-1.example.net"}`, base64.StdEncoding.EncodeToString(leaf)),
			"Authorization", "Bearer "+token.Token, "Content-Type", "application/json")
		if err := json.Unmarshal(answer, &got); err != nil {
			t.Fatalf("%s: %v", answer, err)
		}
		return got
	}
	roots := x509.NewCertPool()
	roots.AddCert(plant.Cert)
	closed := make(chan struct{})
	connect := func() (*nats.Conn, error) {
		return nats.Connect("tls://"+server.Address, nats.Secure(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{device}, MinVersion: tls.VersionTLS12}),
			nats.NoReconnect(), nats.Timeout(10*time.Second), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	}
	open, err := connect()
	if err != nil {
		t.Fatalf("the device at NATS: %v", err)
	}
	defer open.Close()
	if got := emqx(); got.Result != "allow" {
		t.Fatalf("the device at EMQX: %+v", got)
	}

	named, preview := fmt.Sprintf(`{"certificate": %q`, testkit.PEM(parsed(t, leaf))), struct{ Preview string }{}
	api(http.MethodPost, "/api/v1/disallowances/preview", named+"}", &preview)
	api(http.MethodPost, "/api/v1/disallowances", named+fmt.Sprintf(`, "preview": %q}`, preview.Preview), &struct{}{})
	if got := emqx(); got.Result != "deny" || got.Reason != "credential-differs" {
		t.Errorf("disallowed, at EMQX: %+v", got)
	}
	if again, err := connect(); err == nil {
		again.Close()
		t.Error("disallowed, it comes to NATS again")
	}
	select {
	case <-closed:
	case <-time.After(30 * time.Second):
		t.Fatalf("its open connection is not dropped; the server said:\n%s", said)
	}
	said.await(t, "the log says so", func() bool { return strings.Contains(said.String(), "a client of NATS is dropped") })
	if !metric(`muster_broker_checks_total{broker="nats",outcome="deny",reason="credential-differs"} 1`)() {
		t.Error("it was not counted")
	}
}

func parsed(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// enrolledTwice is dev-1, which enrolled with a key and then with the certificate it got: by that its
// hub knows it.
func (h host) enrolledTwice(at map[string]string, bearer []string) (own tls.Certificate) {
	h.t.Helper()
	key := base64.StdEncoding.EncodeToString([]byte("a symmetric key of 32 bytes!!!!!"))
	if code, _, body := ask(h.t, h.client(), http.MethodPut, "https://"+at["admin"]+"/api/v1/enrollments/dev-1",
		fmt.Sprintf(`{"attestation":{"type":"symmetricKey","symmetricKey":{"primaryKey":%q,"secondaryKey":%q}},"credentialPolicyName":"default"}`, key, key), bearer...); code >= 300 {
		h.t.Fatalf("PUT enrollment: %d %s", code, body)
	}
	client, header := h.client(), []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("dev-1:"+key))}
	for _, operation := range []string{"simpleenroll", "simplereenroll"} {
		private := testkit.NewKey(h.t, "p256")
		csr := base64.StdEncoding.EncodeToString(testkit.CSR(h.t, private, "dev-1"))
		leaf := h.wantLeaf(ask(h.t, client, http.MethodPost, "https://"+at["devices"]+"/.well-known/est/"+operation, csr, append(header, "Content-Type", "application/pkcs10")...))
		own = tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: private}
		client, header = h.client(), nil
		client.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{own}
	}
	return own
}

func TestBrokersAreSetUpSafely(t *testing.T) {
	t.Parallel()
	whole := natsConfig{URL: "tls://nats.example.net:4222", Account: "DEVICES", UserFile: "user.seed", IssuerFile: "issuer.seed"}
	for what, x := range map[string]struct {
		edit func(*brokersConfig)
		want string
	}{
		"as it is":                {func(*brokersConfig) {}, ""},
		"on this host":            {func(c *brokersConfig) { c.NATS.URL = "nats://127.0.0.1:4222, nats://localhost:4223" }, ""},
		"in the clear":            {func(c *brokersConfig) { c.NATS.URL = "tls://a.example.net,nats://b.example.net:4222" }, "write: brokers: {nats: {url: tls://b.example.net:4222}}"},
		"a password in the URL":   {func(c *brokersConfig) { c.NATS.URL = "tls://a:b@nats.example.net" }, "brokers.nats.url"},
		"no address":              {func(c *brokersConfig) { c.NATS.URL = "nats.example.net" }, "brokers.nats.url"},
		"without an account":      {func(c *brokersConfig) { c.NATS.Account = "" }, "brokers.nats.account is missing"},
		"without an issuer":       {func(c *brokersConfig) { c.NATS.IssuerFile = "" }, "brokers.nats.issuerFile is missing"},
		"a certificate alone":     {func(c *brokersConfig) { c.NATS.Certificate = "x.pem" }, "certificate and key go together"},
		"asked too often":         {func(c *brokersConfig) { c.AskAgain = time.Second }, "brokers.askAgain"},
		"hardly ever asked":       {func(c *brokersConfig) { c.AskAgain = 30 * 24 * time.Hour }, "brokers.askAgain"},
		"a seed that others read": {func(c *brokersConfig) { c.NATS.UserFile = "testdata" }, "can be read by others"},
	} {
		c := brokersConfig{NATS: whole}
		x.edit(&c)
		if err := c.check(); (err == nil) != (x.want == "") || err != nil && !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", what, err, x.want)
		}
	}
}

package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// tenant is what somebody of one id scope holds.
type tenant struct {
	idScope, token string
	serviceKey     []byte // of provisioningserviceowner
	hubKey         []byte // of iothubowner
	deviceKey      []byte // of the device dev-1, which every tenant has
	leaf           tls.Certificate
	adminCursor    string
	serviceCursor  string
}

// landlord is one development server with several tenants.
type landlord struct {
	t                    *testing.T
	admin, devices, mqtt string
	roots                *x509.CertPool
	client               *http.Client
	address              *atomic.Uint32 // the last one that was called from
}

// showing is a client that shows certificates, and calls from another address each time: who is
// refused is paced by name and address, and a 429 would hide what this test asks.
func (l landlord) showing(certificates ...tls.Certificate) *http.Client {
	dial := func(ctx context.Context, network, to string) (net.Conn, error) {
		n := l.address.Add(1)
		from := &net.TCPAddr{IP: net.IPv4(127, 1, byte(n>>8), byte(n))}
		return (&net.Dialer{LocalAddr: from}).DialContext(ctx, network, to)
	}
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DialContext: dial, DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: l.roots, Certificates: certificates},
	}}
}

// newLandlord makes the data folder with further id scopes in it, and serves them all.
func newLandlord(t *testing.T, further ...string) (landlord, []*tenant) {
	t.Helper()
	h := newHost(t)
	var tenants []*tenant
	tokens := map[string]string{}
	for _, id := range further {
		code, out, talk := h.muster("scope", "create", "--data", h.path("dev"), "--hub", "local", id)
		if code != exitDone {
			t.Fatalf("scope create: exit %d: %s", code, talk)
		}
		tokens[id] = between(out, "MUSTER_TOKEN=", "\n")
	}
	ctx, stop := context.WithCancel(context.Background())
	r, w := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"serve", "--dev", "--data", h.path("dev"), "--devices", "127.0.0.1:0", "--admin", "127.0.0.1:0",
			"--pki", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"}, streams{strings.NewReader(""), w, w})
		_ = w.Close()
	}()
	t.Cleanup(func() {
		stop()
		if code := <-done; code != exitDone {
			t.Errorf("serve: exit %d", code)
		}
	})
	first := make([]byte, 4096)
	if _, err := r.Read(first); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	env := h.read(filepath.Join("dev", "dev.env"))
	value := func(name string) string { return strings.Trim(between(env, name+"=", "\n"), "'") }
	l := landlord{t: t, admin: value("MUSTER_ADMIN_URL"), devices: value("MUSTER_DEVICE_URL"), mqtt: value("MUSTER_MQTT_URL")}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(h.read("dev/ca.pem")))
	l.roots, l.address = roots, new(atomic.Uint32)
	l.client = l.showing()

	tenants = append(tenants, &tenant{idScope: value("MUSTER_ID_SCOPE"), token: value("MUSTER_TOKEN")})
	for _, id := range further {
		tenants = append(tenants, &tenant{idScope: id, token: tokens[id]})
	}
	for _, x := range tenants {
		l.furnish(x)
	}
	return l, tenants
}

// call makes one request and returns its status and body.
func (l landlord) call(method, address, body string, header ...string) (int, string, http.Header) {
	l.t.Helper()
	return l.callBy(l.client, method, address, body, header...)
}

func (l landlord) callBy(c *http.Client, method, address, body string, header ...string) (int, string, http.Header) {
	l.t.Helper()
	req, err := http.NewRequestWithContext(l.t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header
}

// must is call for what has to go well.
func (l landlord) must(method, address, body string, header ...string) (string, http.Header) {
	l.t.Helper()
	status, text, h := l.call(method, address, body, header...)
	if status >= 300 {
		l.t.Fatalf("%s %s: %d %s", method, address, status, text)
	}
	return text, h
}

// furnish gives a tenant what this test tries in the other tenants: all of them have the
// same names, so that nothing but the credential tells them apart.
func (l landlord) furnish(x *tenant) {
	l.t.Helper()
	bearer := []string{"Authorization", "Bearer " + x.token}
	api := l.admin + "/api/v1"
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	l.must("PUT", api+"/groups/line", fmt.Sprintf(
		`{"attestation":{"type":"symmetricKey","symmetricKey":{"primaryKey":%q}},"credentialPolicyName":"default"}`,
		base64.StdEncoding.EncodeToString(key)), bearer...)
	for _, id := range []string{"only-" + strings.ToLower(x.idScope), "zz-1", "zz-2"} {
		l.must("PUT", api+"/enrollments/"+id, `{"attestation":{"type":"symmetricKey"}}`, bearer...)
	}
	x.deviceKey = mac(key, "dev-1")
	for plane, to := range map[string]*[]byte{"service/provisioningserviceowner": &x.serviceKey, "hub/iothubowner": &x.hubKey} {
		text, _ := l.must("POST", api+"/access/"+plane+"/keys", "", bearer...)
		var keys struct{ PrimaryKey []byte }
		if err := json.Unmarshal([]byte(text), &keys); err != nil || len(keys.PrimaryKey) == 0 {
			l.t.Fatalf("keys of %s: %s %v", plane, text, err)
		}
		*to = keys.PrimaryKey
	}
	private, der := l.csr("dev-1")
	text, _ := l.must("PUT", l.register(x, x.idScope), `{"registrationId":"dev-1","csr":"`+base64.StdEncoding.EncodeToString(der)+`"}`,
		"Authorization", x.deviceToken(x.idScope))
	var op struct {
		RegistrationState struct{ IssuedCertificateChain [][]byte }
	}
	if err := json.Unmarshal([]byte(text), &op); err != nil || len(op.RegistrationState.IssuedCertificateChain) == 0 {
		l.t.Fatalf("registering in %s: %s", x.idScope, text)
	}
	x.leaf = tls.Certificate{Certificate: op.RegistrationState.IssuedCertificateChain, PrivateKey: private}

	text, _ = l.must("GET", api+"/enrollments?limit=1", "", bearer...)
	x.adminCursor = between(text, `"next":"`, `"`)
	_, h := l.must("POST", l.devices+"/enrollments/query?api-version=2021-10-01", `{"query":"SELECT * FROM enrollments"}`,
		"Authorization", x.serviceToken(), "x-ms-max-item-count", "1")
	x.serviceCursor = h.Get("x-ms-continuation")
	if x.adminCursor == "" || x.serviceCursor == "" {
		l.t.Fatalf("cursors of %s: %q, %q", x.idScope, x.adminCursor, x.serviceCursor)
	}
}

func (l landlord) csr(name string) (*ecdsa.PrivateKey, []byte) {
	l.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		l.t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		l.t.Fatal(err)
	}
	return key, der
}

func (l landlord) register(_ *tenant, in string) string {
	return l.devices + "/" + in + "/registrations/dev-1/register?api-version=2025-07-01-preview"
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func sas(resource, policy string, key []byte) string {
	expiry := strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)
	signature := base64.StdEncoding.EncodeToString(mac(key, resource+"\n"+expiry))
	return "SharedAccessSignature sr=" + resource + "&sig=" + url.QueryEscape(signature) + "&se=" + expiry + "&skn=" + policy
}

func (x *tenant) deviceToken(in string) string {
	return sas(in+"/registrations/dev-1", "registration", x.deviceKey)
}

func (x *tenant) serviceToken() string {
	return sas("localhost", "provisioningserviceowner", x.serviceKey)
}
func (x *tenant) hubToken() string { return sas("localhost", "iothubowner", x.hubKey) }

// What is good in one id scope is nothing in another: every credential of every tenant is
// tried in every other.
func TestNothingOfOneIDScopeWorksInAnother(t *testing.T) {
	l, tenants := newLandlord(t, "0neAcme", "0neBolt")
	for _, x := range tenants {
		for _, y := range tenants {
			t.Run(x.idScope+" in "+y.idScope, func(t *testing.T) {
				l := l
				l.t = t
				l.try(x, y)
			})
		}
	}
}

// try uses x's credentials in y. Where x is y they work, or the rest would prove nothing.
func (l landlord) try(x, y *tenant) {
	own := x == y
	good := func(what string, worked bool, told string) {
		l.t.Helper()
		if strings.Contains(told, "too often") {
			l.t.Fatalf("%s: paced: %s", what, told)
		}
		if worked != own {
			l.t.Errorf("%s: worked is %v, want %v: %s", what, worked, own, told)
		}
	}
	ok := func(status int) bool { return status < 300 }

	// Device doors: the request names y, the credential is x's.
	status, text, _ := l.call("PUT", l.register(x, y.idScope), `{"registrationId":"dev-1"}`, "Authorization", x.deviceToken(y.idScope))
	good("a token of the device's key", ok(status), text)
	status, text, _ = l.call("PUT", l.register(x, y.idScope), `{"registrationId":"dev-1"}`, "Authorization", x.deviceToken(x.idScope))
	good("a token for the other's resource", ok(status), text)
	status, text, _ = l.callBy(l.showing(x.leaf), "PUT", l.register(x, y.idScope), `{"registrationId":"dev-1"}`)
	good("a certificate issued there", ok(status), text)
	_, der := l.csr("dev-1")
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("dev-1:"+base64.StdEncoding.EncodeToString(x.deviceKey)))
	status, text, _ = l.call("POST", l.devices+"/.well-known/est/"+y.idScope+"/simpleenroll", base64.StdEncoding.EncodeToString(der),
		"Authorization", basic, "Content-Type", "application/pkcs10")
	good("the device's key over EST", ok(status), text)

	// Operators: x's token, rewritten to name y.
	_, secret, _ := strings.Cut(strings.TrimPrefix(x.token, "mst_"), "_")
	forged := "Bearer mst_" + y.idScope + "_" + secret
	status, text, _ = l.call("GET", l.admin+"/api/v1/enrollments", "", "Authorization", forged)
	good("an operator's token", ok(status), text)
	arm := l.devices + "/subscriptions/s/resourceGroups/g/providers/Microsoft.Devices/provisioningServices/p/certificates?api-version=2022-02-05"
	status, text, _ = l.call("GET", arm, "", "Authorization", forged)
	good("an operator's token at the certificates API", ok(status), text)

	// Where the key says whose request it is, x's key must never show what is y's.
	mine := `"only-` + strings.ToLower(y.idScope) + `"`
	status, text, _ = l.call("POST", l.devices+"/enrollments/query?api-version=2021-10-01", `{"query":"SELECT * FROM enrollments"}`, "Authorization", x.serviceToken())
	good("the service key", ok(status) && strings.Contains(text, mine), text)
	status, text, _ = l.call("GET", l.devices+"/enrollments/only-"+strings.ToLower(y.idScope)+"?api-version=2021-10-01", "", "Authorization", x.serviceToken())
	good("the service key for one enrollment", ok(status), text)
	status, text, _ = l.call("GET", l.devices+"/devices/dev-1?api-version=2021-04-12", "", "Authorization", sas("localhost", "iothubowner", x.serviceKey))
	if ok(status) {
		l.t.Errorf("the service key opens the hub: %s", text)
	}
	status, text, _ = l.call("GET", l.devices+"/devices/dev-1?api-version=2021-04-12", "", "Authorization", x.hubToken())
	if !ok(status) {
		l.t.Errorf("the hub key in its own id scope: %d %s", status, text)
	}

	// Cursors: x's, brought back with y's credential.
	status, text, _ = l.call("GET", l.admin+"/api/v1/enrollments?limit=1&cursor="+url.QueryEscape(x.adminCursor), "", "Authorization", "Bearer "+y.token)
	good("a cursor of the admin API", ok(status), text)
	status, text, _ = l.call("POST", l.devices+"/enrollments/query?api-version=2021-10-01", `{"query":"SELECT * FROM enrollments"}`,
		"Authorization", y.serviceToken(), "x-ms-max-item-count", "1", "x-ms-continuation", x.serviceCursor)
	good("a continuation of the service API", ok(status), text)
}

// Names that are reserved, or of somebody else, are no id scope.
func TestARequestThatNamesNoTenantIsRefusedWhereThereAreSeveral(t *testing.T) {
	l, tenants := newLandlord(t, "0neAcme")
	for name, c := range map[string]struct {
		method, address string
		status          int
	}{
		"EST without a label":         {"GET", "/.well-known/est/cacerts", http.StatusOK}, // the server's first
		"EST with a tenant's label":   {"GET", "/.well-known/est/" + tenants[1].idScope + "/cacerts", http.StatusOK},
		"DPS for an unknown id scope": {"PUT", "/0neNobody/registrations/dev-1/register?api-version=2021-06-01", http.StatusNotFound},
	} {
		body := bytes.NewBufferString("{}").String()
		if status, text, _ := l.call(c.method, l.devices+c.address, body); status != c.status {
			t.Errorf("%s: %d, want %d: %s", name, status, c.status, text)
		}
	}
	if status, text, _ := l.call("GET", l.admin+"/api/v1/enrollments", "", "Authorization", "Bearer mst_0neNobody_AAAA"); status != http.StatusUnauthorized {
		t.Errorf("a token of nobody: %d %s", status, text)
	}
}

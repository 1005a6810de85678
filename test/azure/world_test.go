package azure_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/store/storetest"
	"github.com/passmuster/muster/test/instance"
)

// object is a JSON object.
type object = map[string]any

// world is a server, the SDKs, and what was seen of them.
type world struct {
	*instance.Instance
	node *driver
	host string // as the SDKs are told
	env  map[string]string
	seen evidence

	unwatched bool // the SDKs run as they are: of MQTT nothing is seen
}

// binary builds the server once for the test process.
func binary(t *testing.T) string {
	t.Helper()
	if given := os.Getenv("MUSTER_BIN"); given != "" {
		return given
	}
	path, err := instance.Build(context.Background(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// serve starts a server, by c but for its binary and data.
func serve(t *testing.T, c instance.Config) *world {
	t.Helper()
	c.Binary, c.Data = binary(t), filepath.Join(t.TempDir(), "data")
	s, err := instance.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { storetest.LintFolder(t, c.Data) })
	t.Cleanup(s.Kill)
	return &world{Instance: s, host: "localhost", env: readEnv(t, filepath.Join(c.Data, "dev.env")), seen: evidence{}}
}

// newWorld is a server on ports of its own, with the SDKs pointed at it.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := serve(t, instance.Config{})
	w.node = startDriver(t, w.CAFile, &ports{HTTPS: portOf(t, w.Devices), MQTTS: portOf(t, w.env["MUSTER_MQTT_URL"])})
	return w
}

func portOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

func readEnv(t *testing.T, path string) map[string]string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	env := map[string]string{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		name, value, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "export "), "=")
		env[name] = strings.Trim(value, "'")
	}
	return env
}

// device has a device act over a transport; what names the row of the page.
func (w *world) device(t *testing.T, transport, what string, d object) call {
	t.Helper()
	request := object{"client": "device", "call": "register", "transport": transport, "host": w.host, "idScope": w.IDScope}
	for name, value := range d {
		request[name] = value
	}
	return call{t, w, operation{transport, what}, w.node.perform(t, request)}
}

// service calls a method of the service client, with all rights.
func (w *world) service(t *testing.T, method string, args ...any) call {
	t.Helper()
	return w.serviceAs(t, w.env["MUSTER_SERVICE_CONNECTION_STRING"], method, args...)
}

func (w *world) serviceAs(t *testing.T, connectionString, method string, args ...any) call {
	t.Helper()
	return call{t, w, operation{"service", method}, w.node.perform(t, object{
		"client": "service", "call": method, "connectionString": connectionString, "args": append([]any{}, args...)})}
}

// serviceByToken calls a method of the service client with an operator's token.
func (w *world) serviceByToken(t *testing.T, token, method string, args ...any) call {
	t.Helper()
	return call{t, w, operation{"service", byToken + method}, w.node.perform(t, object{
		"client": "service", "call": method, "host": w.host, "token": token, "args": append([]any{}, args...)})}
}

// byToken is before the name of a method in the row of a client that was given a token
// credential instead of a connection string.
const byToken = "fromTokenCredential, "

// registry calls a method of the hub's registry client, with all rights.
func (w *world) registry(t *testing.T, method string, args ...any) call {
	t.Helper()
	return w.registryAs(t, w.env["MUSTER_HUB_CONNECTION_STRING"], method, args...)
}

func (w *world) registryAs(t *testing.T, connectionString, method string, args ...any) call {
	t.Helper()
	return call{t, w, operation{"registry", method}, w.node.perform(t, object{
		"client": "registry", "call": method, "connectionString": connectionString, "args": append([]any{}, args...)})}
}

const (
	resourceGroup = "factory"
	serviceName   = "muster"
)

// certificates calls a method of the management client's certificates.
func (w *world) certificates(t *testing.T, method string, args ...any) call {
	t.Helper()
	return w.certificatesAs(t, w.env["MUSTER_TOKEN"], method, args...)
}

func (w *world) certificatesAs(t *testing.T, token, method string, args ...any) call {
	t.Helper()
	return call{t, w, operation{"management", method}, w.node.perform(t, object{
		"client": "management", "call": method, "endpoint": w.env["MUSTER_ARM_URL"], "token": token, "args": append([]any{}, args...)})}
}

// admin makes a change by the admin API.
func (w *world) admin(t *testing.T, method, path string, body any) {
	t.Helper()
	if err := w.Call(t.Context(), method, path, body, nil); err != nil {
		t.Fatal(err)
	}
}

// admit lets the devices of a CA in, by a group of the name of the CA.
func (w *world) admit(t *testing.T, name string, ca authority) {
	t.Helper()
	base := filepath.Join(t.TempDir(), "ca")
	writeFile(t, base+".crt", ca.cert)
	writeFile(t, base+".key", ca.key)
	if err := w.Admit(t.Context(), name, base, true); err != nil {
		t.Fatal(err)
	}
}

// authority is a CA in PEM.
type authority struct{ cert, key string }

func authorityOf(t *testing.T, e *testkit.Entity) authority {
	t.Helper()
	return authority{string(e.PEM()), string(testkit.KeyPEM(t, e.Key))}
}

// identity is how a device with a certificate is told to register: the certificate and
// what of its chain it shows.
func identity(id, chain, key string) object {
	return object{"registrationId": id, "cert": chain, "certKey": key}
}

func identityOf(t *testing.T, e *testkit.Entity) object {
	t.Helper()
	return identity(e.Cert.Subject.CommonName, string(testkit.PEM(e.Chain()...)), string(testkit.KeyPEM(t, e.Key)))
}

func withKey(id string, key []byte) object {
	return object{"registrationId": id, "key": base64.StdEncoding.EncodeToString(key)}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

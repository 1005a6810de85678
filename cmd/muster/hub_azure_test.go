package main

import (
	"encoding/pem"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/passmuster/muster/hub/hubtest"
	"github.com/passmuster/muster/internal/testkit"
)

// operator runs commands against a server in production.
type operator struct{ host }

// does runs a command that ends with a code, and returns what it printed.
func (o operator) does(want int, args ...string) (out, talk string) {
	o.t.Helper()
	code, out, talk := o.muster(args...)
	if code != want {
		o.t.Fatalf("muster %s: exit %d, want %d:\n%s%s", strings.Join(args, " "), code, want, out, talk)
	}
	return out, talk
}

// until runs a command until its output matches.
func (o operator) until(said *screen, pattern string, args ...string) {
	o.t.Helper()
	lines := regexp.MustCompile("(?m)" + pattern)
	said.await(o.t, pattern, func() bool { out, _ := o.does(exitDone, args...); return lines.MatchString(out) })
}

// A device lives on an Azure IoT Hub that vouches for itself by a CA of the configuration. It
// is assigned when the hub has it, shut out there when its intermediate is stolen, and let in again.
func TestADeviceLivesOnAnAzureIoTHub(t *testing.T) {
	hub := hubtest.NewIoTHub(t)
	o := operator{newHost(t)}
	out, _ := o.init("--keep-root")
	o.write("hub-roots.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: hub.Certificate().Raw})), 0o600)
	o.write("muster.yaml", strings.NewReplacer("networks: []", "networks: [127.0.0.0/8]", `caFile: ""`, "caFile: "+o.path("hub-roots.pem")).Replace(o.read("muster.yaml")), 0o600)
	o.write("conn.txt", hub.Connection("iothubowner")+"\n", 0o600)
	at := o.fixPorts("admin", "devices")
	t.Setenv("MUSTER_TOKEN", strings.TrimPrefix(strings.SplitN(out, "\n", 2)[0], "MUSTER_TOKEN="))
	t.Setenv("MUSTER_ADMIN_URL", "https://"+at["admin"])
	t.Setenv("MUSTER_CA_FILE", o.path("data/ca.pem"))
	t.Setenv("MUSTER_DEVICE_URL", "https://"+at["devices"])
	said, _ := o.start()
	t.Setenv("MUSTER_ID_SCOPE", between(said.String(), `"idScope":"`, `"`))

	link := []string{"hub", "link", "press.azure-devices.net", "--driver", "azure", "--to-file", o.path("conn.txt")}
	if out, talk := o.does(exitDone, link...); !strings.Contains(out, "endpoint\t"+hub.URL+"\n") || strings.Contains(out+talk, "b3duZXI") || strings.Contains(out, "key\t") {
		t.Errorf("linking printed:\n%s%s", out, talk)
	}
	o.does(exitDone, "hub", "test", "press.azure-devices.net")

	f := testkit.Chain(t, "root > mid > press-1")
	o.write("root.pem", string(f.Get("root").PEM()), 0o600)
	o.write("mid.pem", string(f.Get("mid").PEM()), 0o600)
	o.write("chain.pem", string(testkit.PEM(f.Get("press-1").Chain()...)), 0o600)
	o.write("press-1.key", string(testkit.KeyPEM(t, f.Get("press-1").Key)), 0o600)
	o.does(exitDone, "verify", "upload", "factory", o.path("root.pem"))
	code, _ := o.does(exitDone, "verify", "code", "factory", "-o", "name")
	o.write("proof.pem", string(testkit.PEM(f.Get("root").Prove(t, strings.TrimSpace(code)))), 0o600)
	o.does(exitDone, "verify", "prove", "factory", o.path("proof.pem"))
	o.does(exitDone, "group", "create", "line", "--signing-certificate", o.path("mid.pem"), "--hub", "press.azure-devices.net")
	register := []string{"device", "register", "press-1", "--factory-cert", o.path("chain.pem"), "--factory-key", o.path("press-1.key"), "--dir"}

	var throttled atomic.Bool
	throttled.Store(true)
	hub.Answers(func(w http.ResponseWriter, _ *http.Request) bool {
		if !throttled.Load() {
			return false
		}
		w.Header().Set("Retry-After", "1")
		w.Header().Set("iothub-errorcode", "ThrottlingException")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, "{}")
		return true
	})
	registered := make(chan string)
	go func() {
		_, out, talk := o.muster(append(register, o.path("d1"))...)
		registered <- out + talk
	}()
	o.until(said, `^press-1\t.*assigning`, "reg", "list")
	o.until(said, `^problem\tthe hub answered 429 ThrottlingException$`, "hub", "show", "press.azure-devices.net", "-o", "wide")
	throttled.Store(false)
	if got := <-registered; !strings.Contains(got, "press.azure-devices.net") {
		t.Fatalf("the device is told:\n%s", got)
	}
	if d, there := hub.Device("press-1"); !there || !d.Enabled || d.Thumbprints[0] == "" {
		t.Fatalf("the hub has %+v", d)
	}

	throttled.Store(true)
	out, _ = o.does(exitDone, "disallow", "start", o.path("mid.pem"), "--yes", "-o", "name")
	id := strings.TrimSpace(out)
	o.until(said, `^hub press.azure-devices.net\t0 of 1 confirmed`, "disallow", "show", id)
	if d, _ := hub.Device("press-1"); !d.Enabled {
		t.Error("the hub did what it was not told")
	}
	throttled.Store(false)
	o.does(exitDone, "disallow", "watch", id, "--every", "200ms", "--for", "1m")
	if d, there := hub.Device("press-1"); !there || d.Enabled {
		t.Errorf("the hub has %+v", d)
	}
	if report, _ := o.does(exitDone, "disallow", "report", id); !strings.Contains(report, "| press.azure-devices.net | 1 | 1 | 0 |") {
		t.Errorf("the report says:\n%s", report)
	}
	o.does(exitRefused, append(register, o.path("d2"))...)

	o.does(exitDone, "disallow", "lift", id, "--yes")
	said.await(t, "it is let in again", func() bool { d, _ := hub.Device("press-1"); return d.Enabled })
	if strings.Contains(said.String(), "b3duZXI") {
		t.Error("the log holds the hub's key")
	}
}

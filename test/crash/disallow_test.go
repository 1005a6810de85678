package crash_test

import (
	"encoding/base64"
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/device"
	"github.com/passmuster/muster/hub/hubtest"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/internal/testpg"
	"github.com/passmuster/muster/test/instance"
)

// shutOutLimit is how long a hub may wait for what was decided before a kill: whoever was telling it
// had it for a minute.
const shutOutLimit = 2 * time.Minute

func TestADisallowanceIsCarriedToItsHubThoughTheServerIsKilledBeforeTheHubHasAnswered(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { killedAfterTheAct(t, "") })
	t.Run("PostgreSQL", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "dsn")
		if err := os.WriteFile(file, []byte(testpg.DSN(t)), 0o600); err != nil {
			t.Fatal(err)
		}
		killedAfterTheAct(t, file)
	})
}

// killedAfterTheAct kills the server a moment after the act was answered, while the hub hangs: what
// was answered holds at the door from the first request of the next server on, and the hub is told.
func killedAfterTheAct(t *testing.T, dsnFile string) {
	c := instance.Config{Binary: binary(t), Data: folder(t), DSNFile: dsnFile, Devices: address(t), Admin: address(t), PKI: address(t)}
	s := start(t, c)
	hub := hubtest.NewReceiver(t)
	factory := testkit.Chain(t, "factory > press-1")
	admitAt(t, s, hub, factory.Get("factory"))
	press := pressOf(t, siteOf(t, s), factory.Get("press-1"))
	if err := press(); err != nil {
		t.Fatal(err)
	}
	if d, there := hub.Device("press-1"); !there || !d.Enabled {
		t.Fatalf("before the act its hub holds %+v", d)
	}

	hang := make(chan struct{})
	hub.Answers(func(http.ResponseWriter) bool { <-hang; return true })
	stolen := instance.Object{"certificate": string(factory.Get("factory").PEM())}
	var preview struct{ Preview string }
	must(t, s.Call(t.Context(), http.MethodPost, "/disallowances/preview", stolen, &preview))
	stolen["preview"] = preview.Preview
	var act struct{ ID, State string }
	must(t, s.Call(t.Context(), http.MethodPost, "/disallowances", stolen, &act))
	time.Sleep(rand.N(100 * time.Millisecond)) // the hub may have been called by then, or not
	s.Kill()
	close(hang)
	hub.Answers(nil)

	s = start(t, c)
	var refused *device.Refused
	if err := press(); !errors.As(err, &refused) || refused.HTTPStatus != http.StatusUnauthorized {
		t.Errorf("the first request after the restart: %v, want 401 (INV-D1)", err)
	}
	for late := time.Now().Add(shutOutLimit); act.State != "done"; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("%s is %s; the server said:\n%s", act.ID, act.State, s.Log())
		}
		must(t, s.Call(t.Context(), http.MethodGet, "/disallowances/"+act.ID, nil, &act))
	}
	if d, there := hub.Device("press-1"); !there || d.Enabled {
		t.Errorf("it is done, and its hub holds %v %+v", there, d)
	}
	must(t, s.Stop())
	doctor(t, c)
}

// admitAt lets in what a CA signs, onto a hub behind a webhook.
func admitAt(t *testing.T, s *instance.Instance, hub *hubtest.Receiver, authority *testkit.Entity) {
	t.Helper()
	const name = "hub-2.example.net"
	var linked struct{ Key string }
	must(t, s.Call(t.Context(), http.MethodPut, "/hubs/"+name, instance.Object{"driver": "webhook", "url": hub.URL}, &linked))
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(linked.Key, "whsec_"))
	must(t, err)
	hub.SignedWith(key)
	base := filepath.Join(t.TempDir(), "factory")
	must(t, os.WriteFile(base+".crt", authority.PEM(), 0o600))
	must(t, os.WriteFile(base+".key", testkit.KeyPEM(t, authority.Key), 0o600))
	must(t, s.Admit(t.Context(), "factory", base, true))
	// Of two groups that hold a CA the first by name decides.
	must(t, s.Call(t.Context(), http.MethodPut, "/groups/at-the-hub", instance.Object{
		"attestation": instance.Object{"type": "x509", "x509": instance.Object{"signingCertificates": instance.Object{"primary": instance.Object{"certificate": string(authority.PEM())}}}},
		"iotHubs":     []string{name}, "allocationPolicy": "static",
	}, nil))
}

// pressOf is a device that registers when it is called, on a connection of its own.
func pressOf(t *testing.T, at site, leaf *testkit.Entity) func() error {
	return func() error {
		own := leaf.TLS()
		client, err := device.New(device.Config{
			URL: at.url, IDScope: at.scope, RegistrationID: "press-1", CA: at.roots, Credential: device.Credential{Certificate: &own},
		})
		if err != nil {
			return err
		}
		defer client.Close()
		_, err = client.Register(t.Context(), device.Request{})
		return err
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

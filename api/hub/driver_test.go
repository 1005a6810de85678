package hub_test

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/passmuster/muster/hub/azure"
	"github.com/passmuster/muster/hub/hubtest"
	"github.com/passmuster/muster/internal/callout"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// another is the built-in hub of another Muster, which a driver is linked to over TLS.
type another struct {
	*world
	server *httptest.Server
	calls  *atomic.Int64
}

func newAnother(t testing.TB) another {
	w := newWorld(t)
	w.now = time.Now() // of the driver's tokens
	a := another{world: w, calls: new(atomic.Int64)}
	a.server = httptest.NewTLSServer(http.HandlerFunc(func(to http.ResponseWriter, r *http.Request) {
		a.calls.Add(1)
		w.door.ServeHTTP(to, r)
	}))
	t.Cleanup(a.server.Close)
	return a
}

func (a another) driver() *azure.Driver {
	roots := x509.NewCertPool()
	roots.AddCert(a.server.Certificate())
	return azure.New(callout.Options{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Roots: roots})
}

func (a another) access(policy string) provisioning.HubAccess {
	return provisioning.HubAccess{IDScope: "0neTEST", Hub: hubName, URL: "HostName=" + hubName + ";SharedAccessKeyName=" + policy +
		";SharedAccessKey=" + base64.StdEncoding.EncodeToString(a.tenants[0].keys[policy]) + ";GatewayHostName=" + strings.TrimPrefix(a.server.URL, "https://")}
}

func (a another) Access() provisioning.HubAccess { return a.access(provisioning.HubOwner) }

func (a another) Device(id string) (hubtest.Device, bool) {
	d, err := a.engine().HubDevice(a.t.Context(), hubName, must(verify.ParseRegistrationID(id)), operator)
	if fault.Is(err, fault.NotFound) {
		return hubtest.Device{}, false
	}
	check(a.t, err)
	out := hubtest.Device{Enabled: d.Enabled, IoTEdge: d.IoTEdge, Type: d.Auth.Type, Thumbprints: d.Auth.Thumbprints}
	for slot := range out.Keys {
		out.Keys[slot] = base64.StdEncoding.EncodeToString(d.Auth.Keys[rotation.Slot(slot)].Reveal())
	}
	return out, true
}

// A Muster may be told of its devices by another one, as if it were an Azure IoT Hub.
func TestTheBuiltInHubOfAnotherMusterIsToldAsAnIoTHubIs(t *testing.T) {
	hubtest.Run(t, newAnother(t).driver(), hubtest.ForgetsRemoved, func(t testing.TB) hubtest.Hub { return newAnother(t) })
}

func TestAnotherMusterIsToldOfAHundredDevicesAtOnce(t *testing.T) {
	a := newAnother(t)
	list := make([]provisioning.HubIdentity, 100)
	for i := range list {
		id := must(verify.ParseRegistrationID(fmt.Sprintf("press-%d", i)))
		list[i] = provisioning.HubIdentity{
			Hub: hubName, DeviceID: id.String(), RegistrationID: id, Generation: 10, Present: true, Enabled: true,
			Auth: provisioning.HubAuth{Type: provisioning.HubSelfSigned, Thumbprints: [2]string{strings.Repeat("A", 64)}},
		}
	}
	check(t, errors.Join(a.driver().Apply(t.Context(), a.Access(), list)...))
	for i := range list {
		list[i].Generation, list[i].Enabled = 20, false
	}
	a.calls.Store(0)
	check(t, errors.Join(a.driver().Apply(t.Context(), a.Access(), list)...))
	if n := a.calls.Load(); n != 2 {
		t.Errorf("it took %d calls", n)
	}
	if total, off, err := a.engine().HubCount(t.Context(), hubName); err != nil || total != 100 || off != 100 {
		t.Errorf("%d of %d are disabled, %v", off, total, err)
	}
}

// What another Muster's policy does not allow is said by a test, before a device needs it.
func TestAnotherMustersPoliciesAreTested(t *testing.T) {
	a := newAnother(t)
	for policy, want := range map[string]string{provisioning.HubOwner: "", "registryreadwrite": "", "registryread": "hub-unavailable", "service": "hub-unavailable", "device": "hub-unavailable"} {
		if err := a.driver().Test(t.Context(), a.access(policy)); fault.RuleOf(err) != want {
			t.Errorf("%s: %v", policy, err)
		}
	}
	if total, _, err := a.engine().HubCount(t.Context(), hubName); err != nil || total != 0 {
		t.Errorf("%d devices, %v", total, err)
	}
}

package azure_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/passmuster/muster/hub/azure"
	"github.com/passmuster/muster/hub/hubtest"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// tell applies, and wants all of it confirmed.
func tell(t *testing.T, hub *hubtest.IoTHub, list []provisioning.HubIdentity) {
	t.Helper()
	if err := errors.Join(driver(hub).Apply(t.Context(), hub.Access(), list)...); err != nil {
		t.Fatal(err)
	}
}

// later is what is said next of the same devices.
func later(list []provisioning.HubIdentity, edit func(*provisioning.HubIdentity)) []provisioning.HubIdentity {
	list = slices.Clone(list)
	for i := range list {
		list[i].Generation += 10
		edit(&list[i])
	}
	return list
}

func shut(i *provisioning.HubIdentity) { i.Enabled = false }

func TestAHundredDevicesAreOneQueryAndOneBulk(t *testing.T) {
	hub := hubtest.NewIoTHub(t)
	list := presses(t, 100)
	tell(t, hub, list)
	tell(t, hub, later(list, shut))
	if hub.Calls("POST /devices") != 2 || hub.Calls("POST /devices/query") != 2 || hub.Calls("GET /devices/") != 0 || hub.Calls("PUT /devices/") != 0 {
		t.Error("it took other calls")
	}
	for _, want := range list {
		if d, there := hub.Device(want.DeviceID); !there || d.Enabled {
			t.Errorf("%s: there %v, %+v", want.DeviceID, there, d)
		}
	}
	if got := hub.Reason("press-7"); got != "Muster 20: what attested the device is disallowed" {
		t.Errorf("the reason is %q", got)
	}
}

func TestLongIDsAreAskedForInPieces(t *testing.T) {
	hub := hubtest.NewIoTHub(t)
	list := presses(t, 100)
	for i := range list {
		list[i].DeviceID += strings.Repeat("-x", 60)
	}
	tell(t, hub, list)
	if hub.Calls("POST /devices") != 1 || hub.Calls("POST /devices/query") < 3 {
		t.Errorf("%d bulks, %d queries", hub.Calls("POST /devices"), hub.Calls("POST /devices/query"))
	}
}

// What a hub says nothing of is looked at, and not taken for done.
func TestABulkThatIsNotTakenWholeIsGoneThroughDeviceByDevice(t *testing.T) {
	for name, timid := range map[string]bool{"the others were done": false, "the hub stopped there": true} {
		t.Run(name, func(t *testing.T) {
			hub := hubtest.NewIoTHub(t)
			if timid {
				hub.Timid()
			}
			list := presses(t, 5)
			list[1].Auth.Thumbprints[0] = "no thumbprint"
			for i, err := range driver(hub).Apply(t.Context(), hub.Access(), list) {
				_, there := hub.Device(list[i].DeviceID)
				if bad := i == 1; bad != (fault.RuleOf(err) == provisioning.RuleHubRefused) || bad == there || !bad && err != nil {
					t.Errorf("%s is there: %v, and answered %v", list[i].DeviceID, there, err)
				}
			}
			wrote := hub.Calls("PUT /devices/") - 1 // the bad one's
			if timid && wrote != 3 || !timid && wrote != 0 {
				t.Errorf("%d others were written again", wrote)
			}
		})
	}
}

// A query is behind: what it does not know, or knows as it was, the hub's own answer settles.
func TestAQueryMayBeBehind(t *testing.T) {
	hub := hubtest.NewIoTHub(t)
	list := presses(t, 4)
	tell(t, hub, list[:2])
	hub.Lags()
	tell(t, hub, later(list[:2], shut))
	tell(t, hub, later(list[2:], shut))
	enabled := func(i *provisioning.HubIdentity) { i.Enabled, i.Generation = true, 40 }
	tell(t, hub, later(list, enabled)) // two are older in the query, two are not in it
	for _, want := range list {
		if d, _ := hub.Device(want.DeviceID); !d.Enabled {
			t.Errorf("%s is %+v", want.DeviceID, d)
		}
	}
	tell(t, hub, later(list, func(i *provisioning.HubIdentity) { i.Generation = 30; i.Enabled = false })) // late
	tell(t, hub, later(list[:2], func(i *provisioning.HubIdentity) {
		*i = provisioning.HubIdentity{DeviceID: i.DeviceID, Generation: 50}
	}))
	tell(t, hub, later(list[2:], func(i *provisioning.HubIdentity) {
		*i = provisioning.HubIdentity{DeviceID: i.DeviceID, Generation: 50}
	}))
	for _, want := range list {
		if d, there := hub.Device(want.DeviceID); there {
			t.Errorf("%s is %+v", want.DeviceID, d)
		}
	}
}

// between runs something once, before a call of that method reaches a hub.
func between(hub *hubtest.IoTHub, method string, times int, act func()) {
	hub.Answers(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == method && times > 0 {
			times--
			act()
		}
		return false
	})
}

func TestWhoIsOvertakenReadsAgain(t *testing.T) {
	for name, c := range map[string]struct {
		first bool // the device is there before
		want  func(*provisioning.HubIdentity)
		when  string
		by    func(hub *hubtest.IoTHub)
		check func(d hubtest.Device, there bool) bool
	}{
		"another process said more": {true, shut, http.MethodPut, func(hub *hubtest.IoTHub) {
			hub.Change("press-0", "Muster 99", func(d *hubtest.Device) { d.IoTEdge = true })
		}, func(d hubtest.Device, there bool) bool { return there && d.Enabled && d.IoTEdge }},
		"another process said less": {true, shut, http.MethodPut, func(hub *hubtest.IoTHub) {
			hub.Change("press-0", "Muster 15", func(d *hubtest.Device) { d.IoTEdge = true })
		}, func(d hubtest.Device, there bool) bool { return there && !d.Enabled && !d.IoTEdge }},
		"an operator changed it": {true, shut, http.MethodPut, func(hub *hubtest.IoTHub) {
			hub.Change("press-0", "I know better", func(*hubtest.Device) {})
		}, func(d hubtest.Device, there bool) bool { return there && !d.Enabled }},
		"it came meanwhile": {false, shut, http.MethodPut, func(hub *hubtest.IoTHub) {
			hub.Change("press-0", "", func(d *hubtest.Device) { d.Enabled, d.Type = true, provisioning.HubCertificateAuthority })
		}, func(d hubtest.Device, there bool) bool {
			return there && !d.Enabled && d.Type == provisioning.HubSelfSigned
		}},
		"it is to go, and changed meanwhile": {true, func(i *provisioning.HubIdentity) { i.Present = false }, http.MethodDelete, func(hub *hubtest.IoTHub) {
			hub.Change("press-0", "Muster 15", func(*hubtest.Device) {})
		}, func(_ hubtest.Device, there bool) bool { return !there }},
		"it is to go, and was wanted again": {true, func(i *provisioning.HubIdentity) { i.Present = false }, http.MethodDelete, func(hub *hubtest.IoTHub) {
			hub.Change("press-0", "Muster 99", func(*hubtest.Device) {})
		}, func(_ hubtest.Device, there bool) bool { return there }},
	} {
		t.Run(name, func(t *testing.T) {
			hub := hubtest.NewIoTHub(t)
			list := presses(t, 1)
			if c.first {
				tell(t, hub, list)
			}
			between(hub, c.when, 1, func() { c.by(hub) })
			tell(t, hub, later(list, c.want))
			if d, there := hub.Device("press-0"); !c.check(d, there) {
				t.Errorf("there %v: %+v", there, d)
			}
		})
	}
	t.Run("for ever", func(t *testing.T) {
		hub := hubtest.NewIoTHub(t)
		list := presses(t, 1)
		tell(t, hub, list)
		between(hub, http.MethodPut, 99, func() { hub.Change("press-0", "no, it is mine", func(*hubtest.Device) {}) })
		err := driver(hub).Apply(t.Context(), hub.Access(), later(list, shut))[0]
		if fault.RuleOf(err) != provisioning.RuleHubRefused || hub.Calls("PUT /devices/") != 1+4 {
			t.Errorf("%v after %d tries", err, hub.Calls("PUT /devices/"))
		}
	})
}

// A hub that is full takes no new devices, and shuts out those that it has.
func TestAFullHubStillShutsOut(t *testing.T) {
	hub := hubtest.NewIoTHub(t)
	list := presses(t, 4)
	tell(t, hub, list[:2])
	hub.Full(2)
	next := append(later(list[:2], shut), list[2:]...)
	answers := driver(hub).Apply(t.Context(), hub.Access(), next)
	for i, err := range answers {
		if d, _ := hub.Device(list[i].DeviceID); i < 2 && (err != nil || d.Enabled) || i >= 2 && (fault.RuleOf(err) != provisioning.RuleHubRefused || !strings.Contains(err.Error(), "403 TooManyDevices")) {
			t.Errorf("%s: %v, %+v", list[i].DeviceID, err, d)
		}
	}
}

// A hub that has too much to do is left alone at once, and says for how long.
func TestAThrottledHubIsLeftAlone(t *testing.T) {
	hub := hubtest.NewIoTHub(t)
	now := time.Now()
	hub.Throttled(10, func() time.Time { return now })
	to := hub.Access()
	to.URL = hub.Connection("registryReadWrite") // one by one
	var calls atomic.Int64
	hub.Answers(func(http.ResponseWriter, *http.Request) bool { calls.Add(1); return false })
	list := presses(t, 60)
	for left := len(list); left > 0; now = now.Add(time.Minute) {
		calls.Store(0)
		var rest []provisioning.HubIdentity
		for i, err := range driver(hub).Apply(t.Context(), to, list) {
			if err != nil {
				rest = append(rest, list[i])
				if f := fault.As(err); f.Rule != "hub-unavailable" || f.RetryAfter < time.Second || f.RetryAfter > time.Minute {
					t.Fatalf("%+v", f)
				}
			}
		}
		if len(rest) >= left || calls.Load() > 10+1+8 {
			t.Fatalf("%d of %d are left after %d calls", len(rest), left, calls.Load())
		}
		list, left = rest, len(rest)
	}
}

func TestWhatIsNotMustersStays(t *testing.T) {
	hub := hubtest.NewIoTHub(t)
	list := presses(t, 3)
	tell(t, hub, list)
	for _, want := range list {
		hub.Place(want.DeviceID, "ms-azure-iot-edge://gate-1")
	}
	tell(t, hub, later(list[:1], shut)) // alone
	tell(t, hub, later(list[1:], shut)) // in a bulk
	for _, want := range list {
		d, _ := hub.Device(want.DeviceID)
		if got := hub.Scope(want.DeviceID); got != "ms-azure-iot-edge://gate-1" || d.Enabled {
			t.Errorf("%s is below %q, enabled %v", want.DeviceID, got, d.Enabled)
		}
	}
}

// The hub makes keys that are left out anew: so it is told those that it has.
func TestKeysThatAreNotKnownHereStayInABulkToo(t *testing.T) {
	hub := hubtest.NewIoTHub(t)
	list := presses(t, 3)
	for i := range list {
		list[i].Auth = provisioning.HubAuth{Type: provisioning.HubSAS, Keys: [2]verify.Secret{verify.NewSecret([]byte("sixteen octets 1")), verify.NewSecret([]byte("sixteen octets 2"))}}
	}
	tell(t, hub, list)
	tell(t, hub, later(list, func(i *provisioning.HubIdentity) { i.Enabled, i.Auth.Keys = false, [2]verify.Secret{} }))
	tell(t, hub, later(list, func(i *provisioning.HubIdentity) { i.Generation = 30; i.Auth.Keys[0] = verify.Secret{} }))
	for _, want := range list {
		if d, _ := hub.Device(want.DeviceID); !d.Enabled || d.Keys != [2]string{"c2l4dGVlbiBvY3RldHMgMQ==", "c2l4dGVlbiBvY3RldHMgMg=="} {
			t.Errorf("%s is %+v", want.DeviceID, d)
		}
	}
}

// No IoT Hub has a selfSigned device without a certificate: one that has lost its last is shut out.
func TestADeviceWithoutACertificateIsShutOut(t *testing.T) {
	hub := hubtest.NewIoTHub(t)
	list := presses(t, 3)
	tell(t, hub, list[:2])
	bare := later(list, func(i *provisioning.HubIdentity) { i.Auth.Thumbprints = [2]string{} })
	for i, err := range driver(hub).Apply(t.Context(), hub.Access(), bare) {
		d, there := hub.Device(bare[i].DeviceID)
		if i < 2 && (err != nil || d.Enabled) || i == 2 && (there || fault.RuleOf(err) != provisioning.RuleHubRefused) {
			t.Errorf("%s: %v, %+v", bare[i].DeviceID, err, d)
		}
	}
}

// A yes that does not say what was done is none.
func TestAYesHasToSayWhatWasDone(t *testing.T) {
	hub := hubtest.NewIoTHub(t)
	list := presses(t, 2)
	tell(t, hub, list)
	for name, c := range map[string]struct {
		of   int // devices at once
		path string
		says string
	}{
		"a device as it was":       {1, "PUT /devices/press-0", `{"deviceId":"press-0","etag":"x","status":"enabled"}`},
		"another device":           {1, "PUT /devices/press-0", `{"deviceId":"press-1","etag":"x","status":"disabled"}`},
		"a page":                   {1, "PUT /devices/press-0", `<html>`},
		"a bulk that says nothing": {2, "POST /devices", `{}`},
		"a bulk that is a page":    {2, "POST /devices", `<html>`},
		"a query that is none":     {2, "POST /devices/query", `{}`},
	} {
		t.Run(name, func(t *testing.T) {
			hub.Answers(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method+" "+r.URL.Path != c.path {
					return false
				}
				_, err := io.WriteString(w, c.says)
				return err == nil
			})
			for _, err := range driver(hub).Apply(t.Context(), hub.Access(), later(list[:c.of], shut)) {
				if fault.RuleOf(err) != "hub-unavailable" {
					t.Error(err)
				}
			}
		})
	}
	hub.Answers(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodDelete {
			return false
		}
		_, err := io.WriteString(w, "<html>")
		return err == nil
	})
	gone := later(list[:1], func(i *provisioning.HubIdentity) { i.Present = false })
	if err := driver(hub).Apply(t.Context(), hub.Access(), gone)[0]; fault.RuleOf(err) != "hub-unavailable" {
		t.Errorf("a page instead of a removal: %v", err)
	}
}

// Whoever says yes and does nothing is believed, and found out by whoever reads the hub.
func TestAHubThatSaysYesAndDoesNothingIsFoundOutByReadingIt(t *testing.T) {
	hub := hubtest.NewIoTHub(t)
	list := presses(t, 2)
	tell(t, hub, list)
	hub.Answers(func(w http.ResponseWriter, r *http.Request) bool {
		says := map[string]string{
			"PUT /devices/press-0": `{"deviceId":"press-0","etag":"x","status":"disabled"}`, "POST /devices": `{"isSuccessful":true,"errors":[],"warnings":[]}`,
		}[r.Method+" "+r.URL.Path]
		_, err := io.WriteString(w, says)
		return says != "" && err == nil
	})
	tell(t, hub, later(list[:1], shut))
	tell(t, hub, later(list, shut))
	enabled := 0
	err := driver(hub).Devices(t.Context(), hub.Access(), func(page []provisioning.HubFound) error {
		for _, found := range page {
			if found.Enabled {
				enabled++
			}
		}
		return nil
	})
	if err != nil || enabled != 2 {
		t.Errorf("%d are found enabled, %v", enabled, err)
	}
}

func TestAllDevicesAreReadPageByPage(t *testing.T) {
	hub := hubtest.NewIoTHub(t)
	for chunk := range slices.Chunk(presses(t, 250), 100) {
		tell(t, hub, chunk)
	}
	before := hub.Calls("POST /devices/query")
	seen := map[string]bool{}
	err := driver(hub).Devices(t.Context(), hub.Access(), func(page []provisioning.HubFound) error {
		for _, found := range page {
			seen[found.DeviceID] = found.Enabled && found.Auth.Thumbprints[0] == strings.Repeat("A", 64)
		}
		return nil
	})
	if err != nil || len(seen) != 250 || !seen["press-249"] || hub.Calls("POST /devices/query")-before != 3 {
		t.Errorf("%v, %d devices in %d pages", err, len(seen), hub.Calls("POST /devices/query")-before)
	}
	enough := errors.New("enough")
	if err := driver(hub).Devices(t.Context(), hub.Access(), func([]provisioning.HubFound) error { return enough }); !errors.Is(err, enough) {
		t.Error(err)
	}
	hub.Answers(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("x-ms-continuation", "round")
		return json.NewEncoder(w).Encode([]int{}) == nil
	})
	if err := driver(hub).Devices(t.Context(), hub.Access(), func([]provisioning.HubFound) error { return nil }); fault.RuleOf(err) != "hub-unavailable" {
		t.Errorf("a hub that goes round: %v", err)
	}
}

func TestAHubThatIsReadTooFastIsReadOn(t *testing.T) {
	t.Parallel()
	hub := hubtest.NewIoTHub(t)
	for chunk := range slices.Chunk(presses(t, 150), 100) {
		tell(t, hub, chunk)
	}
	throttles, pages := 1, 0
	hub.Answers(func(w http.ResponseWriter, _ *http.Request) bool {
		if pages == 0 || throttles == 0 {
			return false
		}
		throttles--
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	devices := 0
	read := func(ctx context.Context) error {
		return driver(hub).Devices(ctx, hub.Access(), func(page []provisioning.HubFound) error {
			pages, devices = pages+1, devices+len(page)
			return nil
		})
	}
	if err := read(t.Context()); err != nil || devices != 150 || throttles != 0 {
		t.Errorf("%d devices, %v", devices, err)
	}
	throttles = 1 << 20
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if f := fault.As(read(ctx)); f == nil || f.Rule != "hub-unavailable" || f.RetryAfter != time.Second {
		t.Errorf("it has no time: %+v", f)
	}
}

var (
	_ provisioning.HubDriver = (*azure.Driver)(nil)
	_ provisioning.HubReader = (*azure.Driver)(nil)
)

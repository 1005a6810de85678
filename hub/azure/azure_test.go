package azure_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/hub/azure"
	"github.com/passmuster/muster/hub/hubtest"
	"github.com/passmuster/muster/internal/callout"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// driver trusts a hub.
func driver(h *hubtest.IoTHub) *azure.Driver {
	return azure.New(callout.Options{Networks: loopback, Roots: h.Roots()})
}

func TestAnIoTHubIsToldOfItsDevices(t *testing.T) {
	hubtest.Run(t, driver(hubtest.NewIoTHub(t)), hubtest.ForgetsRemoved, func(t testing.TB) hubtest.Hub { return hubtest.NewIoTHub(t) })
}

// A policy that may not query has its devices told one by one.
func TestAPolicyWithoutQueriesWillDo(t *testing.T) {
	hub := hubtest.NewIoTHub(t)
	to := hub.Access()
	to.URL = hub.Connection("registryReadWrite")
	list := presses(t, 5)
	if err := errors.Join(driver(hub).Apply(t.Context(), to, list)...); err != nil || hub.Calls("PUT /devices/") != 5 || hub.Calls("POST /devices") != 0 {
		t.Errorf("%v, %d devices were put", err, hub.Calls("PUT /devices/"))
	}
	if err := driver(hub).Test(t.Context(), to); err != nil {
		t.Error(err)
	}
	err := driver(hub).Devices(t.Context(), to, func([]provisioning.HubFound) error { return nil })
	if fault.RuleOf(err) != "hub-unavailable" || !strings.Contains(err.Error(), "ServiceConnect") {
		t.Error(err)
	}
}

// presses are devices press-0, press-1, … with a certificate.
func presses(t testing.TB, n int) []provisioning.HubIdentity {
	t.Helper()
	list := make([]provisioning.HubIdentity, n)
	for i := range list {
		name := fmt.Sprintf("press-%d", i)
		id, err := verify.ParseRegistrationID(name)
		if err != nil {
			t.Fatal(err)
		}
		list[i] = provisioning.HubIdentity{
			Hub: "hub-1.example.net", DeviceID: name, RegistrationID: id, Generation: 10, Present: true, Enabled: true,
			Auth: provisioning.HubAuth{Type: provisioning.HubSelfSigned, Thumbprints: [2]string{strings.Repeat("A", 64)}},
		}
	}
	return list
}

func says(status int, header, body string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		for line := range strings.SplitSeq(header, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
		return true
	}
}

func TestWhatAHubAnswersIsAboutTheDeviceOrAboutTheHub(t *testing.T) {
	const page = "<html>welcome</html>"
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request) bool
		rule   string
		wait   time.Duration
	}{
		"it does not like the device":      {says(400, "iothub-errorcode: ArgumentInvalid", ""), provisioning.RuleHubRefused, 0},
		"it does not know the policy":      {says(401, "iothub-errorcode: IotHubUnauthorizedAccess", ""), "hub-unavailable", 0},
		"it lets nobody in from here":      {says(403, "", page), "hub-unavailable", 0},
		"somebody else says not found":     {says(404, "", page), "hub-unavailable", 0},
		"there is no such hub":             {says(404, "iothub-errorcode: IotHubNotFound", ""), "hub-unavailable", 0},
		"it has too much to do":            {says(429, "Retry-After: 120", `{"Message":"ErrorCode:ThrottlingException;x"}`), "hub-unavailable", 2 * time.Minute},
		"it is broken":                     {says(500, "", page), "hub-unavailable", 0},
		"it asks for a day":                {says(503, "Retry-After: 86400", ""), "hub-unavailable", time.Hour},
		"it is elsewhere":                  {says(307, "Location: https://169.254.169.254/", ""), "hub-unavailable", 0},
		"a proxy has a page for everybody": {says(200, "Content-Type: text/html", page), "hub-unavailable", 0},
		"it answers what is no device":     {says(200, "Content-Type: application/json", `{}`), "hub-unavailable", 0},
		"it answers what is not whole":     {says(200, "Content-Type: application/json", `{"deviceId":"press-0","etag":`), "hub-unavailable", 0},
	} {
		t.Run(name, func(t *testing.T) {
			hub := hubtest.NewIoTHub(t)
			hub.Answers(c.answer)
			for i, err := range driver(hub).Apply(t.Context(), hub.Access(), presses(t, 1)) {
				if f := fault.As(err); f == nil || f.Rule != c.rule || f.RetryAfter != c.wait {
					t.Errorf("%d: %v %+v", i, err, f)
				}
			}
			for i, err := range driver(hub).Apply(t.Context(), hub.Access(), presses(t, 3)) {
				if f := fault.As(err); f == nil || f.Rule != c.rule || f.RetryAfter != c.wait {
					t.Errorf("of several, %d: %v %+v", i, err, f)
				}
			}
			if err := driver(hub).Test(t.Context(), hub.Access()); fault.RuleOf(err) != "hub-unavailable" {
				t.Errorf("a test: %v", err)
			}
			err := driver(hub).Devices(t.Context(), hub.Access(), func([]provisioning.HubFound) error { return nil })
			if fault.RuleOf(err) != "hub-unavailable" {
				t.Errorf("a reader: %v", err)
			}
		})
	}
}

func TestAPolicyThatMayNotWriteFailsTheTest(t *testing.T) {
	hub := hubtest.NewIoTHub(t)
	to := hub.Access()
	for _, url := range []string{
		hub.Connection("registryRead"), strings.Replace(to.URL, "SharedAccessKey=b", "SharedAccessKey=c", 1),
		strings.Replace(to.URL, "HostName=hub-1", "HostName=hub-2", 1), strings.Replace(to.URL, "=iothubowner", "=nobody", 1),
	} {
		to.URL = url
		if err := driver(hub).Test(t.Context(), to); fault.RuleOf(err) != "hub-unavailable" || !strings.Contains(err.Error(), "401 IotHubUnauthorizedAccess") {
			t.Errorf("%v", err)
		}
	}
}

func TestNoErrorHoldsAConnectionString(t *testing.T) {
	hub := hubtest.NewIoTHub(t)
	hub.Close()
	const secret = "b3duZXI"
	for name, c := range map[string]struct {
		driver *azure.Driver
		url    string
		says   string
	}{
		"nobody listens":       {driver(hub), hub.Connection("iothubowner"), "could not be reached"},
		"the address is ours":  {azure.New(callout.Options{}), hub.Connection("iothubowner"), "does not call"},
		"the address is cloud": {driver(hub), strings.Replace(hub.Connection("iothubowner"), "Name=127.0.0.1", "Name=169.254.169.254", 1), "does not call"},
	} {
		t.Run(name, func(t *testing.T) {
			to := hub.Access()
			to.URL = c.url
			for _, n := range []int{1, 2} {
				err := c.driver.Apply(t.Context(), to, presses(t, n))[0]
				if fault.RuleOf(err) != "hub-unreachable" || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), c.says) {
					t.Error(err)
				}
			}
		})
	}
}

func TestAHubThatHangsIsLeft(t *testing.T) {
	hub := hubtest.NewIoTHub(t)
	hang := make(chan struct{})
	defer close(hang)
	hub.Answers(func(http.ResponseWriter, *http.Request) bool { <-hang; return true })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	for _, err := range driver(hub).Apply(ctx, hub.Access(), presses(t, 30)) {
		if fault.RuleOf(err) != "hub-unreachable" {
			t.Error(err)
		}
	}
}

func TestAConnectionStringIsReadStrictly(t *testing.T) {
	const good = "HostName=Hub-1.example.net;SharedAccessKeyName=iothubowner;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg=="
	for text, want := range map[string]string{
		good: "https://hub-1.example.net",
		good + ";GatewayHostName=muster.example.net:8443":                             "https://muster.example.net:8443",
		"SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg==;SharedAccessKeyName=a;HostName=hub": "https://hub",
	} {
		if got, err := azure.New(callout.Options{}).Endpoint(text); err != nil || got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "https://hub-1.example.net/", good + ";", good + ";DeviceId=press-1", good + ";HostName=other", "hostname=hub;SharedAccessKeyName=a;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg==",
		"HostName=hub;SharedAccessKeyName=a", "HostName=hub;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg==", "SharedAccessKeyName=a;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg==",
		"HostName=hub;SharedAccessKeyName=;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg==", "HostName=hub:8443;SharedAccessKeyName=a;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg==",
		"HostName=a@hub;SharedAccessKeyName=a;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg==", "HostName=hub/path;SharedAccessKeyName=a;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg==",
		"HostName=hub?a;SharedAccessKeyName=a;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg==", "HostName=hub;SharedAccessKeyName=a;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg",
		"HostName=hub;SharedAccessKeyName=a;SharedAccessKey=c2hvcnQ=", good + ";GatewayHostName=https://muster.example.net", good + ";GatewayHostName=:8443", good + ";GatewayHostName=muster:port",
	} {
		_, err := azure.New(callout.Options{}).Endpoint(text)
		f := fault.As(err)
		if f == nil || f.Kind != fault.Malformed || f.Rule != "connection-string" || len(f.Fields) != 1 || f.Fields[0].Pointer != "/url" {
			t.Errorf("%q: %v", text, err)
		} else if strings.Contains(err.Error(), "MDEyM") || strings.Contains(err.Error(), "c2hv") {
			t.Errorf("%v holds a key", err)
		}
		to := provisioning.HubAccess{URL: text}
		if err := errors.Join(azure.New(callout.Options{}).Apply(t.Context(), to, presses(t, 2))...); fault.RuleOf(err) != "connection-string" {
			t.Error(err)
		}
	}
}

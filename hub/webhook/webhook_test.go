package webhook_test

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/hub/hubtest"
	"github.com/passmuster/muster/hub/webhook"
	"github.com/passmuster/muster/internal/callout"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

var loopback = callout.Options{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}

func TestAHubIsToldOfItsDevices(t *testing.T) {
	hubtest.Run(t, webhook.New(loopback, true), hubtest.RemembersRemoved, func(t testing.TB) hubtest.Hub { return hubtest.NewReceiver(t) })
}

func identity(t *testing.T) []provisioning.HubIdentity {
	id, err := verify.ParseRegistrationID("press-01")
	if err != nil {
		t.Fatal(err)
	}
	return []provisioning.HubIdentity{{Hub: "hub-1.example.net", DeviceID: "press-01", RegistrationID: id, Generation: 1, Present: true, Enabled: true}}
}

func TestWhatAHubAnswersIsAboutTheDeviceOrAboutTheHub(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		after  string
		rule   string
		wait   time.Duration
	}{
		"it does not like the device": {http.StatusBadRequest, "", provisioning.RuleHubRefused, 0},
		"the device is another's":     {http.StatusConflict, "", provisioning.RuleHubRefused, 0},
		"the device makes no sense":   {http.StatusUnprocessableEntity, "30", provisioning.RuleHubRefused, 30 * time.Second},
		"its key is another":          {http.StatusUnauthorized, "", "hub-unavailable", 0},
		"it is not there":             {http.StatusNotFound, "", "hub-unavailable", 0},
		"it is elsewhere":             {http.StatusTemporaryRedirect, "", "hub-unavailable", 0},
		"it has too much to do":       {http.StatusTooManyRequests, "120", "hub-unavailable", 2 * time.Minute},
		"it is broken":                {http.StatusInternalServerError, "", "hub-unavailable", 0},
		"it asks for a day":           {http.StatusServiceUnavailable, "86400", "hub-unavailable", time.Hour},
		"it asks for nonsense":        {http.StatusServiceUnavailable, "-1", "hub-unavailable", 0},
	} {
		t.Run(name, func(t *testing.T) {
			hub := hubtest.NewReceiver(t)
			hub.Answers(func(w http.ResponseWriter) bool {
				w.Header().Set("Location", "http://169.254.169.254/")
				w.Header().Set("Retry-After", c.after)
				w.WriteHeader(c.status)
				return true
			})
			err := webhook.New(loopback, true).Apply(t.Context(), hub.Access(), identity(t))[0]
			if f := fault.As(err); f == nil || f.Rule != c.rule || f.RetryAfter != c.wait {
				t.Errorf("%v %+v", err, f)
			}
			if err := webhook.New(loopback, true).Test(t.Context(), hub.Access()); err == nil {
				t.Error("a test was taken")
			}
		})
	}
}

func TestNoErrorHoldsAHubsAddress(t *testing.T) {
	hub := hubtest.NewReceiver(t)
	hub.Close()
	for name, c := range map[string]struct {
		driver *webhook.Driver
		url    string
		says   string
	}{
		"nobody listens":       {webhook.New(loopback, true), hub.URL + "/?code=secret", "could not be reached"},
		"the address is ours":  {webhook.New(callout.Options{}, true), hub.URL + "/?code=secret", "does not call"},
		"the address is cloud": {webhook.New(loopback, true), "http://169.254.169.254/?code=secret", "does not call"},
	} {
		t.Run(name, func(t *testing.T) {
			to := hub.Access()
			to.URL = c.url
			err := c.driver.Apply(t.Context(), to, identity(t))[0]
			if fault.RuleOf(err) != "hub-unreachable" || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), c.says) {
				t.Error(err)
			}
		})
	}
}

func TestAHubThatHangsIsLeft(t *testing.T) {
	hub := hubtest.NewReceiver(t)
	hang := make(chan struct{})
	defer close(hang)
	hub.Answers(func(http.ResponseWriter) bool { <-hang; return true })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := webhook.New(loopback, true).Apply(ctx, hub.Access(), identity(t))[0]; fault.RuleOf(err) != "hub-unreachable" {
		t.Error(err)
	}
}

package webhook_test

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/passmuster/muster/api/internal/apitest"
	"github.com/passmuster/muster/api/webhook"
	"github.com/passmuster/muster/internal/callout"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

// subscriber takes events as an independent receiver does: signatures checked by the
// standard's own library, events parsed by CloudEvents'.
type subscriber struct {
	*httptest.Server
	mu     sync.Mutex
	key    *standardwebhooks.Webhook
	answer func(w http.ResponseWriter) // nil: 204
	took   []string                    // type and subject of what was taken
	ids    []string                    // of everything that came
	tries  int
}

func newSubscriber(t *testing.T) *subscriber {
	s := &subscriber{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.tries++
		body, _ := io.ReadAll(r.Body)
		if err := s.key.Verify(body, r.Header); err != nil {
			t.Errorf("signature: %v", err)
		}
		var e cloudevents.Event
		if err := json.Unmarshal(body, &e); err != nil || e.Validate() != nil || r.Header.Get("Content-Type") != "application/cloudevents+json; charset=utf-8" {
			t.Errorf("no CloudEvent: %s: %v %v", body, err, e.Validate())
		}
		if e.ID() != r.Header.Get(standardwebhooks.HeaderWebhookID) || e.Source() != "/idscopes/0neTEST" {
			t.Errorf("id %s from %s, signed as %s", e.ID(), e.Source(), r.Header.Get(standardwebhooks.HeaderWebhookID))
		}
		s.ids = append(s.ids, e.ID())
		if s.answer != nil {
			s.answer(w)
			return
		}
		s.took = append(s.took, e.Type()+" "+e.Subject())
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *subscriber) signedWith(t *testing.T, key []byte) {
	t.Helper()
	hook, err := standardwebhooks.NewWebhook("whsec_" + base64.StdEncoding.EncodeToString(key))
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = hook
}

func (s *subscriber) answers(f func(http.ResponseWriter)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

func (s *subscriber) taken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.took, ", ")
}

func TestASubscriberIsToldOfTheLedgerInOrderAndNothingIsLost(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	clock := testkit.Now()
	notifier := webhook.NewNotifier(callout.Options{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	opened := apitest.Open(t, "0neTEST", func() time.Time { return clock }, func(c *provisioning.Config) {
		c.Notifier, c.LocalWebhooks = notifier, true
	})
	engine, jobs := opened.Engine, opened.DB.ProvisioningJobs()
	server := newSubscriber(t)
	s, key, err := engine.PutSubscription(t.Context(), "operator:ann", provisioning.SubscriptionDraft{
		Name: "siem", URL: server.URL + "/in?code=secret", Actions: []string{"hub.", "subscription."}, Enabled: true,
	}, provisioning.Precondition{})
	must(err)
	if s.Endpoint != server.URL || len(key) != 32 {
		t.Fatalf("shown as %q, key of %d octets", s.Endpoint, len(key))
	}
	server.signedWith(t, key)
	sweep := func() {
		t.Helper()
		for more := true; more; {
			more, err = engine.SweepSubscriptions(t.Context(), jobs)
			must(err)
		}
	}
	hub := func(name string) {
		t.Helper()
		_, err := engine.PutHub(t.Context(), "operator:ann", provisioning.Hub{Name: name, Driver: provisioning.BuiltIn}, provisioning.Precondition{})
		must(err)
	}
	must(engine.TestSubscription(t.Context(), "operator:ann", "siem"))
	hub("hub-1")
	_, err = engine.PutProfile(t.Context(), "operator:ann", policies.DefaultProfile(), provisioning.Precondition{})
	must(err)
	sweep()
	const told = "muster.subscription.test subscription:siem, muster.subscription.written subscription:siem, muster.hub.linked hub:hub-1"
	if got := server.taken(); got != told {
		t.Fatalf("took %s", got)
	}

	server.answers(func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) })
	hub("hub-2")
	hub("hub-3")
	sweep()
	sweep() // it is not asked again before its time
	state, err := engine.Subscription(t.Context(), "siem")
	must(err)
	if tries := server.tries; tries != 4 || state.Tries != 1 || !strings.Contains(state.Problem, "500") || state.Behind != 2 || !state.NextTry.Equal(clock.Add(time.Second)) {
		t.Fatalf("%d calls; %+v", tries, state)
	}
	server.answers(func(w http.ResponseWriter) {
		w.Header().Set("Retry-After", "600")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	clock = clock.Add(time.Second)
	sweep()
	if state, err = engine.Subscription(t.Context(), "siem"); err != nil || state.Tries != 2 || !state.NextTry.Equal(clock.Add(10*time.Minute)) {
		t.Fatalf("%+v, %v", state, err)
	}
	server.answers(nil)
	clock = clock.Add(10 * time.Minute)
	sweep()
	if got := server.taken(); got != told+", muster.hub.linked hub:hub-2, muster.hub.linked hub:hub-3" {
		t.Fatalf("took %s", got)
	}
	if n := len(server.ids); server.ids[n-4] != server.ids[n-2] || server.ids[n-1] == server.ids[n-2] {
		t.Errorf("an event that comes again has its id: %q", server.ids)
	}
	if state, err = engine.Subscription(t.Context(), "siem"); err != nil || state.Tries != 0 || state.Problem != "" || state.Behind != 0 || !state.Delivered.Equal(clock) {
		t.Fatalf("%+v, %v", state, err)
	}

	_, key, err = engine.RollSubscriptionKey(t.Context(), "operator:ann", "siem", provisioning.Precondition{Version: state.Version})
	must(err)
	server.signedWith(t, key)
	sweep()
	if got := server.taken(); !strings.HasSuffix(got, "muster.subscription.key-rolled subscription:siem") {
		t.Fatalf("took %s", got)
	}
}

func TestASubscriptionThatCannotBeIsRefused(t *testing.T) {
	engine := apitest.Open(t, "0neTEST", testkit.Now).Engine
	for _, c := range []struct {
		draft provisioning.SubscriptionDraft
		rule  string
	}{
		{provisioning.SubscriptionDraft{Name: "a b", URL: "https://siem.example.net/"}, "subscription-name"},
		{provisioning.SubscriptionDraft{Name: "a"}, "webhook-missing"},
		{provisioning.SubscriptionDraft{Name: "a", URL: "http://siem.example.net/"}, "webhook-url"},
		{provisioning.SubscriptionDraft{Name: "a", URL: "https://ann:pw@siem.example.net/"}, "webhook-url"},
		{provisioning.SubscriptionDraft{Name: "a", URL: "https://siem.example.net/", Actions: []string{"Roll *"}}, "subscription-actions"},
		{provisioning.SubscriptionDraft{Name: "a", URL: "https://siem.example.net/", Actions: make([]string, 33)}, "subscription-actions"},
	} {
		_, _, err := engine.PutSubscription(t.Context(), "operator:ann", c.draft, provisioning.Precondition{})
		if !fault.Is(err, fault.Malformed) || fault.RuleOf(err) != c.rule {
			t.Errorf("%+v: %v", c.draft, err)
		}
	}
}

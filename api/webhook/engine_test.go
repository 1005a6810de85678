package webhook_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/api/internal/apitest"
	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/api/webhook"
	"github.com/passmuster/muster/internal/callout"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// From a device's registration over the webhook to what the device is answered (F5).
func TestADeviceIsToldWhatTheWebhookSaid(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	answers := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !strings.Contains(string(body), `"payload":{"model":"pump"}`) {
			t.Errorf("asked %s", body)
		}
		switch text := <-answers; text {
		case "307":
			http.Redirect(w, r, "http://169.254.169.254/", http.StatusTemporaryRedirect)
		case "204", "400", "401", "500":
			code, _ := strconv.Atoi(text)
			w.WriteHeader(code)
		default:
			_, _ = io.WriteString(w, text)
		}
	}))
	defer server.Close()

	engine := apitest.Open(t, "0neTEST", testkit.Now, func(c *provisioning.Config) {
		c.Allocator, c.LocalWebhooks = webhook.New(callout.Options{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}), true
	}).Engine
	for _, hub := range []string{"hub-1", "hub-2"} {
		_, err := engine.PutHub(t.Context(), "operator:test", provisioning.Hub{Name: hub, Driver: provisioning.BuiltIn}, provisioning.Precondition{})
		must(err)
	}
	id, err := verify.ParseRegistrationID("dev-1")
	must(err)
	key := []byte("0123456789abcdef0123456789abcdef")
	draft := provisioning.Draft{
		Owner: provisioning.Owner{Kind: provisioning.Individual, ID: id}, Spelled: "dev-1", Enabled: true, Hubs: []string{"hub-2"},
		Attestation: provisioning.Attestation{Role: provisioning.RoleKey}, Allocation: policies.Custom,
		Custom: provisioning.CustomAllocation{URL: server.URL}, Reprovision: policies.DefaultReprovisionPolicy(),
	}
	draft.Attestation.Slots[0].Key = key
	_, _, err = engine.Put(t.Context(), "operator:test", draft, provisioning.Precondition{})
	must(err)
	token, err := verify.ParseSAS(testkit.SAS(key, "0neTEST", "dev-1", testkit.Now().Add(time.Hour)))
	must(err)

	for _, c := range []struct{ answer, want string }{
		{`{"iotHubHostName":"hub-1"}`, `"status":"failed","errorCode":400000,"errorMessage":"the allocation webhook named a hub`},
		{`400`, `"status":"failed","errorCode":400207,"errorMessage":"Custom allocation failed with status code: 400"`},
		{`401`, `"status":"failed","errorCode":400209,"errorMessage":"Custom allocation failed with status code: 401"`},
		{`500`, `"status":"failed","errorCode":400000,"errorMessage":"Custom allocation failed with status code: 500"`},
		{`204`, `"status":"failed","errorCode":400000,"errorMessage":"Custom allocation failed with status code: 204"`},
		{`307`, `"status":"failed","errorCode":400000,"errorMessage":"Custom allocation failed with status code: 307"`},
		{`{"iotHubHostName":"hub-2","payload":{"k":1}}`, `"assignedHub":"hub-2","deviceId":"dev-1","status":"assigned"`},
	} {
		answers <- c.answer
		op, err := engine.Register(t.Context(), provisioning.RegisterRequest{
			Attempt: provisioning.Attempt{ID: id, Spelled: "dev-1", Evidence: provisioning.Evidence{Token: &token}, Door: "test"},
			Payload: []byte(`{"model":"pump"}`),
		})
		must(err)
		text, err := json.Marshal(azure.StateOf(op))
		must(err)
		if !strings.Contains(string(text), c.want) {
			t.Errorf("%s: %s", c.answer, text)
		}
		if told := strings.Contains(string(text), `"payload":{"k":1}`); told != (op.State == provisioning.Assigned) {
			t.Errorf("%s: %s", c.answer, text)
		}
	}
}

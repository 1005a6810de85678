package webhook

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/passmuster/muster/internal/callout"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// serving is a webhook over TLS, and an Allocator that may call it.
func serving(t *testing.T, h http.HandlerFunc) (*Allocator, provisioning.AllocationRequest) {
	t.Helper()
	server := httptest.NewTLSServer(h)
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return New(callout.Options{Networks: loopback, Roots: roots}), request(t, server.URL+"/pick?code=1")
}

func request(t *testing.T, url string) provisioning.AllocationRequest {
	t.Helper()
	id, err := verify.ParseRegistrationID("line-3")
	if err != nil {
		t.Fatal(err)
	}
	return provisioning.AllocationRequest{
		Entry: provisioning.Enrollment{
			Owner: provisioning.Owner{Kind: provisioning.Group, ID: id}, Spelled: "Line-3", Enabled: true, Allocation: policies.Custom,
			Custom:      provisioning.CustomAllocation{URL: url, APIVersion: "2021-10-01"},
			Credentials: []provisioning.Credential{{Role: provisioning.RoleKey, State: rotation.Active, Slot: rotation.Primary, SealedKey: []byte("sealed")}},
			Reprovision: policies.DefaultReprovisionPolicy(), Created: testkit.Now(), Updated: testkit.Now(), Version: 7,
		},
		Device: "Dev1", Mechanism: verify.MechanismSymmetricKey, CurrentHub: "hub-1.example.net", CurrentDevice: "dev1",
		Payload: []byte(`{"model":"pump-7"}`), Hubs: []string{"hub-1.example.net", "hub-2.example.net"},
	}
}

func TestTheQuestionIsTheContracts(t *testing.T) {
	var got map[string]any
	a, r := serving(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.URL.RequestURI() != "/pick?code=1" || r.Header.Get("Content-Type") != "application/json; charset=utf-8" || strings.Contains(string(body), "sealed") {
			t.Errorf("%s %s %q: %s", r.Method, r.URL, r.Header, body)
		}
		got = nil
		if err := json.Unmarshal(body, &got); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, `{"iotHubHostName":"hub-2.example.net","initialTwin":{"tags":{"a":1},"properties":{"desired":{"$version":1,"b":2}}},"payload":{"k":1},"more":0}`)
	})
	answer, err := a.Pick(t.Context(), r)
	want := provisioning.AllocationAnswer{
		Hub: "hub-2.example.net", InitialTwin: []byte(`{"properties":{"desired":{"b":2}},"tags":{"a":1}}`), Payload: []byte(`{"k":1}`),
	}
	if d := cmp.Diff(want, answer); d != "" || err != nil {
		t.Errorf("%v %s", err, d)
	}
	group := got["enrollmentGroup"].(map[string]any)
	if group["enrollmentGroupId"] != "Line-3" || group["allocationPolicy"] != "custom" || got["individualEnrollment"] != nil {
		t.Errorf("%v", got)
	}
	if d := cmp.Diff(map[string]any{"type": "symmetricKey"}, group["attestation"]); d != "" {
		t.Errorf("attestation: %s", d)
	}
	if d := cmp.Diff(map[string]any{
		"registrationId": "Dev1", "currentIotHubHostName": "hub-1.example.net", "currentDeviceId": "dev1",
		"symmetricKey": map[string]any{}, "payload": map[string]any{"model": "pump-7"},
	}, got["deviceRuntimeContext"]); d != "" {
		t.Errorf("device: %s", d)
	}
	if d := cmp.Diff([]any{"hub-1.example.net", "hub-2.example.net"}, got["linkedHubs"]); d != "" {
		t.Errorf("hubs: %s", d)
	}

	// An individual enrollment, the first time, with a certificate and nothing to say.
	r.Entry.Kind, r.Mechanism, r.CurrentHub, r.CurrentDevice, r.Payload, r.Hubs = provisioning.Individual, verify.MechanismX509, "", "", nil, nil
	r.Path = []verify.Link{verify.NewLink(testkit.Chain(t, "root > dev1").Leaf().Cert)}
	if _, err := a.Pick(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	device := got["deviceRuntimeContext"].(map[string]any)
	info := device["x509"].(map[string]any)["certificateInfo"].(map[string]any)
	if info["subjectName"] != "CN=dev1" || len(device) != 2 || got["individualEnrollment"] == nil || got["enrollmentGroup"] != nil || len(got["linkedHubs"].([]any)) != 0 {
		t.Errorf("%v", got)
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		code    int
		rule    string
	}{
		"400": {status(400), 400207, "allocation-refused"},
		"401": {status(401), 400209, "allocation-refused"},
		"500": {status(500), 0, "allocation-refused"},
		"204": {status(204), 0, "allocation-refused"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, 0, "allocation-refused"},
		"nothing":     {says(""), 0, "allocation-answer"},
		"no JSON":     {says("hub-1"), 0, "allocation-answer"},
		"an array":    {says("[]"), 0, "allocation-answer"},
		"a number":    {says(`{"iotHubHostName":1}`), 0, "allocation-answer"},
		"two values":  {says(`{} {}`), 0, "allocation-answer"},
		"64 KiB more": {says(`{"a":"` + strings.Repeat("a", maxAnswer) + `"}`), 0, "allocation-answer"},
		"half an answer": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "99")
			_, _ = io.WriteString(w, "{")
		}, 0, "allocation-unreachable"},
		"a dead line": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0, "allocation-unreachable"},
		"endless header": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("a", 64<<10))
		}, 0, "allocation-unreachable"},
	} {
		t.Run(name, func(t *testing.T) {
			a, r := serving(t, c.handler)
			got, err := a.Pick(t.Context(), r)
			if fault.RuleOf(err) != c.rule || got.Code != c.code || got.Hub != "" {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		if code != http.StatusNoContent {
			_, _ = io.WriteString(w, `{"iotHubHostName":"hub-1.example.net"}`)
		}
	}
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

func TestAWebhookThatHangsIsLeft(t *testing.T) {
	a, r := serving(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the end of a connection is seen behind the body
		<-r.Context().Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := a.Pick(ctx, r); fault.RuleOf(err) != "allocation-unreachable" {
		t.Error(err)
	}
}

func TestAWebhookMustBeWhoItSays(t *testing.T) {
	server := httptest.NewTLSServer(says(`{}`))
	defer server.Close()
	if _, err := New(callout.Options{Networks: loopback}).Pick(t.Context(), request(t, server.URL)); fault.RuleOf(err) != "allocation-unreachable" {
		t.Error(err)
	}
}

func TestAddressesThatAreNotCalled(t *testing.T) {
	reached := func(w http.ResponseWriter, _ *http.Request) { t.Error("it was called") }
	server := httptest.NewServer(http.HandlerFunc(reached))
	defer server.Close()
	t.Setenv("HTTP_PROXY", server.URL)
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "169.254.169.254", "[fe80::1]"} {
		_, err := New(callout.Options{}).Pick(t.Context(), request(t, "http://"+host+":"+port+"/"))
		if fault.RuleOf(err) != "allocation-unreachable" || !strings.Contains(err.Error(), "does not call") {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestNoErrorHoldsAWebhooksKey(t *testing.T) {
	for _, address := range []string{"https://127.0.0.1:1/pick?code=secret", "://?code=secret"} {
		_, err := New(callout.Options{Networks: loopback}).Pick(t.Context(), request(t, address))
		if fault.RuleOf(err) != "allocation-unreachable" || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"iotHubHostName":"hub-1","initialTwin":{"tags":{},"properties":{"desired":{"$version":1}}},"payload":{"k":[1]}}`,
		`{"initialTwin":null,"payload":null}`, `{"initialTwin":5,"payload":"a"}`, `[`, "\x00",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := parseAnswer(text)
		if err != nil {
			if !fault.Is(err, fault.Malformed) || a.Code != 0 || a.Hub != "" {
				t.Errorf("%+v, %v", a, err)
			}
			return
		}
		for _, part := range [][]byte{a.InitialTwin, a.Payload} {
			if part != nil && !json.Valid(part) {
				t.Errorf("%q is not JSON", part)
			}
		}
	})
}

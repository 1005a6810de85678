package provisioning_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

// webhook stands for the one at the entry's address: it answers as it is told to and keeps
// what it was asked.
type webhook struct {
	asked  []provisioning.AllocationRequest
	answer func(provisioning.AllocationRequest) (provisioning.AllocationAnswer, error)
}

func (h *webhook) Pick(ctx context.Context, r provisioning.AllocationRequest) (provisioning.AllocationAnswer, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		return provisioning.AllocationAnswer{}, errors.New("a webhook without a time limit")
	}
	h.asked = append(h.asked, r)
	return h.answer(r)
}

func (h *webhook) says(a provisioning.AllocationAnswer, err error) {
	h.answer = func(provisioning.AllocationRequest) (provisioning.AllocationAnswer, error) { return a, err }
}

func picked(hub string) provisioning.AllocationAnswer {
	return provisioning.AllocationAnswer{Hub: hub}
}

const otherHub = "hub-2.example.net"

func custom(d *provisioning.Draft) {
	d.Allocation = policies.Custom
	d.Custom = provisioning.CustomAllocation{URL: "https://alloc.example.net/pick?code=secret", APIVersion: "2021-10-01"}
}

// asking is a world with two hubs and a group whose webhook is asked, and one device of it.
func asking(t *testing.T, edits ...edit) (*world, provisioning.Attempt) {
	w := newWorld(t)
	w.hub(otherHub)
	key := w.keyed(provisioning.Group, "g", append([]edit{custom}, edits...)...)
	return w, w.signing("Pump-1", derive(key, "Pump-1"))
}

func (w *world) registerWith(a provisioning.Attempt, payload string) provisioning.Operation {
	w.t.Helper()
	op, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: a, Payload: []byte(payload)})
	w.must(err)
	w.check()
	return op
}

func TestAWebhookChoosesTheHub(t *testing.T) { // F5
	t.Parallel()
	w, device := asking(t, func(d *provisioning.Draft) { d.InitialTwin = []byte(`{"tags":{"floor":3}}`) })
	w.webhook.says(provisioning.AllocationAnswer{Hub: "HUB-2.example.net", Payload: []byte(`{"k":1}`)}, nil)
	op := w.registerWith(device, `{"model":"pump"}`)
	if op.State != provisioning.Assigned || op.Hub != otherHub || string(op.Returned) != `{"k":1}` || op.Substatus != policies.InitialAssignment {
		t.Fatalf("%+v", op.Registration)
	}
	q := w.webhook.asked[0]
	if q.Device != "Pump-1" || q.Entry.ID.String() != "g" || string(q.Payload) != `{"model":"pump"}` || q.CurrentHub != "" || q.CurrentDevice != "" ||
		!slices.Equal(q.Hubs, []string{builtIn, otherHub}) || q.Entry.Custom.URL != "https://alloc.example.net/pick?code=secret" {
		t.Fatalf("asked %+v", q)
	}
	if got := w.registration("pump-1"); string(got.Returned) != `{"k":1}` || string(got.Payload) != `{"model":"pump"}` {
		t.Errorf("on record %+v", got)
	}
	if twin := w.twin("pump-1"); string(twin.Tags) != `{"floor":3}` {
		t.Errorf("tags %s", twin.Tags)
	}
	poll, err := w.engine.Poll(w.ctx, provisioning.PollRequest{Attempt: device, OperationID: op.Operation.ID})
	if err != nil || string(poll.Returned) != `{"k":1}` {
		t.Errorf("polled %+v, %v", poll, err)
	}

	// Later it is asked again, with where the device lives; its twin goes before the one that
	// would migrate, and what it has no more to say is gone.
	w.webhook.says(provisioning.AllocationAnswer{Hub: builtIn, InitialTwin: []byte(`{"properties":{"desired":{"a":1}}}`)}, nil)
	op = w.registerWith(device, `{}`)
	if op.Hub != builtIn || op.Returned != nil || op.Substatus != policies.DeviceDataMigrated {
		t.Errorf("%+v", op.Registration)
	}
	if q = w.webhook.asked[1]; q.CurrentHub != otherHub || q.CurrentDevice != "Pump-1" {
		t.Errorf("asked %+v", q)
	}
	if twin := w.twin("pump-1"); string(twin.Tags) != `{}` || string(twin.Desired) != `{"a":1}` {
		t.Errorf("twin %s %s", twin.Tags, twin.Desired)
	}

	// On its own hub a device keeps its twin.
	w.webhook.says(provisioning.AllocationAnswer{Hub: builtIn, InitialTwin: []byte(`{"tags":{"b":2}}`)}, nil)
	if op = w.registerWith(device, `{}`); op.Substatus != policies.ReprovisionedToInitialAssignment || string(w.twin("pump-1").Tags) != `{}` {
		t.Errorf("%+v, tags %s", op.Registration, w.twin("pump-1").Tags)
	}
}

func (w *world) twin(name string) provisioning.Twin {
	w.t.Helper()
	d, err := w.engine.Device(w.ctx, id(w, name))
	w.must(err)
	if d.Twin == nil {
		w.t.Fatal("no twin")
	}
	return *d.Twin
}

func TestAWebhookThatFailsLeavesNothingOnAnyHub(t *testing.T) {
	t.Parallel()
	w, device := asking(t)
	draining := "hub-3.example.net"
	_, err := w.engine.PutHub(w.ctx, "operator:test", provisioning.Hub{Name: draining, Driver: provisioning.BuiltIn, Draining: true}, provisioning.Precondition{})
	w.must(err)
	twin := picked(builtIn)
	twin.InitialTwin = []byte(`{"tags":{"$x":1}}`)
	payload := picked(builtIn)
	payload.Payload = []byte(`{`)
	refusal := fault.New(fault.Unavailable, "allocation-refused", "Custom allocation failed with status code: 400")
	for name, c := range map[string]struct {
		answer  provisioning.AllocationAnswer
		err     error
		code    int
		message string
	}{
		"a refusal with a code":     {provisioning.AllocationAnswer{Code: 400207}, refusal, 400207, refusal.Detail},
		"a refusal without one":     {provisioning.AllocationAnswer{}, refusal, 400000, refusal.Detail},
		"a hub that is not linked":  {picked("gone.example.net"), nil, 400000, "named a hub that"},
		"a hub that is draining":    {picked(draining), nil, 400000, "named a hub that|takes no new devices"},
		"no hub":                    {picked(""), nil, 400000, "named a hub that"},
		"a twin nobody can have":    {twin, nil, 400000, "twin"},
		"a payload that is no JSON": {payload, nil, 400000, "payload"},
		"no answer":                 {provisioning.AllocationAnswer{}, fault.New(fault.Unavailable, "allocation-unreachable", "out of reach"), 400000, "out of reach"},
		"an error of its own":       {provisioning.AllocationAnswer{}, errors.New("10.0.0.1 refused"), 400000, "the allocation webhook cannot be asked"},
	} {
		t.Run(name, func(t *testing.T) {
			w.webhook.says(c.answer, c.err)
			op := w.registerWith(device, `{}`)
			told := slices.ContainsFunc(strings.Split(c.message, "|"), func(m string) bool { return strings.Contains(op.ErrorMessage, m) })
			if op.State != provisioning.Failed || op.Hub != "" || op.ErrorCode != c.code || !told || op.Returned != nil {
				t.Errorf("%s, hub %q, %d %q", op.State, op.Hub, op.ErrorCode, op.ErrorMessage)
			}
		})
	}
	w.webhook.says(picked(builtIn), nil)
	if op := w.assigned(device); op.ErrorCode != 0 || op.ErrorMessage != "" {
		t.Errorf("afterwards %d %q", op.ErrorCode, op.ErrorMessage)
	}
}

func TestAWebhookIsAskedOncePerRequest(t *testing.T) {
	t.Parallel()
	w, device := asking(t)
	w.webhook.says(picked(builtIn), nil)
	w.assigned(device)
	// While it is asked, the same device registers by another request: the facts move.
	w.webhook.asked = nil
	w.webhook.answer = func(provisioning.AllocationRequest) (provisioning.AllocationAnswer, error) {
		if len(w.webhook.asked) == 1 {
			w.assigned(device)
		}
		return picked(builtIn), nil
	}
	w.assigned(device)
	if n := len(w.webhook.asked); n != 2 {
		t.Errorf("two requests, and it was asked %d times", n)
	}
	// While it is asked, an operator takes a hub out of its choice: the question is another.
	w.webhook.asked = nil
	w.webhook.answer = func(provisioning.AllocationRequest) (provisioning.AllocationAnswer, error) {
		if len(w.webhook.asked) == 1 {
			w.put(provisioning.Group, "g", provisioning.Attestation{Role: provisioning.RoleKey}, custom, func(d *provisioning.Draft) { d.Hubs = []string{otherHub} })
			return picked(builtIn), nil
		}
		return picked(otherHub), nil
	}
	if op := w.assigned(device); op.Hub != otherHub || len(w.webhook.asked) != 2 {
		t.Errorf("hub %s after %d questions", op.Hub, len(w.webhook.asked))
	}
}

func TestAWebhookIsNotAskedInVain(t *testing.T) {
	t.Parallel()
	w, device := asking(t, func(d *provisioning.Draft) { d.Reprovision = policies.ReprovisionPolicy{} })
	x, err := w.engine.Explain(w.ctx, device.ID, nil)
	if err != nil || len(w.webhook.asked) != 0 {
		t.Fatalf("%+v, %v", x, err)
	}
	w.webhook.says(picked(otherHub), nil)
	w.assigned(device)
	if op := w.assigned(device); op.Hub != otherHub || len(w.webhook.asked) != 1 {
		t.Errorf("never reprovision: hub %s after %d questions", op.Hub, len(w.webhook.asked))
	}
	w.put(provisioning.Group, "g", provisioning.Attestation{Role: provisioning.RoleKey}, custom)
	if x, err = w.engine.Explain(w.ctx, device.ID, nil); err != nil || !x.Admitted || x.Hub != "" || len(w.webhook.asked) != 1 {
		t.Fatalf("%+v, %v", x, err)
	}
	if last := x.Trace[len(x.Trace)-1]; last.Rule != "allocation" || !strings.Contains(last.Detail, "https://alloc.example.net/pick") || strings.Contains(last.Detail, "secret") {
		t.Errorf("explained by %+v", last)
	}
	w.enable(provisioning.Owner{Kind: provisioning.Group, ID: id(w, "g")}, false)
	w.refused(device, "enrollment-disabled")
	if len(w.webhook.asked) != 1 {
		t.Error("it was asked about a device that is refused")
	}
}

func TestACertificateDoesNotWaitForAWebhook(t *testing.T) {
	t.Parallel()
	w, device := asking(t)
	w.webhook.says(provisioning.AllocationAnswer{}, fault.New(fault.Unavailable, "allocation-refused", "no"))
	op, err := w.engine.Register(w.ctx, provisioning.RegisterRequest{
		Attempt: device, CSR: testkit.CSR(t, testkit.NewKey(t, "p256"), "Pump-1"), HubOptional: true,
	})
	if err != nil || op.State != provisioning.Unassigned || len(op.Chain) == 0 {
		t.Errorf("%s, %d certificates, %v", op.State, len(op.Chain), err)
	}
	_, err = w.engine.Register(w.ctx, provisioning.RegisterRequest{Attempt: device, CSR: testkit.CSR(t, testkit.NewKey(t, "p256"), "somebody")})
	if !fault.Is(err, fault.Malformed) || len(w.webhook.asked) != 1 {
		t.Errorf("asked %d times, at last for a CSR that is refused: %v", len(w.webhook.asked), err)
	}
}

func TestADeviceThatHangsUpLeavesNothing(t *testing.T) {
	t.Parallel()
	w, device := asking(t)
	ctx, hangUp := context.WithCancel(w.ctx)
	w.webhook.answer = func(provisioning.AllocationRequest) (provisioning.AllocationAnswer, error) {
		hangUp()
		return provisioning.AllocationAnswer{}, ctx.Err()
	}
	before := w.rows()
	if _, err := w.engine.Register(ctx, provisioning.RegisterRequest{Attempt: device}); fault.RuleOf(err) != "request-ended" || w.rows() != before {
		t.Errorf("%v, and %d rows in the ledger", err, w.rows()-before)
	}
}

func TestWebhooksThatCannotBeAskedAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keyed(provisioning.Individual, "d1")
	for name, c := range map[string]struct {
		url, version, rule string
	}{
		"https":                             {"https://alloc.example.net/pick?code=1", "2021-10-01", ""},
		"http on this host, in development": {"http://127.0.0.1:7071/pick", "", ""},
		"http on this host by name":         {"http://localhost/pick", "", ""},
		"http elsewhere":                    {"http://alloc.example.net/", "", "webhook-url"},
		"http on a host that sounds local":  {"http://localhost.example.net/", "", "webhook-url"},
		"none":                              {"", "", "webhook-missing"},
		"a version alone":                   {"", "2021-10-01", "webhook-url"},
		"no address":                        {"pick", "", "webhook-url"},
		"no host":                           {"https:///pick", "", "webhook-url"},
		"a port alone":                      {"https://:443/pick", "", "webhook-url"},
		"an opaque address":                 {"https:pick", "", "webhook-url"},
		"a file":                            {"file:///etc/passwd", "", "webhook-url"},
		"a user":                            {"https://ann:pw@alloc.example.net/", "", "webhook-url"},
		"a fragment":                        {"https://alloc.example.net/#a", "", "webhook-url"},
		"a line break":                      {"https://alloc.example.net/\n", "", "webhook-url"},
		"an address without end":            {"https://alloc.example.net/" + strings.Repeat("a", 2048), "", "webhook-url"},
		"a version with a line break":       {"https://alloc.example.net/", "2021\n", "webhook-version"},
		"a version without end":             {"https://alloc.example.net/", strings.Repeat("1", 65), "webhook-version"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := w.engine.Put(w.ctx, "operator:test", provisioning.Draft{
				Owner: provisioning.Owner{Kind: provisioning.Individual, ID: id(w, "d1")}, Spelled: "d1", Enabled: true,
				Attestation: provisioning.Attestation{Role: provisioning.RoleKey}, Allocation: policies.Custom,
				Custom: provisioning.CustomAllocation{URL: c.url, APIVersion: c.version},
			}, provisioning.Precondition{Any: true})
			if fault.RuleOf(err) != c.rule || err != nil && !fault.Is(err, fault.Malformed) {
				t.Errorf("%v, want %q", err, c.rule)
			}
		})
	}
}

func TestGeoLatencyGoesByLocation(t *testing.T) { // X8
	t.Parallel()
	w := newWorld(t)
	link := func(name, location string) {
		_, err := w.engine.PutHub(w.ctx, "operator:test", provisioning.Hub{Name: name, Driver: provisioning.BuiltIn, Weight: 1, Location: location}, provisioning.Precondition{})
		w.must(err)
	}
	link("essen.example.net", "Essen")
	link("lyon.example.net", "lyon")
	nearby := func(d *provisioning.Draft) { d.Allocation = policies.GeoLatency }
	key := w.keyed(provisioning.Group, "g", nearby)
	device := w.signing("d1", derive(key, "d1"))
	for _, step := range []struct{ payload, hub string }{
		{`{"location":"ESSEN"}`, "essen.example.net"},
		{`{"location":"lyon"}`, "lyon.example.net"}, // it has moved
		{`{}`, "lyon.example.net"},                  // where its hub is
		{`[1]`, "lyon.example.net"},
		{`{"location":7}`, "lyon.example.net"},
	} {
		if op := w.registerWith(device, step.payload); op.Hub != step.hub {
			t.Errorf("%s: %s, want %s", step.payload, op.Hub, step.hub)
		}
	}
	x, err := w.engine.Explain(w.ctx, device.ID, nil)
	if err != nil || x.Hub != "lyon.example.net" || x.Trace[len(x.Trace)-1].Detail != "same-location" {
		t.Errorf("explained as %+v, %v", x, err)
	}
	w.put(provisioning.Group, "g", provisioning.Attestation{Role: provisioning.RoleKey}, nearby, func(d *provisioning.Draft) {
		d.InitialTwin = []byte(`{"tags":{"location":"essen"}}`)
	})
	w.pass(time.Second)
	if op := w.registerWith(device, `{"location":"lyon"}`); op.Hub != "essen.example.net" {
		t.Errorf("the operator says essen, and it went to %s", op.Hub)
	}
}

func TestAHubIsTested(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keyed(provisioning.Group, "g", func(d *provisioning.Draft) { d.Hubs = []string{builtIn} })
	got, err := w.engine.TestHub(w.ctx, strings.ToUpper(builtIn))
	if err != nil || got.Name != builtIn || got.Entries != 1 || got.Devices != 0 || !strings.Contains(got.Detail, "takes new devices") {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := w.engine.TestHub(w.ctx, "gone"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a hub that is not linked: %v", err)
	}
}

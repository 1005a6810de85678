package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// Whoever is refused at a door is remembered for explain, with the door, the address and
// the trace of the run that refused (MQTT: api/mqtt).
func TestARefusalAtAnyDoorIsRemembered(t *testing.T) {
	w := newWorld(t)
	w.enable(provisioning.Group, "sas-line", false)
	w.enable(provisioning.Group, "line-3", false)
	hour := w.now().Add(time.Hour)
	token := func(id string) string { return testkit.SAS(w.deviceKey(id), idScope, id, hour) }
	for id, x := range map[string]struct {
		ask  request
		door string
		rule string
		cert string
	}{
		"dps-sas":  {dps("PUT", "dps-sas", "/register"+stable, `{"registrationId":"dps-sas"}`).with("Authorization", token("dps-sas")), "dps", "enrollment-disabled", ""},
		"dps-poll": {dps("GET", "dps-poll", "/operations/4.a"+stable, "").with("Authorization", token("dps-poll")), "dps", "enrollment-disabled", ""},
		"dps-look": {dps("POST", "dps-look", stable, `{"registrationId":"dps-look"}`).with("Authorization", token("dps-look")), "dps", "enrollment-disabled", ""},
		"dev-1":    {dps("PUT", "dev-1", "/register"+stable, `{"registrationId":"dev-1"}`), "dps", "held-by-disabled", "dev-1"},
		"est-key":  {enroll("simpleenroll", testkit.CSR(t, newKey(), "est-key")).with("Authorization", basicAuth("est-key", w.deviceKey("est-key"))), "est", "enrollment-disabled", ""},
		"dev-2":    {enroll("simpleenroll", testkit.CSR(t, newKey(), "dev-2")), "est", "held-by-disabled", "dev-2"},
	} {
		t.Run(id, func(t *testing.T) {
			client := w.client(nil)
			if x.cert != "" {
				client = w.client(w.deviceCertificate(x.cert))
			}
			want(t, w.do(client, w.devices, x.ask), http.StatusUnauthorized)
			r := must(w.engine.Explain(t.Context(), must(verify.ParseRegistrationID(id)), nil)).LastRefusal
			if r == nil || r.Door != x.door || r.Rule != x.rule || r.Address != "127.0.0.1" || r.Count != 1 || r.Trace[len(r.Trace)-1].Rule != x.rule {
				t.Errorf("remembered %+v", r)
			}
		})
	}
}

// An admitted device whose request is refused learns why, and so does who asks explain.
func TestARefusedRequestIsRememberedWithItsDoor(t *testing.T) {
	w := newWorld(t)
	another := enroll("simpleenroll", testkit.CSR(t, newKey(), "another"))
	want(t, w.do(w.client(w.deviceCertificate("dev-1")), w.devices, another), http.StatusBadRequest)
	r := must(w.engine.Explain(t.Context(), must(verify.ParseRegistrationID("dev-1")), nil)).LastRefusal
	if r == nil || r.Door != "est" || r.Trace[len(r.Trace)-1].Verdict != provisioning.Refuse || r.Trace[len(r.Trace)-2].Rule != "group" {
		t.Errorf("remembered %+v", r)
	}
}

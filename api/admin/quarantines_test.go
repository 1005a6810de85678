package admin

import (
	"net/http"
	"testing"

	"github.com/passmuster/muster/policies"
)

func TestQuarantines(t *testing.T) {
	t.Parallel()
	w := linked(t)
	w.put("/groups/line", `{"attestation":{"type":"symmetricKey"},"credentialPolicyName":"default"}`).want(http.StatusCreated)
	w.put("/hubs/ward", `{"driver":"registry","weight":0}`).want(http.StatusCreated)
	for _, device := range []string{"dev-1", "dev-2"} {
		w.register("line", device)
	}
	const order = `{"hub":"ward","why":"it scans","initialTwin":{"tags":{"ward":true}}}`
	w.post("/registrations/dev-1/quarantine/preview", order).want(http.StatusOK).has("hub", "ward").has("from", "hub-1").has("atOnce", true).has("elsewhere", false).has("already", nil)
	w.get("/quarantines").want(http.StatusOK).has("items.0", nil)
	for _, path := range []string{"/registrations/dev-1/quarantine", "/registrations/dev-1/quarantine/end"} {
		w.postAs(policies.RoleOperator, path, order).want(http.StatusForbidden, "scope-missing")
	}
	w.post("/registrations/dev-1/quarantine", `{"hub":"ward","why":""}`).want(http.StatusBadRequest, "quarantine-why")
	w.post("/registrations/dev-1/quarantine", `{"hub":"none","why":"x"}`).want(http.StatusBadRequest, "quarantine-hub")
	w.post("/registrations/dev-1/quarantine", `{"hub":"hub-1","why":"x"}`).want(http.StatusConflict, "quarantine-same-hub")
	w.post("/registrations/dev-9/quarantine", order).want(http.StatusNotFound, "registration-not-found")

	for _, device := range []string{"DEV-1", "dev-2"} {
		w.post("/registrations/"+device+"/quarantine", order).want(http.StatusOK).has("state", "done").has("from", "hub-1").has("quarantinedBy", "operator:admin").has("initialTwin.tags.ward", true)
	}
	w.get("/registrations/dev-1").want(http.StatusOK).has("assignedHub", "ward").has("twin.tags.ward", true)
	w.get("/quarantines/dev-1").want(http.StatusOK).has("hubs.0.hub", "hub-1").has("hubs.0.shall", "remove").has("hubs.0.state", "confirmed").has("hubs.1.hub", "ward").has("hubs.1.shall", "have")
	w.get("/explain/dev-1").want(http.StatusOK).has("assignedHub", "ward").has("admitted", true)
	if got := w.walk("/quarantines?hub=WARD", "registrationId", 1, func(int) {}); len(got) != 2 {
		t.Errorf("pages have %v", got)
	}
	w.get("/quarantines?pending=true").want(http.StatusOK).has("items.0", nil)
	w.get("/quarantines?cursor=none").want(http.StatusBadRequest, "cursor")
	w.delete("/hubs/ward", "*").want(http.StatusConflict, "hub-in-use")
	w.delete("/registrations/dev-1", "*").want(http.StatusConflict, "registration-quarantined")

	w.post("/registrations/dev-1/quarantine/end", `{"why":""}`).want(http.StatusBadRequest, "quarantine-why")
	w.post("/registrations/dev-1/quarantine/end", `{"why":"clean"}`).want(http.StatusOK).has("state", "ended").has("endedBy", "operator:admin")
	w.get("/registrations/dev-1").want(http.StatusOK).has("assignedHub", nil).has("quarantinedAt", nil)
	w.get("/quarantines?ended=true").want(http.StatusOK).has("items.0.registrationId", "dev-1").has("items.1", nil)
	w.post("/registrations/dev-9/quarantine/end", `{"why":"x"}`).want(http.StatusNotFound, "quarantine-not-found")
	w.get("/quarantines/dev-9").want(http.StatusNotFound, "quarantine-not-found")
}

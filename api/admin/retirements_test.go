package admin

import (
	"net/http"
	"testing"
	"time"

	"github.com/passmuster/muster/policies"
)

// postAs is a request of somebody else than the administrator.
func (w *world) postAs(who policies.Role, path, body string, ifMatch ...string) *answer {
	w.t.Helper()
	r := request{role: who, method: http.MethodPost, path: path, body: body, header: http.Header{}}
	if len(ifMatch) > 0 {
		r.header.Set("If-Match", ifMatch[0])
	}
	return w.do(r)
}

func TestRetirements(t *testing.T) {
	t.Parallel()
	w := linked(t)
	w.put("/groups/line", `{"attestation":{"type":"symmetricKey"},"credentialPolicyName":"default"}`).want(http.StatusCreated)
	w.register("line", "dev-1")
	w.register("line", "dev-2")

	w.get("/registrations/dev-1/retiring").want(http.StatusOK).has("enrollment", "exception").has("certificates", 1).has("hub", "hub-1").
		has("owner.id", "line").has("elsewhere", false).has("staysOpen.0", nil)
	w.get("/registrations/dev-9/retiring").want(http.StatusNotFound, "device-unknown")
	w.get("/retirements/dev-1").want(http.StatusNotFound, "retirement-not-found")
	w.post("/registrations/dev-9/retire", ``).want(http.StatusNotFound, "device-unknown")
	w.postAs(policies.RoleOperator, "/registrations/dev-1/retire", ``).want(http.StatusForbidden, "scope-missing")

	w.post("/registrations/dev-1/retire", ``).want(http.StatusOK).has("state", "done").has("enrollment", "exception").has("certificates", 1).has("retiredBy", "operator:admin").has("recordDeleted", false)
	w.get("/registrations/dev-1").want(http.StatusOK).has("status", "unassigned").has("assignedHub", nil).has("owner.kind", "individual")
	w.get("/enrollments/dev-1").want(http.StatusOK).has("provisioningStatus", "disabled")
	w.post("/registrations/DEV-1/retire", `{"deleteRecord":true}`).want(http.StatusOK).has("recordDeleted", true).has("enrollment", "was-disabled")
	w.get("/registrations/dev-1").want(http.StatusNotFound)
	w.get("/retirements/dev-1").want(http.StatusOK).has("registrationId", "dev-1").has("confirmedDateTimeUtc", "2026-03-01T08:00:00Z")

	w.post("/registrations/dev-2/retire", `{}`).want(http.StatusOK)
	if got := w.walk("/retirements", "registrationId", 1, func(int) {}); len(got) != 2 {
		t.Errorf("pages have %v", got)
	}
	w.get("/retirements?pending=true").want(http.StatusOK).has("items.0", nil)
}

func TestACampaignThatEndsSomethingIsPlannedFirst(t *testing.T) {
	t.Parallel()
	w := linked(t)
	w.put("/groups/line", `{"attestation":{"type":"symmetricKey"},"credentialPolicyName":"default"}`).want(http.StatusCreated)
	for _, device := range []string{"dev-1", "dev-2", "dev-3"} {
		w.register("line", device)
	}
	w.advance(time.Minute)
	const retire = `{"name":"scrap","act":"retire","select":{"ids":["dev-1","dev-2","dev-9"]}}`
	w.postAs(policies.RoleOperator, "/campaigns", retire).want(http.StatusForbidden, "scope-missing")
	w.post("/campaigns", `{"name":"all","act":"retire","select":{"everything":true}}`).want(http.StatusBadRequest, "campaign-invalid")
	w.post("/campaigns", `{"name":"x","act":"renew","deleteRecords":true,"select":{"group":"line"}}`).want(http.StatusBadRequest, "campaign-invalid")
	w.post("/campaigns", retire).want(http.StatusCreated)
	w.sweepCampaigns()
	got := w.get("/campaigns/scrap").want(http.StatusOK).has("state", "paused").has("reason", "planned").has("devices", 2).has("failures.device-unknown", 1)
	w.get("/campaigns/scrap/plan").want(http.StatusOK).has("items.0.enrollment", "exception").has("items.0.devices", 2).has("items.0.certificates", 2).has("items.1", nil)
	w.get("/campaigns/none/plan").want(http.StatusNotFound, "campaign-not-found")
	w.get("/campaigns/scrap/devices").want(http.StatusOK).has("items.0.plan.enrollment", "exception").has("items.0.plan.hub", "hub-1").has("items.2.plan", nil)

	w.postAs(policies.RoleOperator, "/campaigns/scrap/resume", ``, got.etag()).want(http.StatusForbidden, "scope-missing")
	w.post("/campaigns/scrap/resume", ``).want(http.StatusPreconditionRequired, "if-match-required")
	w.post("/campaigns/scrap/resume", ``, got.etag()).want(http.StatusOK).has("state", "running")
	w.sweepCampaigns()
	w.get("/campaigns/scrap").want(http.StatusOK).has("state", "done").has("funnel.retired", 2).has("funnel.failed", 1)
	w.get("/retirements?campaign=scrap").want(http.StatusOK).has("items.1.registrationId", "dev-2").has("items.2", nil)

	w.delete("/groups/line", "*").want(http.StatusNoContent)
	w.get("/registrations?orphaned=true").want(http.StatusOK).has("items.0.registrationId", "dev-3").has("items.1", nil)
	w.postAs(policies.RoleViewer, "/campaigns", `{"name":"tidy","act":"delete","select":{"orphaned":true}}`).want(http.StatusForbidden)
	w.postAs(policies.RoleOperator, "/campaigns", `{"name":"tidy","act":"delete","fromHub":true,"select":{"orphaned":true}}`).want(http.StatusCreated).has("fromHub", true).has("select.orphaned", true)
	w.sweepCampaigns()
	w.postAs(policies.RoleOperator, "/campaigns/tidy/resume", ``, "*").want(http.StatusOK)
	w.sweepCampaigns()
	w.get("/registrations/dev-3").want(http.StatusNotFound)
}

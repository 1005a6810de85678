package admin

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/passmuster/muster/policies"
)

// sweep runs the sweep of campaigns until nothing is left to do at this moment.
func (w *world) sweepCampaigns() {
	w.t.Helper()
	for more := true; more; {
		more = must(w.engine.SweepCampaigns(w.t.Context(), w.jobs))
	}
}

func TestCampaigns(t *testing.T) {
	t.Parallel()
	w := linked(t)
	w.put("/groups/line", `{"attestation":{"type":"symmetricKey"},"credentialPolicyName":"default"}`).want(http.StatusCreated)
	for i := range 5 {
		w.register("line", fmt.Sprintf("dev-%d", i))
	}
	w.advance(time.Minute)
	const settings = `{"name":"march","act":"renew","select":{"group":"line"},"canaryDevices":1,"waves":2,"maxPerHour":100,"jitter":"PT10M","patience":"PT10M",` +
		`"windows":[{"opens":"0 * * * *","length":"PT1H","zone":"Europe/Berlin"}]}`
	w.post("/campaigns/preview", settings).want(http.StatusOK).has("devices", 5).has("whole", true).has("waves.0", 1).has("waves.1", 2)
	made := w.post("/campaigns", settings).want(http.StatusCreated).
		has("state", "gathering").has("patience", "PT10M").has("waveAfter", 0.9).has("windows.0.length", "PT1H").has("jitter", "PT10M").has("createdBy", "operator:admin")
	if made.header.Get("Location") != "/api/v1/campaigns/march" || made.etag() == "" {
		t.Errorf("made at %q, version %q", made.header.Get("Location"), made.etag())
	}
	w.post("/campaigns", settings).want(http.StatusConflict, "campaign-exists")
	w.post("/campaigns/preview", settings).want(http.StatusConflict, "campaign-exists")
	w.sweepCampaigns()
	w.get("/campaigns/march").want(http.StatusOK).has("state", "running").has("devices", 5).has("wave", 1).
		has("funnel.due", 4).has("funnel.told", 1).has("progress.0.told", 1).has("progress.1.due", 2).has("progress.2.devices", 2).
		has("windowOpen", true).has("leftThisHour", 99).has("forecast.0.devices", 4)
	if got := w.walk("/campaigns/march/devices", "registrationId", 2, func(int) {}); len(got) != 5 {
		t.Errorf("pages have %v", got)
	}
	if got := w.walk("/campaigns/march/devices?state=due", "registrationId", 2, func(int) {}); len(got) != 4 {
		t.Errorf("pages of those due have %v", got)
	}
	w.get("/campaigns/march/devices?state=told").want(http.StatusOK).has("items.0.wave", 1).has("items.1", nil)

	etag := made.etag()
	w.post("/campaigns/march/pause", `{"reason":"shift change"}`, etag).want(http.StatusOK).has("state", "paused").has("reason", "shift change")
	w.post("/campaigns/march/pause", ``).want(http.StatusConflict, "campaign-not-running")
	w.post("/campaigns/march/resume", ``, etag).want(http.StatusPreconditionFailed)
	w.post("/campaigns/march/resume", ``).want(http.StatusOK).has("state", "running").has("reason", nil)
	w.post("/campaigns/march/resume", ``).want(http.StatusConflict, "campaign-not-paused")
	w.advance(30 * time.Minute)
	w.sweepCampaigns()
	w.get("/campaigns/march").want(http.StatusOK).has("state", "paused").has("reason", "wave-incomplete").has("failures.not-coming", 1).has("windowOpen", nil)
	w.get("/campaigns/march/devices?state=failed").want(http.StatusOK).has("items.0.reason", "not-coming")
	w.post("/campaigns/march/abort", `{"reason":"enough"}`).want(http.StatusOK).has("state", "aborted")
	w.post("/campaigns/march/abort", ``).want(http.StatusConflict, "campaign-ended")
	w.get("/campaigns").want(http.StatusOK).has("items.0.name", "march").has("items.0.state", "aborted").has("items.0.funnel", nil)
	w.get("/audit?action=campaign.aborted").want(http.StatusOK).has("items.0.subject", "campaign:march").has("items.0.actor", "operator:admin")

	w.get("/campaigns/april").want(http.StatusNotFound)
	w.get("/campaigns/april/devices").want(http.StatusNotFound)
	w.post("/campaigns/april/pause", ``).want(http.StatusNotFound)
	w.get("/campaigns?cursor=nonsense").want(http.StatusBadRequest)
	w.get("/campaigns/march/devices?cursor=nonsense").want(http.StatusBadRequest)
	for _, c := range []struct{ name, body, rule, where string }{
		{"no selection", `{"name":"x","act":"renew","select":{}}`, "campaign-invalid", "/select"},
		{"an act there is not", `{"name":"x","act":"reboot","select":{"group":"line"}}`, "schema", "/act"},
		{"no such group", `{"name":"x","act":"renew","select":{"group":"gone"}}`, "campaign-selects-nothing", "/select/group"},
		{"no id", `{"name":"x","act":"renew","select":{"ids":["no id"]}}`, "registration-id", "/select/ids"},
		{"a length that is none", `{"name":"x","act":"renew","select":{"group":"line"},"windows":[{"opens":"0 2 * * *","length":"long"}]}`, "duration", "/windows/0/length"},
		{"a window that never opens", `{"name":"x","act":"renew","select":{"group":"line"},"windows":[{"opens":"0 2 31 2 *","length":"PT1H"}]}`, "campaign-invalid", "/windows/0/opens"},
		{"a jitter that is none", `{"name":"x","act":"renew","select":{"group":"line"},"jitter":"soon"}`, "duration", "/jitter"},
	} {
		for _, path := range []string{"/campaigns", "/campaigns/preview"} {
			a := w.post(path, c.body).want(http.StatusBadRequest, c.rule)
			if a.at("errors.0.pointer") != c.where && a.at("errors.0.location") != c.where {
				t.Errorf("%s: %s", c.name, a.text)
			}
		}
	}
}

func TestReprovisioningOneDevice(t *testing.T) {
	t.Parallel()
	w := linked(t)
	w.put("/groups/line", `{"attestation":{"type":"symmetricKey"},"credentialPolicyName":"default"}`).want(http.StatusCreated)
	w.register("line", "dev-1")
	w.advance(time.Minute)
	w.post("/registrations/dev-1/reprovision", ``).want(http.StatusOK).has("registrationId", "dev-1")
	w.get("/registrations/dev-1").want(http.StatusOK).has("twin.properties.desired.muster.reprovision.reason", "operator")
	w.post("/registrations/dev-2/reprovision", ``).want(http.StatusNotFound)
	w.do(request{role: policies.RoleViewer, method: http.MethodPost, path: "/registrations/dev-1/reprovision"}).want(http.StatusForbidden)
	w.do(request{role: policies.RoleOperator, method: http.MethodPost, path: "/registrations/dev-1/reprovision"}).want(http.StatusOK)
	w.post("/groups/line/disable", ``, "*").want(http.StatusOK)
	w.post("/registrations/dev-1/reprovision", ``).want(http.StatusConflict, "entry-disabled")
}

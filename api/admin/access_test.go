package admin

import (
	"net/http"
	"testing"

	"github.com/passmuster/muster/policies"
)

func TestSharedAccess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := w.put("/access/service/Tools", `{"rights":["enrollmentRead","EnrollmentWrite"]}`).want(http.StatusCreated).
		has("plane", "service").has("name", "tools").has("rights.0", "EnrollmentRead").has("rights.1", "EnrollmentWrite").has("primaryKey", nil)
	if made.header.Get("Location") != prefix+"/access/service/tools" {
		t.Errorf("made at %q", made.header.Get("Location"))
	}
	w.put("/access/hub/tools", `{"rights":["RegistryRead"]}`).want(http.StatusCreated)
	w.put("/access/service/tools", `{"rights":["EnrollmentRead"]}`).want(http.StatusPreconditionRequired)
	w.get("/access").want(http.StatusOK).has("items.0.plane", "hub").has("items.1.name", "tools").has("items.0.primaryKey", nil)

	keys := w.post("/access/service/TOOLS/keys", "").want(http.StatusOK).has("name", "tools")
	primary, secondary := keys.at("primaryKey"), keys.at("secondaryKey")
	w.put("/access/service/tools", `{"rights":["EnrollmentRead"]}`, made.etag()).want(http.StatusOK).has("rights.1", nil)
	w.post("/access/service/tools/keys", "").want(http.StatusOK).has("primaryKey", primary).has("secondaryKey", secondary)
	w.post("/access/service/tools/rotate", `{"slot":"secondary"}`, made.etag()).want(http.StatusPreconditionFailed)
	w.post("/access/service/tools/rotate", `{"slot":"secondary"}`).want(http.StatusOK)
	if now := w.post("/access/service/tools/keys", "").want(http.StatusOK).has("primaryKey", primary); now.at("secondaryKey") == secondary {
		t.Error("the secondary key stands")
	}
	w.post("/access/service/tools/rotate", `{"slot":"primary"}`, w.get("/access/service/tools").etag()).want(http.StatusOK)
	if now := w.post("/access/service/tools/keys", ""); now.at("primaryKey") == primary {
		t.Error("the primary key stands")
	}
	w.get("/audit?subject=access:service/tools&limit=1").want(http.StatusOK).has("items.0.action", "enrollment.keys-read")

	w.delete("/access/service/tools").want(http.StatusPreconditionRequired)
	w.delete("/access/service/tools", "*").want(http.StatusNoContent)
	for _, r := range []request{
		{method: "GET", path: "/access/service/tools"}, {method: "DELETE", path: "/access/service/tools"},
		{method: "POST", path: "/access/service/tools/keys"}, {method: "POST", path: "/access/service/tools/rotate", body: `{"slot":"primary"}`},
	} {
		r.role = policies.RoleAdmin
		w.do(r).want(http.StatusNotFound)
	}
}

// What a policy's keys open is more than a viewer or an operator may do.
func TestWhoMaySeeSharedAccess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put("/access/hub/tools", `{"rights":["RegistryRead"]}`).want(http.StatusCreated)
	for role, want := range map[policies.Role]struct{ list, keys int }{
		policies.RoleViewer: {403, 403}, policies.RoleOperator: {403, 403}, policies.RoleSecurity: {403, 200}, policies.RoleAdmin: {200, 200}, "": {401, 401},
	} {
		w.do(request{role: role, method: "GET", path: "/access"}).want(want.list)
		w.do(request{role: role, method: "POST", path: "/access/hub/tools/keys"}).want(want.keys)
	}
}

func TestAHubIsTested(t *testing.T) {
	t.Parallel()
	w := linked(t)
	w.put("/enrollments/press-1", `{"attestation":{"type":"symmetricKey"},"iotHubs":["hub-1"],"allocationPolicy":"custom","customAllocationDefinition":{"webhookUrl":"https://alloc.example.net/pick?code=a-key","apiVersion":"2021-10-01"}}`).
		want(http.StatusCreated).has("customAllocationDefinition.apiVersion", "2021-10-01")
	w.get("/enrollments/press-1").want(http.StatusOK).has("customAllocationDefinition.webhookUrl", "https://alloc.example.net/pick?code=a-key")
	w.get("/enrollments").want(http.StatusOK).has("items.0.customAllocationDefinition.webhookUrl", "https://alloc.example.net/pick?code=a-key")
	w.patch("/enrollments/press-1", `{"capabilities":{"iotEdge":true}}`, "*").want(http.StatusOK).has("customAllocationDefinition.webhookUrl", "https://alloc.example.net/pick?code=a-key")
	w.patch("/enrollments/press-1", `{"allocationPolicy":"geoLatency","customAllocationDefinition":null}`, "*").want(http.StatusOK).has("customAllocationDefinition", nil).has("allocationPolicy", "geoLatency")
	w.post("/hubs/HUB-1/test", "").want(http.StatusOK).has("name", "hub-1").has("ok", true).has("enrollments", 1).has("devices", 0)
	w.patch("/hubs/hub-1", `{"weight":0}`, "*").want(http.StatusOK)
	w.post("/hubs/hub-1/test", "").want(http.StatusOK).has("detail", "The built-in hub is there; with weight 0 it takes devices only by static or custom allocation.")
	w.post("/hubs/hub-9/test", "").want(http.StatusNotFound)
}

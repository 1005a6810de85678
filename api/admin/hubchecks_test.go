package admin

import (
	"net/http"
	"testing"

	"github.com/passmuster/muster/policies"
)

func TestAHubIsChecked(t *testing.T) {
	t.Parallel()
	w := linked(t)
	w.get("/hubs/hub-1/checks").want(http.StatusOK).has("items.0", nil)
	made := w.post("/hubs/HUB-1/checks", "").want(http.StatusCreated).has("state", "open").has("hub", "hub-1").has("requestedBy", "operator:admin")
	path := "/hubs/hub-1/checks/" + made.at("id").(string)
	w.post("/hubs/hub-1/checks", "").has("id", made.at("id")) // while it is open
	w.get(path+"/drift").want(http.StatusOK).has("items.0", nil)
	repair := `{"check":"` + made.at("id").(string) + `"}`
	_, err := w.engine.SweepHubChecks(t.Context(), w.jobs)
	check(t, err)
	w.get(path).want(http.StatusOK).has("state", "done").has("held", 0).has("repair", nil)
	w.get("/hubs/hub-1").want(http.StatusOK).has("drift", 0)
	w.post("/hubs/hub-1/repair", repair).want(http.StatusConflict, "hub-built-in")
	w.post("/hubs/hub-1/repair", `{"check":""}`).want(http.StatusBadRequest, "hub-check-missing")
	w.post("/hubs/hub-1/repair", `{"check":"none"}`).want(http.StatusNotFound, "hub-check-not-found")
	w.get("/hubs/hub-1/checks/none").want(http.StatusNotFound)
	w.get("/hubs/hub-1/checks/none/drift").want(http.StatusNotFound)
	w.post("/hubs/gone/checks", "").want(http.StatusNotFound)
	w.get("/hubs/gone/checks").want(http.StatusNotFound)

	for role, code := range map[policies.Role]int{policies.RoleViewer: http.StatusForbidden, policies.RoleOperator: http.StatusConflict} {
		w.do(request{role: role, method: http.MethodPost, path: "/hubs/hub-1/repair", body: repair}).want(code)
	}
	w.do(request{role: policies.RoleOperator, method: http.MethodPost, path: "/hubs/hub-1/repair", body: `{"check":"x","removeUnknown":true}`}).want(http.StatusForbidden)
}

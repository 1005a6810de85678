package admin

import (
	"net/http"
	"strings"
	"testing"
	"time"

	ics "github.com/arran4/golang-ical"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
)

func TestPlans(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const nights = `{"role":"devices","entries":["Line-1"],"profiles":["gate"],"windows":[{"opens":"0 2 * * *","length":"PT4H","zone":"Europe/Berlin"}],"maxPerHour":200,"jitter":0.1}`
	made := w.put("/plans/nights", nights).want(http.StatusCreated).has("name", "nights").has("entries.0", "line-1").has("windows.0.length", "PT4H").
		has("open", nil).has("opens", "2026-03-02T01:00:00Z").has("moved", nil).has("overlap", nil).has("warnings", nil)
	if made.header.Get("Location") != prefix+"/plans/nights" {
		t.Errorf("made at %q", made.header.Get("Location"))
	}
	w.put("/plans/rare", `{"role":"devices","profiles":["gate"],"windows":[{"opens":"0 2 1 1 *","length":"PT1H"}]}`).want(http.StatusCreated).has("warnings", nil)
	w.put("/plans/rare-too", `{"role":"devices","profiles":["gate"]}`).want(http.StatusCreated).has("warnings.0", "plan rare fits the same alike: rare decides, the first by name")
	w.put("/plans/keys", `{"role":"keys","every":"P180D","overlap":"P7D"}`).want(http.StatusCreated).has("every", "P180D").has("overlap", "P7D").has("open", true)
	w.get("/plans").want(http.StatusOK).has("items.0.name", "keys").has("items.3.name", "rare-too")

	w.put("/plans/nights", nights).want(http.StatusPreconditionRequired)
	w.patch("/plans/nights", `{"windows":null,"maxPerHour":20}`, made.etag()).want(http.StatusOK).has("windows", nil).has("maxPerHour", 20).has("jitter", .1).has("open", true)
	w.patch("/plans/nights", `{"maxPerHour":30}`, made.etag()).want(http.StatusPreconditionFailed)
	w.post("/plans/nights/pause", "", made.etag()).want(http.StatusPreconditionFailed)
	w.post("/plans/nights/pause", "").want(http.StatusOK).has("paused", true)
	w.post("/plans/nights/resume", "").want(http.StatusOK).has("paused", nil)
	w.get("/plans/nights").want(http.StatusOK).has("maxPerHour", 20)

	w.delete("/plans/nights").want(http.StatusPreconditionRequired)
	w.delete("/plans/nights", "*").want(http.StatusNoContent)
	for _, r := range []request{
		{method: "GET", path: "/plans/nights"}, {method: "DELETE", path: "/plans/nights"}, {method: "POST", path: "/plans/nights/pause"},
		{method: "POST", path: "/plans/nights/resume"},
	} {
		r.role, r.header = policies.RoleAdmin, http.Header{"If-Match": {"*"}}
		w.do(r).want(http.StatusNotFound, "plan-not-found")
	}
}

func TestBadPlansAreRefusedByName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for body, rule := range map[string]string{
		`{}`:                                "plan-invalid",
		`{"role":"devices","name":"other"}`: "name-mismatch",
		`{"role":"devices","windows":[{"opens":"0 0 30 2 *","length":"PT1H"}]}`:   "plan-invalid",
		`{"role":"devices","windows":[{"opens":"0 0 * * *","length":"a while"}]}`: "duration",
		`{"role":"keys","every":"1 year"}`:                                        "duration",
		`{"role":"keys","every":"P1D","overlap":"P2D"}`:                           "plan-invalid",
		`{"role":"groups","prepareAt":0}`:                                         "plan-invalid",
		`{"role":"devices","overlap":"P1D"}`:                                      "plan-invalid",
		`{"role":"groups","entries":["a","a"]}`:                                   "plan-invalid",
	} {
		a := w.put("/plans/bad", body).want(http.StatusBadRequest, rule)
		if a.at("errors.0.pointer") == nil && rule != "" {
			t.Errorf("%s: no pointer in %s", body, a.text)
		}
	}
	w.get("/plans/bad").want(http.StatusNotFound)
}

func TestWhoMayPlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for role, want := range map[policies.Role]int{policies.RoleViewer: 403, policies.RoleOperator: 201, "": 401} {
		w.do(request{role: role, method: "PUT", path: "/plans/p-" + string(role), body: `{"role":"devices"}`}).want(want)
	}
	w.do(request{role: policies.RoleViewer, method: "GET", path: "/plans"}).want(http.StatusOK)
}

// later lets time pass, and has the operators sign in anew.
func (w *world) later(d time.Duration) {
	w.t.Helper()
	w.advance(d)
	for r := range w.tokens {
		text, _, err := w.engine.CreateToken(w.t.Context(), "operator:test", string(r)+"-"+w.now().Format("20060102"), r.Scopes(), time.Hour)
		check(w.t, err)
		w.tokens[r] = text
	}
}

// rolling is a world with two devices that have certificates of 90 days.
func rolling(t *testing.T) *world {
	w := linked(t)
	w.put("/groups/line-1", `{"attestation":{"type":"symmetricKey"},"iotHubs":["hub-1"],"credentialPolicyName":"default"}`).want(http.StatusCreated)
	w.register("line-1", "press-1")
	w.later(24 * time.Hour)
	w.register("line-1", "press-2")
	return w
}

func TestWhatIsDueNext(t *testing.T) {
	t.Parallel()
	w := rolling(t)
	w.put("/plans/weekends", `{"role":"devices","entries":["line-1"],"windows":[{"opens":"0 2 * * 6","length":"PT4H"}]}`).want(http.StatusCreated)
	w.get("/rotation").want(http.StatusOK).has("overdue", 1) // the group, which no sweep has looked at here
	w.get("/rotation/due?role=device").want(http.StatusOK).has("items.0", nil).has("more", false)
	due := w.get("/rotation/due?role=device&before="+w.now().AddDate(0, 0, 90).Format(time.RFC3339)).want(http.StatusOK).
		has("items.0.name", "press-1").has("items.1.name", "press-2").has("items.2", nil).
		has("items.0.move", "remind").has("items.0.reason", "renewal-late").has("items.0.plan", "weekends")
	if due.at("items.0.opens") == nil || due.at("items.0.ends") == nil {
		t.Errorf("no opening, or no end: %s", due.text)
	}
	all := w.get("/rotation/due?limit=500&before=2100-01-01T00:00:00Z").want(http.StatusOK)
	for _, role := range []string{`"group"`, `"device"`, `"issuer"`} {
		if !strings.Contains(all.text, `"role":`+role) && role != `"group"` {
			t.Errorf("nothing of role %s in %s", role, all.text)
		}
	}
	w.get("/rotation/due?limit=1&before=2100-01-01T00:00:00Z").want(http.StatusOK).has("more", true)
	w.get("/rotation/due?before=tomorrow").want(http.StatusBadRequest)
	w.get("/rotation/due?role=firmware").want(http.StatusBadRequest)
	w.later(90 * 24 * time.Hour)
	if overdue := w.get("/rotation").want(http.StatusOK).at("overdue").(float64); overdue < 2 {
		t.Errorf("%v are overdue", overdue)
	}
	w.get("/rotation/stuck?reason=renewal-late").want(http.StatusOK).has("items.0", nil)
	w.get("/rotation/stuck").want(http.StatusBadRequest)
}

func TestRollNow(t *testing.T) {
	t.Parallel()
	w := rolling(t)
	w.post("/rotation/now", `{"registration":"Press-1"}`).want(http.StatusOK).has("role", "device").has("name", "press-1").has("move", "remind").has("reason", "operator")
	w.get("/registrations/press-1").want(http.StatusOK).has("twin.properties.desired.muster.renew.reason", "operator")
	w.get("/audit?subject=registration:press-1&limit=1").want(http.StatusOK).has("items.0.action", "roll.told").has("items.0.actor", "operator:admin-20260302")
	w.get("/rotation/due?role=device&before="+w.now().Add(time.Hour).Format(time.RFC3339)).want(http.StatusOK).has("items.0.name", "press-1").has("items.0.move", "review")

	w.post("/rotation/now", `{"group":"line-1"}`).want(http.StatusOK).has("role", "key").has("move", "review")
	w.get("/audit?subject=group:line-1&limit=1").want(http.StatusOK).has("items.0.action", "roll.asked")

	w.post("/rotation/now", `{"registration":"gone"}`).want(http.StatusNotFound, "registration-not-found")
	w.post("/rotation/now", `{"enrollment":"gone"}`).want(http.StatusNotFound, "enrollment-not-found")
	w.post("/rotation/now", `{"registration":"no/id"}`).want(http.StatusBadRequest).has("errors.0.pointer", "/registration")
	w.post("/rotation/now", `{"registration":"press-1","group":"line-1"}`).want(http.StatusBadRequest, "roll-what")
	w.post("/rotation/now", `{}`).want(http.StatusBadRequest, "roll-what")
	w.do(request{role: policies.RoleViewer, method: "POST", path: "/rotation/now", body: `{"registration":"press-1"}`}).want(http.StatusForbidden)

	w.post("/groups/line-1/disable", "").want(http.StatusOK)
	w.post("/rotation/now", `{"registration":"press-1"}`).want(http.StatusConflict, "not-admitted")
}

func TestWhatEndsWhen(t *testing.T) {
	t.Parallel()
	w := rolling(t)
	f := testkit.Chain(t, "root > mid > leaf")
	w.put("/anchors/plant", `{"certificate":`+quoted(f.Get("root").PEM())+`}`).want(http.StatusCreated)
	w.get("/expiry").want(http.StatusServiceUnavailable, "not-surveyed")
	survey := func() {
		t.Helper()
		if more, err := w.engine.SweepExpiry(t.Context(), w.jobs); more || err != nil {
			t.Fatal(more, err)
		}
	}
	survey()
	// Both end in the week of 25 May 2026 and renew at two thirds: 30 April and 1 May.
	w.get("/expiry?role=device&weeks=156").want(http.StatusOK).has("roles.0.total", 2).has("roles.0.later", nil).has("roles.0.soonest", "2026-05-30T07:55:00Z").has("roles.1", nil).
		has("weeks.0.week", "2026-W18").has("weeks.0.begins", "2026-04-27").has("weeks.0.renewals", 2).has("weeks.0.ending", 0).
		has("weeks.1.week", "2026-W22").has("weeks.1.ending", 2).has("weeks.1.succeeded", 0).has("weeks.1.renewals", 0)
	w.get("/expiry?role=device&weeks=1").want(http.StatusOK).has("roles.0.later", 2).has("weeks.0", nil)
	w.get("/expiry?role=key").want(http.StatusOK).has("roles.0.endless", 1)
	w.get("/expiry?role=anchor").want(http.StatusOK).has("roles.0.total", 1)
	w.get("/expiry?role=server").want(http.StatusOK).has("roles.0", nil)
	w.get("/expiry?weeks=157").want(http.StatusBadRequest)

	w.later(85 * 24 * time.Hour)
	survey()
	w.get("/expiry?role=device").want(http.StatusOK).has("weeks.0.renewals", 2)
	w.later(30 * 24 * time.Hour)
	survey()
	w.get("/expiry?role=device").want(http.StatusOK).has("roles.0.ended", 2)
}

func TestTheCalendar(t *testing.T) {
	t.Parallel()
	w := rolling(t)
	f := testkit.Chain(t, "root > mid > leaf")
	w.put("/anchors/plant", `{"certificate":`+quoted(f.Get("root").PEM())+`}`).want(http.StatusCreated)
	w.put("/groups/line-2", `{"attestation":{"type":"x509","x509":{"signingCertificates":{"primary":{"certificate":`+quoted(f.Get("mid").PEM())+`}}}},"iotHubs":["hub-1"]}`).want(http.StatusCreated)
	w.put("/plans/nights", `{"role":"devices","windows":[{"opens":"0 2 * * *","length":"PT4H"}]}`).want(http.StatusCreated)
	w.put("/plans/paused", `{"role":"groups","paused":true,"windows":[{"opens":"0 2 * * *","length":"PT4H"}]}`).want(http.StatusCreated)
	a := w.get("/calendar.ics").want(http.StatusOK)
	if !strings.Contains(a.text, "END:VEVENT\r\n") || strings.Contains(strings.ReplaceAll(a.text, "\r\n", ""), "\n") {
		t.Error("lines do not end as RFC 5545 §3.1 says")
	}
	cal := must(ics.ParseCalendar(strings.NewReader(a.text)))
	events := map[string]*ics.VEvent{}
	for _, e := range cal.Events() {
		events[strings.TrimSuffix(e.Id(), "@0ne004a1b2c.muster")] = e
	}
	for _, uid := range []string{"anchor-plant-ends", "group-line-2-primary-ends", "plan-nights-0"} {
		if events[uid] == nil {
			t.Errorf("no event %s in\n%s", uid, a.text)
		}
	}
	if len(cal.Events()) != 3+2*2 { // and of the root and the issuing CA their ends and successors
		t.Errorf("%d events in\n%s", len(cal.Events()), a.text)
	}
	night := events["plan-nights-0"]
	starts, ends := must(night.GetStartAt()), must(night.GetEndAt())
	if ends.Sub(starts) != 4*time.Hour || starts.Hour() != 2 {
		t.Errorf("the window is from %v to %v", starts, ends)
	}
	w.do(request{method: "GET", path: "/calendar.ics"}).want(http.StatusUnauthorized)
}

func TestNamesMakeNoLinesInACalendar(t *testing.T) {
	if got := oneLine("CA\r\nBEGIN:VEVENT, x"); got != "CA  BEGIN:VEVENT, x" {
		t.Errorf("%q", got)
	}
}

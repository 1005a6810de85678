package admin

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/testkit"
)

// walk reads a whole list in pages of a size, and does something between them.
func (w *world) walk(path, key string, size int, between func(page int)) (keys []string) {
	w.t.Helper()
	next, pages := "", 0
	for {
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		url := fmt.Sprintf("%s%slimit=%d", path, sep, size)
		if next != "" {
			url += "&cursor=" + next
		}
		a := w.get(url).want(http.StatusOK)
		items := a.at("items").([]any)
		if len(items) > size {
			w.t.Fatalf("a page of %d items for limit=%d", len(items), size)
		}
		for _, item := range items {
			keys = append(keys, fmt.Sprint(item.(map[string]any)[key]))
		}
		more, _ := a.at("next").(string)
		if pages++; more == "" || pages > 100 {
			return keys
		}
		between(pages)
		next = more
	}
}

func TestLists(t *testing.T) {
	t.Parallel()
	w := linked(t)
	w.run("filters of entries", filtersOfEntries)
	w.run("pages are stable under writes", pagesAreStable)
	w.run("lists of short things", shortLists)
	w.run("tokens and issuers", tokensAndIssuers)
	w.run("explain", explains)
}

func pagesAreStable(w *world) {
	enrollment := `{"attestation":{"type":"symmetricKey"}}`
	for i := range 5 {
		w.put(fmt.Sprintf("/enrollments/saw-%d0", i), enrollment).want(http.StatusCreated)
	}
	got := w.walk("/enrollments?q=saw-", "registrationId", 2, func(page int) {
		w.put(fmt.Sprintf("/enrollments/saw-0%d", page), enrollment).want(http.StatusCreated) // before the page
		w.delete("/enrollments/saw-00", "*")
	})
	if want := "saw-00 saw-10 saw-20 saw-30 saw-40"; strings.Join(got, " ") != want {
		w.t.Errorf("walked %v, want %s", got, want)
	}
	if all := w.walk("/enrollments?q=saw-", "registrationId", 2, func(int) {}); len(all) != 6 {
		w.t.Errorf("afterwards %v", all)
	}
	// A page that is exactly full has no next when nothing follows.
	w.get("/enrollments?q=saw-&limit=6").want(http.StatusOK).has("next", nil)
}

func shortLists(w *world) {
	for _, name := range []string{"hub-2", "hub-3"} {
		w.put("/hubs/"+name, `{}`).want(http.StatusCreated)
	}
	if got := w.walk("/hubs", "name", 1, func(int) {}); strings.Join(got, " ") != "hub-1 hub-2 hub-3" {
		w.t.Errorf("hubs %v", got)
	}
	if got := w.walk("/tokens", "name", 3, func(int) {}); strings.Join(got, " ") != "admin operator security viewer" {
		w.t.Errorf("tokens %v", got)
	}
	if got := w.walk("/issuers", "id", 1, func(int) {}); len(got) != 2 {
		w.t.Errorf("issuers %v", got)
	}
	w.get("/profiles").want(http.StatusOK).has("items.0.name", "default").has("items.0.lifetime", "P90D").has("items.0.renewal.overlap", "P1D")
}

func filtersOfEntries(w *world) {
	f := testkit.Chain(w.t, "root > press-2; ca > x")
	w.put("/enrollments/Press-1", `{"attestation":{"type":"symmetricKey"}}`).want(http.StatusCreated)
	w.put("/enrollments/press-2", `{"provisioningStatus":"disabled","attestation":{"type":"x509","x509":{"clientCertificates":{"primary":{"certificate":`+quoted(f.Get("press-2").PEM())+`}}}}}`).want(http.StatusCreated)
	w.put("/enrollments/mill-1", `{"attestation":{"type":"symmetricKey"}}`).want(http.StatusCreated)
	w.put("/groups/line-1", `{"attestation":{"type":"x509","x509":{"signingCertificates":{"primary":{"certificate":`+quoted(f.Get("ca").PEM())+`}}}}}`).want(http.StatusCreated)
	w.put("/groups/line-2", `{"attestation":{"type":"symmetricKey"}}`).want(http.StatusCreated)
	for url, want := range map[string]string{
		"/enrollments?q=PRESS":                       "Press-1 press-2",
		"/enrollments?status=disabled":               "press-2",
		"/enrollments?status=enabled&q=press":        "Press-1",
		"/enrollments?mechanism=symmetricKey":        "mill-1 Press-1",
		"/enrollments?mechanism=x509":                "press-2",
		"/groups?mechanism=signingCertificates":      "line-1",
		"/groups?mechanism=symmetricKey&q=line-":     "line-2",
		"/groups?mechanism=caReferences":             "",
		"/groups?status=enabled&limit=1&q=line-2":    "line-2",
		"/enrollments?q=press-2&mechanism=x509":      "press-2",
		"/enrollments?q=nobody-has-this-very-prefix": "",
	} {
		key := "registrationId"
		if strings.HasPrefix(url, "/groups") {
			key = "enrollmentGroupId"
		}
		if got := strings.Join(w.walk(url, key, 10, func(int) {}), " "); got != want {
			w.t.Errorf("%s: %q, want %q", url, got, want)
		}
	}
}

func TestDevicesFromRegistrationToRevocation(t *testing.T) {
	t.Parallel()
	w := linked(t)
	w.put("/groups/sas", `{"attestation":{"type":"symmetricKey"},"credentialPolicyName":"default","initialTwin":{"tags":{"floor":3}}}`).want(http.StatusCreated)
	w.advance(time.Second)
	for _, id := range []string{"Dev-1", "dev-2", "dev-3"} {
		w.register("sas", id)
		w.advance(time.Second)
	}
	reg := w.get("/registrations/dev-1").want(http.StatusOK).has("registrationId", "Dev-1").has("status", "assigned").has("assignedHub", "hub-1").
		has("owner.kind", "group").has("owner.id", "sas").has("mechanism", "symmetricKey").has("pair.0.slot", "primary").has("pair.0.state", "staged").
		has("twin.tags.floor", 3).has("deviceId", "Dev-1")
	serial := reg.at("certificate.serial").(string)
	if got := w.walk("/registrations?group=sas&hub=HUB-1&status=assigned", "registrationId", 2, func(int) {}); len(got) != 3 {
		t.Errorf("registrations %v", got)
	}
	w.get("/registrations?q=dev-2").want(http.StatusOK).has("items.0.registrationId", "dev-2").has("items.1", nil)

	if got := w.walk("/certificates", "registrationId", 1, func(int) {}); strings.Join(got, " ") != "dev-3 dev-2 dev-1 " {
		t.Errorf("certificates %v, want the newest first, and the issuing CA's own last", got)
	}
	one := w.get("/certificates/"+strings.ToUpper(serial)).want(http.StatusOK).has("status", "valid").has("registrationId", "dev-1")
	if strings.Count(one.at("chain").(string), "BEGIN CERTIFICATE") != 2 || !strings.HasPrefix(one.at("pem").(string), "-----BEGIN CERTIFICATE") {
		t.Errorf("no PEM: %s", one.text)
	}
	w.get("/certificates/" + serial + "?issuer=0000000000000000").want(http.StatusNotFound)
	w.post("/certificates/"+serial+"/revoke", `{"reason":"certificateHold"}`).want(http.StatusBadRequest, "reason-not-permanent").has("errors.0.pointer", "/reason")
	if w.revoked.Load() != 0 {
		t.Error("AfterRevoke was called for nothing")
	}
	w.post("/certificates/"+serial+"/revoke", `{"reason":"superseded"}`).want(http.StatusOK).has("status", "revoked").has("reason", "superseded")
	if w.revoked.Load() != 1 {
		t.Error("AfterRevoke was not called")
	}
	w.post("/certificates/"+serial+"/revoke", ``).want(http.StatusConflict, "already-revoked")
	w.get("/registrations/dev-1").want(http.StatusOK).has("pair.0", nil)

	in := func(query string) string {
		// The issuing CA's own certificate is no device's.
		return strings.TrimSpace(strings.Join(w.walk("/certificates?"+query, "registrationId", 2, func(int) {}), " "))
	}
	for query, want := range map[string]string{
		"status=valid": "dev-3 dev-2", "status=revoked": "dev-1", "status=expired": "", "registrationId=DEV-2": "dev-2",
		"serial=" + serial: "dev-1", "thumbprint=" + strings.ToUpper(one.at("thumbprint").(string)): "dev-1",
		"issuer=" + one.at("issuer").(string): "dev-3 dev-2 dev-1", "issuer=none": "",
		"expiresBefore=2026-04-01T00:00:00Z": "", "expiresBefore=2027-04-01T00:00:00Z&status=valid": "dev-3 dev-2",
	} {
		if got := in(query); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	w.put("/enrollments/dev-2", `{"attestation":{"type":"symmetricKey"}}`).want(http.StatusCreated)
	w.get("/enrollments/dev-2").want(http.StatusOK).has("registrationState.status", "assigned").has("registrationState.assignedHub", "hub-1")
	w.delete("/hubs/hub-1", "*").want(http.StatusConflict, "hub-in-use")
	w.delete("/profiles/default", "*").want(http.StatusConflict, "profile-default")
	w.delete("/registrations/dev-2").want(http.StatusPreconditionRequired)
	w.delete("/registrations/dev-2", "*").want(http.StatusNoContent)
	w.get("/registrations/dev-2").want(http.StatusNotFound)

	seqs := w.walk("/audit?subject=registration:dev-1", "seq", 1, func(int) {})
	if len(seqs) == 0 {
		t.Error("the registration is not on record")
	}
	w.get("/audit?actor=operator:admin&action=certificate.revoked").want(http.StatusOK).has("items.0.subject", "certificate:"+serial).has("items.0.body.reason", "superseded")
}

func TestCertificatesExpire(t *testing.T) {
	t.Parallel()
	w := linked(t)
	w.put("/profiles/short", `{"lifetime":"PT30M","backdate":"PT0S","renewal":{"prepareAt":0.5}}`).want(http.StatusCreated).
		has("lifetime", "PT30M").has("backdate", "PT0S").has("renewal.prepareAt", 0.5).has("renewal.overlap", "P1D")
	w.put("/groups/sas", `{"attestation":{"type":"symmetricKey"},"credentialPolicyName":"short"}`).want(http.StatusCreated)
	for i := range 12 {
		w.register("sas", fmt.Sprintf("dev-%d", i))
	}
	w.advance(31 * time.Minute)
	w.register("sas", "late")
	if got := w.walk("/certificates?status=valid", "registrationId", 1, func(int) {}); strings.Join(got, " ") != "late " {
		t.Errorf("valid: %v", got)
	}
	if got := w.walk("/certificates?status=expired", "registrationId", 5, func(int) {}); len(got) != 12 {
		t.Errorf("expired: %v", got)
	}
}

func explains(w *world) {
	f := testkit.Chain(w.t, "root > line-3 > dev-1")
	w.put("/anchors/root", `{"vouched":true,"certificate":`+quoted(f.Get("root").PEM())+`}`).want(http.StatusCreated)
	w.put("/groups/line-3", `{"attestation":{"type":"x509","x509":{"signingCertificates":{"primary":{"certificate":`+quoted(f.Get("line-3").PEM())+`}}}}}`).want(http.StatusCreated)
	chain := `{"certificates":` + quoted(testkit.PEM(f.Get("dev-1").Chain()...)) + `}`
	w.get("/explain/dev-1").want(http.StatusOK).has("admitted", false)
	w.post("/explain/dev-1", chain).want(http.StatusOK).has("admitted", true).has("owner.id", "line-3").has("steps.0.verdict", "note")
	w.post("/groups/line-3/disable", "").want(http.StatusOK)
	refused := w.post("/explain/dev-1", chain).want(http.StatusOK).has("admitted", false)
	if refused.at("refusedBy.rule") == nil || refused.at("steps.0.rule") == nil {
		w.t.Errorf("no reason: %s", refused.text)
	}
	long := strings.Repeat(string(f.Get("dev-1").PEM()), 11)
	w.post("/explain/dev-1", `{"certificates":`+quoted([]byte(long))+`}`).want(http.StatusBadRequest, "chain-too-long").has("errors.0.pointer", "/certificates")
}

func tokensAndIssuers(w *world) {
	made := w.post("/tokens", `{"name":"ci","scopes":["read","enroll"],"lifetime":"P30D"}`).want(http.StatusCreated).has("scopes.1", "enroll")
	if !strings.HasPrefix(made.at("token").(string), "mst_"+idScope+"_") || made.at("expires") != "2026-03-31T08:00:00Z" {
		w.t.Errorf("made %s", made.text)
	}
	w.post("/tokens", `{"name":"ci","scopes":["read"]}`).want(http.StatusConflict)
	w.post("/tokens", `{"name":"never","scopes":["read"],"lifetime":"PT0S"}`).want(http.StatusBadRequest, "token-lifetime")
	w.post("/tokens", `{"name":"none","scopes":[]}`).want(http.StatusBadRequest, "scope-missing")
	w.delete("/tokens/ci").want(http.StatusNoContent)
	w.delete("/tokens/nobody").want(http.StatusNotFound)
	list := w.get("/tokens").want(http.StatusOK).has("items.1.name", "ci").has("items.1.revokedAt", "2026-03-01T08:00:00Z")
	if strings.Contains(list.text, "mst_") {
		w.t.Error("the list shows tokens")
	}
	check(w.t, w.authority.SweepCRLs(w.t.Context()))
	issuers := w.get("/issuers").want(http.StatusOK)
	for i := range 2 {
		id := issuers.at(fmt.Sprintf("items.%d.id", i)).(string)
		one := w.get("/issuers/"+id).want(http.StatusOK).has("keyHere", true).has("crl.number", 1).has("crl.isCurrent", true).has("state", "active")
		if !strings.HasPrefix(one.at("certificate").(string), "-----BEGIN CERTIFICATE") || strings.Contains(one.text, "softkms") {
			w.t.Errorf("issuer %s", one.text)
		}
	}
	w.get("/issuers/0000").want(http.StatusNotFound, "no-issuer")
}

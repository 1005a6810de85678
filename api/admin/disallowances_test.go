package admin

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// presents makes a device register with a chain, and with a CSR, as a door would.
func (w *world) presents(id string, e *testkit.Entity) {
	w.t.Helper()
	must(w.engine.Register(w.t.Context(), provisioning.RegisterRequest{
		Attempt: provisioning.Attempt{
			ID: must(verify.ParseRegistrationID(id)), Spelled: id, Evidence: provisioning.Evidence{Chain: must(verify.ReadChain(e.Chain()))}, Door: "test",
		},
		CSR: testkit.CSR(w.t, testkit.NewKey(w.t, "p256"), id),
	}))
}

// followDisallowances runs the sweep of disallowances until nothing is left to do at this moment.
func (w *world) followDisallowances() {
	w.t.Helper()
	for range 2 { // one finds the devices, one sees their hubs
		for more := true; more; {
			more = must(w.engine.SweepIncidents(w.t.Context(), w.jobs))
		}
	}
}

// of is what is said of a certificate.
func of(e *testkit.Entity, more string) string {
	return `{"certificate":` + quoted(e.PEM()) + more + `}`
}

// stolen is a factory, two of whose devices stand below the CA mid.
func stolen(w *world) *testkit.Family {
	f := testkit.Chain(w.t, "root > mid > d1; mid > d2")
	w.post("/anchors", `{"name":"root","vouched":true,"certificate":`+quoted(f.Get("root").PEM())+`}`).want(http.StatusCreated)
	for group, name := range map[string]string{"line": "mid", "plant": "root"} {
		w.put("/groups/"+group, `{"attestation":{"type":"x509","x509":{"signingCertificates":{"primary":{"certificate":"`+f.Get(name).Base64()+`"}}}},"credentialPolicyName":"default"}`).want(http.StatusCreated)
	}
	w.presents("d1", f.Get("d1"))
	return f
}

func TestDisallowances(t *testing.T) {
	t.Parallel()
	w := linked(t)
	f := stolen(w)
	mid, leaf := f.Get("mid"), f.Get("d2")
	print := verify.ThumbprintOf(mid.Cert.Raw).String()
	chain := `{"certificates":` + quoted(testkit.PEM(f.Get("d1").Chain()...)) + `}`

	seen := w.post("/disallowances/preview", of(mid, "")).want(http.StatusOK).
		has("scope", "below").has("reason", "cACompromise").has("subject", "CN=mid").has("thumbprint", print).has("known", true).has("ours", false).has("devices", 1).
		has("hubs.0.hub", "hub-1").has("hubs.0.devices", 1).has("entries.0.kind", "group").has("entries.0.id", "line").has("entries.0.act", "disabled").has("entries.0.slot", "primary").
		has("entries.1", nil).has("wouldEnter.0.id", "plant").has("revoked", 0).has("issuedSince", 0).has("alreadyBy", nil)
	if seen.etag() != "" {
		t.Errorf("a preview has the version %s", seen.etag())
	}
	preview := `,"preview":"` + seen.at("preview").(string) + `"`
	w.post("/disallowances", of(mid, "")).want(http.StatusConflict, "preview-needed")
	w.post("/disallowances", of(mid, `,"preview":"bm9uZQ"`)).want(http.StatusBadRequest, "preview-unknown").has("errors.0.pointer", "/preview")
	w.post("/disallowances", of(leaf, preview)).want(http.StatusBadRequest, "preview-of-another")
	w.post("/disallowances", of(mid, preview+`,"expectDevices":0`)).want(http.StatusConflict, "more-devices-than-expected")
	w.presents("d2", leaf)
	w.post("/disallowances", of(mid, preview)).want(http.StatusConflict, "effect-grew")
	w.get("/disallowances").want(http.StatusOK).has("items.0", nil)

	w.advance(time.Minute)
	since := `,"since":"` + w.now().Add(-time.Hour).Format(time.RFC3339) + `"`
	seen = w.post("/disallowances/preview", `{"thumbprint":"`+strings.ToUpper(print)+`"`+since+`}`).want(http.StatusOK).has("devices", 2).has("issuedSince", 2)
	preview = `,"preview":"` + seen.at("preview").(string) + `"`
	made := w.post("/disallowances", of(mid, since+preview+`,"expectDevices":2`)).want(http.StatusCreated).
		has("state", "spreading").has("createdBy", "operator:admin").has("devices", 0).has("entries.0.act", "disabled").has("certificate", nil).has("pending", nil)
	id := made.at("id").(string)
	if made.header.Get("Location") != "/api/v1/disallowances/"+id || made.etag() != "" || w.revoked.Load() != 1 {
		t.Errorf("made at %q, version %q, jobs nudged %d times", made.header.Get("Location"), made.etag(), w.revoked.Load())
	}
	w.post("/explain/d1", chain).want(http.StatusOK).has("refusedBy.rule", "disallowed")
	w.get("/groups/line").want(http.StatusOK).has("provisioningStatus", "disabled")
	w.get("/groups/plant").want(http.StatusOK).has("provisioningStatus", "enabled")

	w.advance(time.Minute)
	again := w.post("/disallowances/preview", of(mid, since)).want(http.StatusOK).has("alreadyBy", id).at("preview").(string)
	w.post("/disallowances", of(mid, since+`,"preview":"`+again+`"`)).want(http.StatusOK).has("id", id)

	w.get("/disallowances/"+id+"/report").want(http.StatusOK).has("notDone.0.code", "devices-not-counted")
	w.followDisallowances()
	got := w.get("/disallowances/"+id).want(http.StatusOK).has("state", "done").has("devices", 2).has("revoked", 2).has("pending", 0).
		has("hubs.0.hub", "hub-1").has("hubs.0.devices", 2).has("hubs.0.pending", 0)
	if got.at("doneDateTimeUtc") == nil || got.at("certificate") != string(mid.PEM()) {
		t.Errorf("it says %s", got.text)
	}
	if got := w.walk("/disallowances/"+id+"/devices", "registrationId", 1, func(int) {}); len(got) != 2 {
		t.Errorf("pages have %v", got)
	}
	w.get("/disallowances/"+id+"/devices?pending=true").want(http.StatusOK).has("items.0", nil)
	w.advance(time.Minute)
	w.post("/disallowances", of(leaf, `,"preview":"`+w.post("/disallowances/preview", of(leaf, "")).at("preview").(string)+`"`)).want(http.StatusCreated)
	if got := w.walk("/disallowances", "subject", 1, func(int) {}); strings.Join(got, " ") != "CN=d2 CN=mid" {
		t.Errorf("pages have %v", got)
	}
	w.get("/audit?action=disallowance.started&subject=disallowance:"+id).want(http.StatusOK).has("items.0.actor", "operator:admin")

	w.run("the report", func(w *world) { reportOfTheStolen(w, id) })
	lifting := w.post("/disallowances/"+id+"/lift", ``).want(http.StatusOK).has("state", "lifted").has("liftedBy", "operator:admin").
		has("notRestored.0.code", "disabled").has("notRestored.1.code", "revoked").has("notRestored.2", nil)
	if !strings.Contains(lifting.at("notRestored.0.detail").(string), "muster group enable line") {
		t.Errorf("lifting says %s", lifting.text)
	}
	w.advance(time.Minute)
	w.post("/disallowances/"+id+"/lift", ``).want(http.StatusOK).has("liftedDateTimeUtc", lifting.at("liftedDateTimeUtc"))
	w.get("/disallowances/"+id+"/report").want(http.StatusOK).has("state", "lifted").has("notDone.0.code", "lifted").has("notDone.2.code", "disabled")
	w.post("/explain/d1", chain).want(http.StatusOK).has("refusedBy.rule", "held-by-disabled")
}

func reportOfTheStolen(w *world, id string) {
	path := "/disallowances/" + id + "/report"
	a := w.get(path).want(http.StatusOK).has("ours", false).has("issuer", "CN=root").has("state", "done").has("notDone.0.code", "not-ours").has("notDone.1.code", "issued-before-stand")
	if a.etag() != "" {
		w.t.Errorf("the report has the version %s", a.etag())
	}
	page := w.octets(path, "text/markdown")
	text := string(must(io.ReadAll(page.Body)))
	if page.StatusCode != http.StatusOK || page.Header.Get("Content-Type") != "text/markdown" {
		w.t.Errorf("the page: %d %q", page.StatusCode, page.Header.Get("Content-Type"))
	}
	for _, line := range []string{
		"# Disallowance " + id, "| what | CN=mid |", "| who | operator:admin |", "| why | cACompromise |", "| scope | below: the CA, its key, and everything they signed |",
		"| group line | disabled (it was in the primary slot) |", "2 revoked.", "| hub-1 | 2 | 2 | 0 |  |  |",
	} {
		if !strings.Contains(text, line+"\n") {
			w.t.Errorf("the page has no line %q:\n%s", line, text)
		}
	}
	if !strings.Contains(text, "- It is not a certificate of ours: no CRL") {
		w.t.Errorf("the page does not say that no CRL names it:\n%s", text)
	}
}

// Each way to name a certificate, and what may be wrong with each.
func TestWhichCertificateIsDisallowed(t *testing.T) {
	t.Parallel()
	w := linked(t)
	f := stolen(w)
	w.presents("d2", f.Get("d2"))
	cert := w.get("/certificates?registrationId=d1").want(http.StatusOK)
	serial, issuer := cert.at("items.0.serial").(string), cert.at("items.0.issuer").(string)
	own := w.post("/disallowances/preview", `{"serial":"`+serial+`","issuer":"`+issuer+`"}`).want(http.StatusOK).
		has("ours", true).has("scope", "certificate").has("reason", "keyCompromise").has("revoked", 1).has("devices", 1)
	w.advance(time.Minute)
	made := w.post("/disallowances", `{"serial":"`+serial+`","preview":"`+own.at("preview").(string)+`"}`).want(http.StatusCreated).has("revoked", 1)
	w.get("/certificates/"+serial).want(http.StatusOK).has("status", "revoked").has("reason", "keyCompromise")
	w.get("/disallowances/"+made.at("id").(string)+"/report").want(http.StatusOK).has("ours", true).has("notDone.0.code", "devices-not-counted").has("notDone.1.code", "issued-certificates-stand")

	both := testkit.PEM(f.Get("d1").Chain()...)
	issuing := w.get("/issuers/" + issuer).want(http.StatusOK).at("thumbprint").(string)
	for _, c := range []struct {
		name, body    string
		status        int
		rule, pointer string
	}{
		{"nothing", `{}`, http.StatusBadRequest, "certificate-missing", ""},
		{"two ways", of(f.Get("d1"), `,"serial":"0a"`), http.StatusBadRequest, "certificate-named-twice", ""},
		{"an issuer there is not", `{"issuer":"x"}`, http.StatusNotFound, "no-issuer", ""},
		{"an issuer beside a thumbprint", `{"issuer":"` + issuer + `","thumbprint":"` + issuing + `"}`, http.StatusBadRequest, "certificate-named-twice", ""},
		{"no certificate", `{"certificate":"none"}`, http.StatusBadRequest, "certificate-file", "/certificate"},
		{"a chain", `{"certificate":` + quoted(both) + `}`, http.StatusBadRequest, "one-certificate", "/certificate"},
		{"no thumbprint", `{"thumbprint":"12"}`, http.StatusBadRequest, "thumbprint", "/thumbprint"},
		{"no serial", `{"serial":"x"}`, http.StatusBadRequest, "serial", "/serial"},
		{"a serial that is not ours", `{"serial":"00ff"}`, http.StatusNotFound, "certificate-unknown", ""},
		{"a thumbprint never seen", `{"thumbprint":"` + strings.Repeat("ab", 32) + `"}`, http.StatusNotFound, "certificate-unknown", ""},
		{"a scope there is not", of(f.Get("d1"), `,"scope":"all"`), http.StatusBadRequest, "schema", "/scope"},
		{"below a leaf", of(f.Get("d1"), `,"scope":"below"`), http.StatusBadRequest, "scope-not-a-ca", "/scope"},
		{"a reason there is not", of(f.Get("d1"), `,"reason":"boredom"`), http.StatusBadRequest, "reason-unknown", "/reason"},
		{"in the future", of(f.Get("d1"), `,"since":"2099-01-01T00:00:00Z"`), http.StatusBadRequest, "since-in-future", "/since"},
		{"no time", of(f.Get("d1"), `,"since":"yesterday"`), http.StatusBadRequest, "schema", "/since"},
		{"a CA of ours", `{"thumbprint":"` + issuing + `","scope":"key"}`, http.StatusConflict, "own-issuer", "/scope"},
	} {
		w.run(c.name, func(w *world) {
			a := w.post("/disallowances/preview", c.body).want(c.status, c.rule)
			if c.pointer != "" && a.at("errors.0.pointer") != c.pointer {
				w.t.Errorf("it is told of another place: %s", a.text)
			}
		})
	}
	w.post("/disallowances", of(f.Get("d1"), `,"expectDevices":-1`)).want(http.StatusBadRequest, "schema")
	for _, path := range []string{"", "/devices", "/report"} {
		w.get("/disallowances/nobody"+path).want(http.StatusNotFound, "disallowance-not-found")
	}
	w.post("/disallowances/nobody/lift", ``).want(http.StatusNotFound, "disallowance-not-found")
	w.get("/disallowances?cursor=nonsense").want(http.StatusBadRequest, "cursor")
	w.get("/disallowances/nobody/devices?cursor=nonsense").want(http.StatusBadRequest, "cursor")
	for _, path := range []string{"/disallowances/preview", "/disallowances", "/disallowances/nobody/lift"} {
		w.do(request{role: policies.RoleOperator, method: http.MethodPost, path: path, body: `{}`}).want(http.StatusForbidden, "scope-missing")
	}
	w.do(request{role: policies.RoleViewer, method: http.MethodGet, path: "/disallowances"}).want(http.StatusOK)
}

func TestAnIssuerOfOursIsDisallowed(t *testing.T) {
	t.Parallel()
	w := linked(t)
	f := stolen(w)
	issuer := w.get("/certificates?registrationId=d1").want(http.StatusOK).at("items.0.issuer").(string)
	root := w.get("/issuers/" + issuer).want(http.StatusOK).at("parent").(string)
	id := `"issuer":"` + issuer + `"`
	seen := w.post("/disallowances/preview", `{`+id+`}`).want(http.StatusOK).has("scope", "below").has("ours", true).has("devices", 1).has("lost", 1).has("revoked", 0).
		has("issuers.0.id", issuer).has("issuers.0.role", "issuing").has("issuers.0.state", "active").has("issuers.1", nil).
		has("stops.0.role", "issuing").has("stops.0.issuer", issuer).has("stops.0.prepared", nil).has("stops.1", nil)
	preview := `,"preview":"` + seen.at("preview").(string) + `"`
	w.post("/disallowances", `{`+id+preview+`}`).want(http.StatusConflict, "last-issuer")
	next := w.post("/issuers", `{"name":"Next","parent":"`+root+`"}`).want(http.StatusCreated).at("id").(string)
	w.post("/disallowances/preview", `{`+id+`}`).want(http.StatusOK).has("stops.0.prepared", next)
	w.post("/issuers/"+next+"/promote", ``).want(http.StatusOK)
	seen = w.post("/disallowances/preview", `{`+id+`}`).want(http.StatusOK).has("stops.0", nil)
	made := w.post("/disallowances", `{`+id+`,"preview":"`+seen.at("preview").(string)+`"}`).want(http.StatusCreated).has("issuers.0", issuer).has("revoked", 0)
	w.get("/issuers/"+issuer).want(http.StatusOK).has("state", "revoked")
	w.followDisallowances()
	at := "/disallowances/" + made.at("id").(string)
	w.get(at).want(http.StatusOK).has("state", "done").has("devices", 1)
	report := w.get(at+"/report").want(http.StatusOK).has("ours", true)
	for _, code := range []string{"no-crl-of-leaves", "open-connections"} {
		if !strings.Contains(report.text, `"`+code+`"`) {
			t.Errorf("it does not say %s: %s", code, report.text)
		}
	}
	for _, code := range []string{"not-ours", "issued-certificates-stand", "root-trusted-elsewhere", "parent-key-elsewhere"} {
		if strings.Contains(report.text, `"`+code+`"`) {
			t.Errorf("it says %s: %s", code, report.text)
		}
	}
	w.presents("d1", f.Get("d1")) // it comes back with what it came with first
	w.post(at+"/lift", ``).want(http.StatusOK).has("notRestored.0.code", "issuers-revoked").has("notRestored.1", nil)
	w.get("/issuers/"+issuer).want(http.StatusOK).has("state", "revoked")

	seen = w.post("/disallowances/preview", `{"issuer":"`+root+`"}`).want(http.StatusOK).has("issuers.0.role", "root").has("issuers.1.id", next)
	made = w.post("/disallowances", `{"issuer":"`+root+`","stopsIssuing":true,"preview":"`+seen.at("preview").(string)+`"}`).want(http.StatusCreated)
	if report := w.get("/disallowances/" + made.at("id").(string) + "/report").want(http.StatusOK); !strings.Contains(report.text, `"root-trusted-elsewhere"`) {
		t.Errorf("of a root it says %s", report.text)
	}
}

// What others wrote into a certificate stays text, and in its cell.
func TestWhatIsNotOursStaysTextInMarkdown(t *testing.T) {
	for text, want := range map[string]string{
		"CN=mid": "CN=mid", "a|b\n# c": `a\|b` + "\uFFFD" + `\# c`, "<img src=x>": `\<img src=x\>`, "[x](http://y)": `\[x\](http://y)`,
	} {
		if got := inMarkdown(text); got != want {
			t.Errorf("%q is written %q, want %q", text, got, want)
		}
	}
}

func TestADeletionIsLookedAtFirst(t *testing.T) {
	t.Parallel()
	w := linked(t)
	f := stolen(w)
	w.presents("d2", f.Get("d2"))
	w.get("/groups/line/leaving").want(http.StatusOK).has("registrations", 2).has("hubs.0.devices", 2).has("wouldEnter.0.id", "plant").has("wouldEnter.1", nil)
	w.get("/groups/plant/leaving").want(http.StatusOK).has("registrations", 0).has("hubs.0", nil).has("wouldEnter.0", nil)
	w.get("/groups/nobody/leaving").want(http.StatusNotFound)
	w.get("/enrollments/a%20b/leaving").want(http.StatusBadRequest)
}

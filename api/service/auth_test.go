package service

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
)

func tokens(w *world) {
	key := w.scopes[0].keys[0]
	owner, named := testkit.Resource(host), testkit.KeyName
	at := func(d time.Duration) string {
		return testkit.SAS(key, "", "", w.clock.Add(d), owner, named(provisioning.ServiceOwner))
	}
	w.policy(w.scopes[0], "reader", policies.EnrollmentRead)
	text, _, err := w.scopes[0].engine.CreateToken(w.t.Context(), "operator:test", "ann", policies.RoleViewer.Scopes(), time.Hour)
	w.check(err)

	// Nobody is there to find: a token that is let in is answered 404.
	for name, c := range map[string]struct {
		token string
		code  int
	}{
		"the primary key":                          {w.sas(), 404201},
		"the secondary key":                        {w.sasOf(w.scopes[0].keys[1]), 404201},
		"the resource encoded":                     {w.sas(testkit.Encoded()), 404201},
		"the resource with a port":                 {w.sas(testkit.Resource(host + ":443")), 404201},
		"the resource in capitals":                 {w.sas(testkit.Resource(strings.ToUpper(host))), 404201},
		"the fields in another order":              {reordered(w.sas()), 404201},
		"the policy in capitals":                   {w.sas(named("ProvisioningServiceOwner")), 404201},
		"narrowed to the enrollments":              {w.sas(testkit.Resource(host + "/enrollments")), 404201},
		"narrowed to the enrollment":               {w.sas(testkit.Resource(host + "/Enrollments/PRESS-1/")), 404201},
		"an operator's token":                      {"Bearer " + text, 404201},
		"no token":                                 {"", 401000},
		"no token after the scheme":                {"SharedAccessSignature", 401000},
		"another scheme":                           {"Basic YTpi", 401000},
		"a field missing":                          {"SharedAccessSignature sr=" + host + "&se=99", 401000},
		"a bearer of nothing":                      {"Bearer ", 401000},
		"an operator's token of nobody":            {"Bearer mst_0ne00000001_AAAA", 401002},
		"the resource wrong by one character":      {w.sas(testkit.Resource("dqs.example.net")), 401002},
		"the resource a prefix by character":       {w.sas(testkit.Resource(host + "/enrollments/press")), 401002},
		"narrowed to the groups":                   {w.sas(testkit.Resource(host + "/enrollmentGroups")), 401002},
		"a policy that is not there":               {w.sas(named("iothubowner")), 401002},
		"no policy named":                          {w.sas(named("")), 401002},
		"another policy than whose key signed":     {w.sas(named("reader")), 401002},
		"a key of nobody":                          {w.sasOf(make([]byte, 32)), 401002},
		"expired":                                  {at(-6 * time.Minute), 401002},
		"within the skew":                          {at(-4 * time.Minute), 404201},
		"a year ahead":                             {at(366 * 24 * time.Hour), 404201},
		"further ahead":                            {at(367 * 24 * time.Hour), 401002},
		"in milliseconds, as npm's first token is": {at(50000 * 24 * time.Hour), 401002},
		"huge": {w.sas() + "&x=" + strings.Repeat("a", 5000), 401000},
	} {
		w.run(name, func(w *world) {
			a := w.do(request{method: "GET", path: "/enrollments/press-1", header: map[string]string{"Authorization": c.token}})
			a.want(c.code/1000, c.code)
			if a.status == 401 && a.at("message") != "Unauthorized" {
				w.t.Errorf("a 401 says why: %s", a.text)
			}
		})
	}
}

// reordered is a token as Azure's documents have it: sig, se, skn, sr.
func reordered(token string) string {
	fields := strings.Split(strings.TrimPrefix(token, "SharedAccessSignature "), "&")
	return "SharedAccessSignature " + strings.Join(append(fields[1:], fields[0]), "&")
}

// Last of its world: the key that others sign with is gone.
func aRolledKeyIsRefusedAtOnce(w *world) {
	primary, secondary := w.sas(), w.sasOf(w.scopes[0].keys[1])
	_, err := w.scopes[0].engine.RollAccessKey(w.t.Context(), "operator:test", provisioning.ServicePlane, provisioning.ServiceOwner, rotation.Primary, true, provisioning.Precondition{})
	w.check(err)
	w.do(request{method: "GET", path: "/enrollments/x", header: map[string]string{"Authorization": primary}}).want(401, 401002)
	w.do(request{method: "GET", path: "/enrollments/x", header: map[string]string{"Authorization": secondary}}).want(404, 404201)
}

func everyCallNeedsItsRight(w *world) {
	t := w.t
	tokens := map[policies.Rights]string{}
	for name, right := range map[string]policies.Rights{
		"er": policies.EnrollmentRead, "ew": policies.EnrollmentWrite, "sr": policies.RegistrationStatusRead, "sw": policies.RegistrationStatusWrite,
		"sc": policies.ServiceConfig, "dc": policies.DeviceConnect,
	} {
		tokens[right] = w.sasOf(w.policy(w.scopes[0], name, right)[0], testkit.KeyName(name))
	}
	operators := map[policies.Scope]string{}
	for _, scope := range []policies.Scope{policies.ScopeRead, policies.ScopeEnroll, policies.ScopeSecurity, policies.ScopeHub} {
		text, _, err := w.scopes[0].engine.CreateToken(t.Context(), "operator:test", string(scope), must(policies.ParseScopes(string(scope))), time.Hour)
		w.check(err)
		operators[scope] = "Bearer " + text
	}
	for _, c := range []struct {
		method, path string
		n            need
	}{
		{"GET", "/enrollments/x", readEntries}, {"PUT", "/enrollments/x", writeEntries}, {"DELETE", "/enrollments/x", writeEntries},
		{"POST", "/enrollments", writeEntries}, {"POST", "/enrollments/", writeEntries}, {"POST", "/enrollments/query", readEntries},
		{"POST", "/enrollments/x/attestationmechanism", readSecrets},
		{"GET", "/enrollmentGroups/x", readEntries}, {"PUT", "/enrollmentGroups/x", writeEntries}, {"DELETE", "/enrollmentGroups/x", writeEntries},
		{"POST", "/enrollmentGroups/", writeEntries}, {"POST", "/enrollmentGroups/query", readEntries},
		{"POST", "/enrollmentgroups/x/attestationmechanism", readSecrets},
		{"GET", "/registrations/x", readRecords}, {"DELETE", "/registrations/x", deleteRecords}, {"POST", "/registrations/x/query", readRecords},
	} {
		ask := func(token string) *answer {
			return w.do(request{method: c.method, path: c.path, header: map[string]string{"Authorization": token}})
		}
		for right, token := range tokens {
			if a := ask(token); right.Grants(c.n.right) != (a.status != 401) {
				t.Errorf("%s %s with the right %s is answered %s", c.method, c.path, right, a.text)
			} else if a.status == 401 && !strings.Contains(a.at("message").(string), c.n.right.String()) {
				t.Errorf("%s %s: who is let in is not told which right is missing: %s", c.method, c.path, a.text)
			}
		}
		for scope, token := range operators {
			allowed := must(policies.ParseScopes(string(scope))).Allows(c.n.scope)
			if a := ask(token); allowed != (a.status != 401) {
				t.Errorf("%s %s with the scope %s is answered %s", c.method, c.path, scope, a.text)
			}
		}
	}
	for actor, may := range map[string]string{"operator:hub": "hub", "policy:service/dc": "DeviceConnect"} {
		refused := must(w.scopes[0].engine.Ledger(t.Context(), provisioning.LedgerFilter{Limit: 1, Actor: actor}))
		if len(refused) != 1 || refused[0].Action != audit.ActRefused || refused[0].Subject != "act:POST /registrations/x/query" || string(refused[0].Body) != `{"may":"`+may+`"}` {
			t.Errorf("the ledger's newest entry of %s, who lacks a right, is %+v", actor, refused)
		}
	}
}

// What a token of one scope may do, it may do there alone.
func TestATokenMeansItsOwnScope(t *testing.T) {
	w := newWorld(t, "0ne00000001", "0ne00000002")
	second := map[string]string{"Authorization": w.sasOf(w.scopes[1].keys[0])}
	w.keyed("press-1")
	w.do(request{method: "GET", path: "/enrollments/press-1", header: second}).want(404, 404201)
	w.do(request{method: "PUT", path: "/enrollments/press-1", body: keyedBody("press-1", `"deviceId":"of-two"`), header: second}).want(200)
	w.get("/enrollments/press-1").want(200).has("deviceId", nil)

	bearer, _, err := w.scopes[1].engine.CreateToken(t.Context(), "operator:test", "ann", policies.RoleAdmin.Scopes(), time.Hour)
	w.check(err)
	w.do(request{method: "GET", path: "/enrollments/press-1", header: map[string]string{"Authorization": "Bearer " + bearer}}).want(200).has("deviceId", "of-two")

	for i := range 3 {
		id := string(rune('a' + i))
		w.keyed(id)
		w.do(request{method: "PUT", path: "/enrollments/" + id, body: keyedBody(id), header: second}).want(200)
	}
	first := w.do(request{method: "POST", path: "/enrollments/query", body: `{"query":"SELECT *"}`, header: map[string]string{"x-ms-max-item-count": "1"}}).want(200)
	second["x-ms-continuation"] = first.header.Get("x-ms-continuation")
	w.do(request{method: "POST", path: "/enrollments/query", body: `{"query":"SELECT *"}`, header: second}).want(400, 400000)
}

// A device's token is no operator's: it signs for another resource.
func aDevicesTokenOpensNothing(w *world) {
	key := must(base64.StdEncoding.DecodeString(b64(32)))
	w.put("/enrollments/press-1", `{"registrationId":"press-1","attestation":{"type":"symmetricKey","symmetricKey":{"primaryKey":"`+b64(32)+`"}}}`).want(200)
	token := testkit.SAS(key, "0ne00000001", "press-1", w.clock.Add(time.Hour))
	w.do(request{method: "GET", path: "/registrations/press-1", header: map[string]string{"Authorization": token}}).want(401, 401002)
}

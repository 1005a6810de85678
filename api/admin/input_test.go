package admin

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/passmuster/muster/internal/seal"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

func TestInput(t *testing.T) {
	t.Parallel()
	w := linked(t)
	w.run("bad input", badInputs)
	w.run("no secret is echoed", noSecretIsEchoed)
	w.run("requests that are not looked at", notLookedAt)
}

func badInputs(w *world) {
	f := testkit.Chain(w.t, "root > press-1; other > else")
	leaf, root := quoted(f.Get("press-1").PEM()), quoted(f.Get("root").PEM())
	key := quoted(testkit.KeyPEM(w.t, f.Get("press-1").Key))
	client := func(cert string) string {
		return `{"attestation":{"type":"x509","x509":{"clientCertificates":{"primary":{"certificate":` + cert + `}}}}}`
	}
	keyed := func(more string) string { return `{"attestation":{"type":"symmetricKey"},` + more + `}` }
	const slot = "/attestation/x509/clientCertificates/primary"
	for _, c := range []struct {
		name         string
		method, path string
		body         string
		rule         string
		where        string // pointer or location of the first error
	}{
		{"no body", "PUT", "/enrollments/press-1", ``, "schema", ""},
		{"not JSON", "PUT", "/enrollments/press-1", `{"attestation":`, "json", ""},
		{"a second value", "PUT", "/enrollments/press-1", `{} {}`, "json", ""},
		{"not UTF-8", "PUT", "/enrollments/press-1", "{\"deviceId\":\"\xff\"}", "json", ""},
		{"a name twice", "PUT", "/hubs/hub-9", `{"weight":1,"weight":2}`, "json-name-twice", ""},
		{"33 levels", "PUT", "/enrollments/press-1", strings.Repeat(`{"a":`, 33) + `1` + strings.Repeat(`}`, 33), "json-depth", ""},
		{"an array", "PUT", "/enrollments/press-1", `[]`, "schema", ""},
		{"null", "PUT", "/enrollments/press-1", `null`, "schema", ""},
		{"no attestation", "PUT", "/enrollments/press-1", `{}`, "schema", ""},
		{"an unknown field", "PUT", "/enrollments/press-1", keyed(`"colour":"red"`), "schema", "/colour"},
		{"a field of the wrong type", "PUT", "/enrollments/press-1", keyed(`"deviceId":5`), "schema", "/deviceId"},
		{"a status there is not", "PUT", "/enrollments/press-1", keyed(`"provisioningStatus":"maybe"`), "schema", "/provisioningStatus"},
		{"TPM attestation without its key", "PUT", "/enrollments/press-1", `{"attestation":{"type":"tpm"}}`, "attestation", "/attestation"},
		{"a TPM and a key", "PUT", "/enrollments/press-1", `{"attestation":{"type":"tpm","tpm":{"endorsementKey":"AA=="},"symmetricKey":{}}}`, "attestation", "/attestation"},
		{"an endorsement key that is none", "PUT", "/enrollments/press-1", `{"attestation":{"type":"tpm","tpm":{"endorsementKey":"AA=="}}}`, "endorsement-key", "/attestation/tpm/endorsementKey"},
		{"an endorsement key that is no base64", "PUT", "/enrollments/press-1", `{"attestation":{"type":"tpm","tpm":{"endorsementKey":"%"}}}`, "endorsement-key", "/attestation/tpm/endorsementKey"},
		{"a TPM of a group", "PUT", "/groups/line-9", `{"attestation":{"type":"tpm","tpm":{"endorsementKey":"AA=="}}}`, "attestation", "/attestation"},
		{"a list with conditions", "PUT", "/groups/line-9", `{"attestation":{"type":"tpm","tpm":{"listed":true,"models":["a"]}}}`, "attestation", "/attestation/tpm"},
		{"TPMs below an anchor there is not", "PUT", "/groups/line-9", `{"attestation":{"type":"tpm","tpm":{"caReferences":{"primary":"nobody"}}}}`, "anchor-unknown", "/attestation/tpm/caReferences/primary"},
		{"a list of an enrollment", "PUT", "/enrollments/press-1", `{"attestation":{"type":"tpm","tpm":{"listed":true}}}`, "attestation", "/attestation"},
		{"attestation none", "PUT", "/enrollments/press-1", `{"attestation":{"type":"none"}}`, "attestation", "/attestation"},
		{"x509 without certificates", "PUT", "/enrollments/press-1", `{"attestation":{"type":"x509"}}`, "attestation", "/attestation"},
		{"both kinds at once", "PUT", "/groups/line-3", `{"attestation":{"type":"symmetricKey","symmetricKey":{},"x509":{"signingCertificates":{"primary":{"certificate":` + root + `}}}}}`, "attestation", "/attestation"},
		{"two sorts of certificates", "PUT", "/groups/line-3", `{"attestation":{"type":"x509","x509":{"caReferences":{"primary":"a"},"signingCertificates":{"primary":{"certificate":` + root + `}}}}}`, "attestation", "/attestation/x509"},
		{"client certificates in a group", "PUT", "/groups/press-1", client(leaf), "attestation", "/attestation"},
		{"an empty slot", "PUT", "/enrollments/press-1", `{"attestation":{"type":"x509","x509":{"clientCertificates":{"primary":{}}}}}`, "certificate-missing", slot},
		{"no slot", "PUT", "/enrollments/press-1", `{"attestation":{"type":"x509","x509":{"clientCertificates":{}}}}`, "attestation", "/attestation"},
		{"info of nothing", "PUT", "/enrollments/press-1", `{"attestation":{"type":"x509","x509":{"clientCertificates":{"primary":{"info":{"sha256Thumbprint":"aa"}}}}}}`, "thumbprint", slot + "/info/sha256Thumbprint"},
		{"a PEM that is none", "PUT", "/enrollments/press-1", client(`"-----BEGIN CERTIFICATE-----"`), "certificate-file", slot},
		{"a private key", "PUT", "/enrollments/press-1", client(key), "private-key-in-file", slot},
		{"two certificates", "PUT", "/enrollments/press-1", client(quoted(testkit.PEM(f.Get("press-1").Cert, f.Get("root").Cert))), "one-certificate", slot},
		{"a CA as a device", "PUT", "/enrollments/root", client(root), "client-certificate-is-ca", slot},
		{"another device's certificate", "PUT", "/enrollments/press-2", client(leaf), "client-certificate-name", slot},
		{"a key that is not base64", "PUT", "/enrollments/press-1", `{"attestation":{"type":"symmetricKey","symmetricKey":{"secondaryKey":"%%%"}}}`, "symmetric-key", "/attestation/symmetricKey/secondaryKey"},
		{"a short key", "PUT", "/enrollments/press-1", `{"attestation":{"type":"symmetricKey","symmetricKey":{"primaryKey":"c2VjcmV0"}}}`, "symmetric-key", "/attestation/symmetricKey/primaryKey"},
		{"a hub not linked", "PUT", "/enrollments/press-1", keyed(`"iotHubs":["hub-9"]`), "hub-not-linked", "/iotHubs"},
		{"a hub denied by the allocation", "PUT", "/enrollments/press-1", keyed(`"iotHubHostName":"hub-1","allocationPolicy":"hashed"`), "static-needs-one-hub", "/iotHubHostName"},
		{"a hub denied by the hubs", "PUT", "/enrollments/press-1", keyed(`"iotHubHostName":"hub-1","iotHubs":["hub-1","hub-2"]`), "static-needs-one-hub", "/iotHubHostName"},
		{"an allocation there is not", "PUT", "/enrollments/press-1", keyed(`"allocationPolicy":"random"`), "allocation-unknown", "/allocationPolicy"},
		{"custom allocation by nobody", "PUT", "/enrollments/press-1", keyed(`"allocationPolicy":"custom"`), "webhook-missing", "/customAllocationDefinition/webhookUrl"},
		{"a webhook without TLS", "PUT", "/enrollments/press-1", keyed(`"allocationPolicy":"custom","customAllocationDefinition":{"webhookUrl":"http://127.0.0.1/"}`), "webhook-url", "/customAllocationDefinition/webhookUrl"},
		{"a webhook with another field", "PUT", "/enrollments/press-1", keyed(`"customAllocationDefinition":{"webhookUrl":"https://a.example/","key":"x"}`), "schema", "/customAllocationDefinition/key"},
		{"a right there is not", "PUT", "/access/service/x", `{"rights":["Everything"]}`, "right-unknown", "/rights"},
		{"no right", "PUT", "/access/service/x", `{"rights":[]}`, "right-missing", "/rights"},
		{"a right of the other plane", "PUT", "/access/hub/x", `{"rights":["EnrollmentRead"]}`, "access-rights", "/rights"},
		{"a plane there is not", "PUT", "/access/moon/x", `{"rights":["EnrollmentRead"]}`, "schema", "path.plane"},
		{"another plane in the body", "PUT", "/access/service/x", `{"plane":"hub","rights":["EnrollmentRead"]}`, "name-mismatch", "/plane"},
		{"another policy in the body", "PUT", "/access/service/x", `{"name":"y","rights":["EnrollmentRead"]}`, "name-mismatch", "/name"},
		{"a policy's name out of the grammar", "PUT", "/access/service/x%20y", `{"rights":["EnrollmentRead"]}`, "access-name", "/name"},
		{"a key there is not", "POST", "/access/service/x/rotate", `{"slot":"third"}`, "schema", "/slot"},
		{"a profile there is not", "PUT", "/enrollments/press-1", keyed(`"credentialPolicyName":"none"`), "profile-unknown", "/credentialPolicyName"},
		{"a twin with metadata", "PUT", "/enrollments/press-1", keyed(`"initialTwin":{"properties":{"desired":{"$version":1}}}`), "initial-twin", "/initialTwin"},
		{"a twin that is no object", "PUT", "/enrollments/press-1", keyed(`"initialTwin":5`), "initial-twin", "/initialTwin"},
		{"a device id out of the grammar", "PUT", "/enrollments/press-1", keyed(`"deviceId":"a b"`), "device-id", "/deviceId"},
		{"another id in the body", "PUT", "/enrollments/press-1", keyed(`"registrationId":"press-2"`), "name-mismatch", "/registrationId"},
		{"another group in the body", "PUT", "/groups/line-3", keyed(`"enrollmentGroupId":"line-4"`), "name-mismatch", "/enrollmentGroupId"},
		{"a group with a device id", "PUT", "/groups/line-3", keyed(`"deviceId":"x"`), "schema", "/deviceId"},
		{"an id out of the grammar", "PUT", "/enrollments/a%2Fb", keyed(`"deviceId":"x"`), "registration-id", ""},
		{"an id that ends with a dot", "GET", "/enrollments/press.", ``, "registration-id", ""},
		{"the id query", "GET", "/enrollments/query", ``, "registration-id", ""},
		{"an id that is too long", "GET", "/enrollments/" + strings.Repeat("a", 129), ``, "schema", "path.id"},
		{"a hub's name with a space", "PUT", "/hubs/hub%201", `{}`, "hub-name", "/name"},
		{"a driver there is not", "PUT", "/hubs/hub-9", `{"driver":"azure"}`, "hub-driver", "/driver"},
		{"a weight too large", "PUT", "/hubs/hub-9", `{"weight":1001}`, "hub-weight", "/weight"},
		{"another hub in the body", "PUT", "/hubs/hub-9", `{"name":"hub-8"}`, "name-mismatch", "/name"},
		{"years", "PUT", "/profiles/p", `{"lifetime":"P1Y"}`, "duration", "/lifetime"},
		{"an overlap that is none", "PUT", "/profiles/p", `{"renewal":{"overlap":"1h"}}`, "duration", "/renewal/overlap"},
		{"a life too short", "PUT", "/profiles/p", `{"lifetime":"PT1S"}`, "profile-invalid", "/lifetime"},
		{"a key type there is not", "PUT", "/profiles/p", `{"keys":["DSA"]}`, "profile-invalid", "/keys/0"},
		{"no key types", "PUT", "/profiles/p", `{"keys":[]}`, "profile-invalid", "/keys"},
		{"a usage of CAs", "PUT", "/profiles/p", `{"extKeyUsage":["clientAuth","OCSPSigning"]}`, "extended-key-usage", "/extKeyUsage/1"},
		{"no usages", "PUT", "/profiles/p", `{"extKeyUsage":[]}`, "profile-invalid", "/extKeyUsage"},
		{"an anchor without a name", "POST", "/anchors", `{"certificate":` + root + `}`, "anchor-name", "/name"},
		{"a leaf as an anchor", "POST", "/anchors", `{"name":"a","certificate":` + leaf + `}`, "anchor-not-a-ca", ""},
		{"an anchor's name out of the grammar", "POST", "/anchors", `{"name":"a/b","certificate":` + root + `}`, "anchor-name", ""},
		{"an anchor that is no certificate", "POST", "/anchors", `{"name":"a","certificate":"x"}`, "certificate-file", "/certificate"},
		{"a scope there is not", "POST", "/tokens", `{"name":"x","scopes":["root"]}`, "scope-unknown", "/scopes"},
		{"two scopes in one word", "POST", "/tokens", `{"name":"x y","scopes":["read"]}`, "token-name", "/name"},
		{"a token of ten years", "POST", "/tokens", `{"name":"x","scopes":["read"],"lifetime":"P3650D"}`, "token-lifetime", "/lifetime"},
		{"a serial that is none", "GET", "/certificates/xyz", ``, "serial", ""},
		{"a reason there is not", "POST", "/certificates/0a/revoke", `{"reason":"boredom"}`, "reason-unknown", "/reason"},
		{"a thumbprint that is none", "GET", "/certificates?thumbprint=aa", ``, "thumbprint", ""},
		{"a time that is none", "GET", "/certificates?expiresBefore=tomorrow", ``, "schema", "query.expiresBefore"},
		{"a limit too large", "GET", "/enrollments?limit=501", ``, "schema", "query.limit"},
		{"a limit of nothing", "GET", "/hubs?limit=0", ``, "schema", "query.limit"},
		{"a limit that is no number", "GET", "/hubs?limit=all", ``, "schema", "query.limit"},
		{"an unknown parameter", "GET", "/enrollments?colour=red", ``, "schema", "query.colour"},
		{"a cursor that is none", "GET", "/enrollments?cursor=%21", ``, "cursor", ""},
		{"a cursor of another list", "GET", "/enrollments?cursor=" + cursor(w.engine, "/groups", "a"), ``, "cursor", ""},
		{"a cursor out of the grammar", "GET", "/enrollments?cursor=" + cursor(w.engine, "/enrollments", "a b"), ``, "cursor", ""},
		{"a cursor that is no number", "GET", "/audit?cursor=" + cursor(w.engine, "audit", "-1"), ``, "cursor", ""},
		{"a prefix out of the grammar", "GET", "/registrations?q=%25", ``, "schema", "query.q"},
		{"a derived key for nobody", "POST", "/groups/line-3/deriveKey", `{"registrationId":""}`, "registration-id", "/registrationId"},
		{"no chain to explain", "POST", "/explain/press-1", `{"certificates":""}`, "certificate-file", "/certificates"},
		{"a patch that is no object", "PATCH", "/hubs/hub-1", `5`, "schema", ""},
		{"a patch to an unknown field", "PATCH", "/hubs/hub-1", `{"colour":"red"}`, "schema", "/colour"},
		{"a patch to a wrong type", "PATCH", "/hubs/hub-1", `{"weight":"heavy"}`, "schema", "/weight"},
		{"a patch of the name", "PATCH", "/hubs/hub-1", `{"name":"hub-2"}`, "name-mismatch", "/name"},
	} {
		w.run(c.name, func(w *world) {
			ifMatch := []string{"*"}
			if c.method != http.MethodPatch {
				ifMatch = nil
			}
			a := w.call(c.method, c.path, c.body, ifMatch...).want(http.StatusBadRequest, c.rule).
				has("type", problemPrefix+c.rule).has("status", 400).has("title", "Bad input")
			if a.header.Get("Content-Type") != problemType || a.at("traceId") == nil || a.at("instance") == nil || a.at("detail") == nil {
				w.t.Errorf("not a whole problem: %v %s", a.header, a.text)
			}
			where := a.at("errors.0.pointer")
			if where == nil {
				where = a.at("errors.0.location")
			}
			if c.where != "" && where != c.where {
				w.t.Errorf("the problem points at %v, want %s: %s", where, c.where, a.text)
			}
		})
	}
	for path, n := range map[string]int{"/enrollments": 0, "/groups": 0, "/anchors": 0, "/hubs": 1, "/profiles": 1} {
		if items := w.get(path).want(http.StatusOK).at("items").([]any); len(items) != n {
			w.t.Errorf("%s has %d items afterwards, want %d", path, len(items), n)
		}
	}
}

func noSecretIsEchoed(w *world) {
	const secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="
	for _, body := range []string{
		`{"attestation":{"type":"symmetricKey","symmetricKey":{"primaryKey":"` + secret + `","colour":"red"}}}`,
		`{"attestation":{"type":"symmetricKey","symmetricKey":{"primaryKey":["` + secret + `"]}}}`,
		`{"attestation":{"type":"symmetricKey","symmetricKey":{"primaryKey":"` + secret + `"}},"iotHubs":["hub-9"]}`,
	} {
		if a := w.put("/enrollments/press-1", body).want(http.StatusBadRequest); strings.Contains(a.text, secret) {
			w.t.Errorf("the problem shows the key: %s", a.text)
		}
	}
}

func notLookedAt(w *world) {
	large := `{"location":"` + strings.Repeat("x", maxBody) + `"}`
	for _, c := range []struct {
		name   string
		r      request
		status int
		rule   string
	}{
		{"a body of more than 1 MiB", request{method: "PUT", path: "/hubs/h", body: large}, 413, "body-too-large"},
		{"a compressed body", request{method: "PUT", path: "/hubs/h", body: "{}", header: http.Header{"Content-Encoding": {"gzip"}}}, 415, "media-type"},
		{"a form", request{method: "PUT", path: "/hubs/h", body: "a=b", header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}}, 415, "media-type"},
		{"a merge patch that is put", request{method: "PUT", path: "/hubs/h", body: "{}", header: http.Header{"Content-Type": {"application/merge-patch+json"}}}, 415, "media-type"},
		{"a path there is not", request{method: "GET", path: "/hub"}, 404, "no-route"},
		{"a method the path does not have", request{method: "POST", path: "/hubs/h", body: "{}"}, 405, "method-not-allowed"},
		{"a method there is not", request{method: "BREW", path: "/hubs/h"}, 405, "method-not-allowed"},
	} {
		w.run(c.name, func(w *world) {
			c.r.role = policies.RoleAdmin
			a := w.do(c.r).want(c.status, c.rule)
			if a.header.Get("Content-Type") != problemType || a.header.Get("Location") != "" {
				w.t.Errorf("%v", a.header)
			}
		})
	}
	merge := request{role: policies.RoleAdmin, method: "PATCH", path: "/hubs/hub-1", body: `{"weight":5}`,
		header: http.Header{"Content-Type": {"application/merge-patch+json"}, "If-Match": {"*"}}}
	w.do(merge).want(http.StatusOK).has("weight", 5)
	plain := request{role: policies.RoleAdmin, method: "PUT", path: "/hubs/h", body: "{}", header: http.Header{"Content-Type": nil}}
	w.do(plain).want(http.StatusCreated)
}

func FuzzRequestBody(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":[1,{"b":null}]}`, `{"a":1,"a":2}`, `[[[[`, `{"a":{}} x`, `"\ud800"`, strings.Repeat("[", 40)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if err := checkJSON(body); err != nil {
			return
		}
		if _, err := exactly(body); err != nil {
			t.Errorf("admitted, and not JSON: %q", body)
		}
	})
}

func FuzzCursor(f *testing.F) {
	kek, err := seal.CreateKEK(filepath.Join(f.TempDir(), "kek.pem"), nil)
	if err != nil {
		f.Fatal(err)
	}
	e := provisioning.New(provisioning.Config{Box: seal.NewBox(kek)})
	f.Add("", int64(0))
	f.Add(cursor(e, "audit", "17"), int64(17))
	f.Add("!", int64(1))
	f.Fuzz(func(t *testing.T, text string, n int64) {
		if got, err := (Paging{Cursor: text}).before(e, "audit"); err == nil && got < 0 {
			t.Errorf("cursor %q leads before %d", text, got)
		}
	})
}

package service

import (
	"strings"
	"testing"
)

// Each bad request stands beside one that differs in little and is answered.
func TestBadInput(t *testing.T) {
	w := newWorld(t)
	w.keyed("there")
	w.put("/enrollmentGroups/line-3", `{"enrollmentGroupId":"line-3","attestation":{"type":"symmetricKey"}}`).want(200)
	long := strings.Repeat("a", 128)
	x509 := func(inner string) string {
		return `{"registrationId":"press-1","attestation":{"type":"x509","x509":` + inner + `}}`
	}
	twin := func(size int) string {
		return keyedBody("press-1", `"initialTwin":{"tags":{"a":"`+strings.Repeat("x", size)+`"}}`)
	}
	bulk := func(n int) string {
		return `{"mode":"delete","enrollments":[` + strings.TrimSuffix(strings.Repeat(`{"registrationId":"nobody"},`, n), ",") + `]}`
	}
	for _, c := range []struct {
		name string
		request
		status, code int // of a good request 0, 0
	}{
		{"no api-version", request{method: "GET", path: "/enrollments/there?x"}, 400, 400000},
		{"an api-version that is no date", request{method: "GET", path: "/enrollments/there?api-version=latest"}, 400, 400000},
		{"an api-version of the future", request{method: "GET", path: "/enrollments/there?api-version=2031-01-01-preview"}, 0, 0},

		{"an id of 128 characters", request{method: "PUT", path: "/enrollments/" + long, body: keyedBody(long)}, 0, 0},
		{"an id of 129", request{method: "PUT", path: "/enrollments/a" + long, body: keyedBody("a" + long)}, 400, 400000},
		{"an id in another case", request{method: "PUT", path: "/enrollments/PRESS-2", body: keyedBody("press-2")}, 0, 0},
		{"an id of another spelling on top of one", request{method: "PUT", path: "/enrollments/THERE", body: keyedBody("THERE")}, 409, 409201},
		{"an encoded id", request{method: "PUT", path: "/enrollments/press%3A3", body: keyedBody("press:3")}, 0, 0},
		{"an id with a slash", request{method: "GET", path: "/enrollments/a%2Fb"}, 400, 400000},
		{"an id with a slash at its end", request{method: "GET", path: "/enrollments/there%2F"}, 400, 400000},
		{"two dots", request{method: "GET", path: "/enrollments/.."}, 400, 400000},
		{"two encoded dots", request{method: "GET", path: "/enrollments/%2e%2e/"}, 400, 400000},
		{"dots that would lead elsewhere", request{method: "GET", path: "/enrollments/../enrollments/there"}, 404, 404000},
		{"an id with NUL", request{method: "GET", path: "/enrollments/there%00"}, 400, 400000},
		{"an id that is not ASCII", request{method: "GET", path: "/enrollments/th%C3%A9re"}, 400, 400000},
		{"an enrollment called query", request{method: "PUT", path: "/enrollments/query", body: keyedBody("query")}, 400, 400000},
		{"a group called Query", request{method: "GET", path: "/enrollmentGroups/Query"}, 400, 400000},
		{"no id", request{method: "PUT", path: "/enrollments/", body: keyedBody("x")}, 405, 405000},
		{"no id of a record", request{method: "GET", path: "/registrations"}, 404, 404000},
		{"another method", request{method: "PATCH", path: "/enrollments/there"}, 405, 405000},
		{"another id in the body", request{method: "PUT", path: "/enrollments/press-1", body: keyedBody("press-2")}, 400, 400000},
		{"no id in the body", request{method: "PUT", path: "/enrollments/press-1", body: `{"attestation":{"type":"symmetricKey"}}`}, 400, 400000},
		{"a group's id in an enrollment's body", request{method: "PUT", path: "/enrollments/press-1", body: `{"enrollmentGroupId":"press-1","attestation":{"type":"symmetricKey"}}`}, 400, 400000},

		{"no body", request{method: "PUT", path: "/enrollments/press-1"}, 400, 400000},
		{"half a body", request{method: "PUT", path: "/enrollments/press-1", body: `{"registrationId":`}, 400, 400000},
		{"a body that is no object", request{method: "PUT", path: "/enrollments/press-1", body: `[]`}, 400, 400000},
		{"a body of text", request{method: "PUT", path: "/enrollments/press-1", body: keyedBody("press-1"), header: map[string]string{"Content-Type": "text/plain"}}, 415, 415000},
		{"a compressed body", request{method: "PUT", path: "/enrollments/press-1", body: keyedBody("press-1"), header: map[string]string{"Content-Encoding": "gzip"}}, 415, 415000},
		{"a field nobody knows", request{method: "PUT", path: "/enrollments/press-4", body: keyedBody("press-4", `"x":[{}]`)}, 0, 0},
		{"a twin that fits", request{method: "PUT", path: "/enrollments/press-5", body: strings.ReplaceAll(twin(4000), "press-1", "press-5")}, 0, 0},
		{"a twin with more than 8 KB of tags", request{method: "PUT", path: "/enrollments/press-1", body: twin(9 << 10)}, 400, 400000},
		{"a twin of 1 MiB", request{method: "PUT", path: "/enrollments/press-1", body: twin(1 << 20)}, 413, 413000},
		{"a twin that is no object", request{method: "PUT", path: "/enrollments/press-1", body: keyedBody("press-1", `"initialTwin":5`)}, 400, 400000},
		{"a number beyond all others", request{method: "PUT", path: "/enrollments/press-1", body: keyedBody("press-1", `"optionalDeviceInformation":{"a":1e400}`)}, 400, 400000},
		{"metadata inside a property", request{method: "PUT", path: "/enrollments/press-1", body: keyedBody("press-1", `"initialTwin":{"tags":{"a":{"$version":1}}}`)}, 400, 400000},
		{"JSON nested 100 deep", request{method: "PUT", path: "/enrollments/press-1", body: keyedBody("press-1", `"x":`+strings.Repeat("[", 100)+strings.Repeat("]", 100))}, 400, 400000},

		{"no attestation", request{method: "PUT", path: "/enrollments/press-1", body: `{"registrationId":"press-1"}`}, 400, 400000},
		{"an attestation of no type", request{method: "PUT", path: "/enrollments/press-1", body: `{"registrationId":"press-1","attestation":{"type":"none"}}`}, 400, 400000},
		{"TPM", request{method: "PUT", path: "/enrollments/press-1", body: `{"registrationId":"press-1","attestation":{"type":"tpm","tpm":{"endorsementKey":"AA=="}}}`}, 400, 400000},
		{"TPM of a group", request{method: "PUT", path: "/enrollmentGroups/line-9", body: `{"enrollmentGroupId":"line-9","attestation":{"type":"tpm","tpm":{"endorsementKey":"AA=="}}}`}, 400, 400000},
		{"a key of 15 bytes", request{method: "PUT", path: "/enrollments/press-1", body: `{"registrationId":"press-1","attestation":{"type":"symmetricKey","symmetricKey":{"primaryKey":"` + b64(15) + `"}}}`}, 400, 400000},
		{"a key of 16 bytes", request{method: "PUT", path: "/enrollments/press-6", body: `{"registrationId":"press-6","attestation":{"type":"symmetricKey","symmetricKey":{"primaryKey":"` + b64(16) + `"}}}`}, 0, 0},
		{"a key that is no base64", request{method: "PUT", path: "/enrollments/press-1", body: `{"registrationId":"press-1","attestation":{"type":"symmetricKey","symmetricKey":{"primaryKey":"%"}}}`}, 400, 400000},
		{"two kinds of certificates", request{method: "PUT", path: "/enrollments/press-1", body: x509(`{"clientCertificates":{},"signingCertificates":{}}`)}, 400, 400000},
		{"signing certificates of one device", request{method: "PUT", path: "/enrollments/press-1", body: x509(`{"signingCertificates":{"primary":{"certificate":"x"}}}`)}, 400, 400000},
		{"a CA reference of one device", request{method: "PUT", path: "/enrollments/press-1", body: x509(`{"caReferences":{"primary":"root"}}`)}, 400, 400000},
		{"a certificate that cannot be read", request{method: "PUT", path: "/enrollments/press-1", body: x509(`{"clientCertificates":{"primary":{"certificate":"MIIB"}}}`)}, 400, 400000},
		{"info of a certificate that is not there", request{method: "PUT", path: "/enrollments/press-1", body: x509(`{"clientCertificates":{"primary":{"info":{"sha256Thumbprint":"` + strings.Repeat("A", 64) + `"}}}}`)}, 400, 400000},
		{"info without a thumbprint", request{method: "PUT", path: "/enrollments/press-1", body: x509(`{"clientCertificates":{"primary":{"info":{}}}}`)}, 400, 400000},

		{"a status that is none", request{method: "PUT", path: "/enrollments/press-1", body: keyedBody("press-1", `"provisioningStatus":"Off"`)}, 400, 400000},
		{"an allocation policy that is none", request{method: "PUT", path: "/enrollments/press-1", body: keyedBody("press-1", `"allocationPolicy":"random"`)}, 400, 400000},
		{"a hub that is not linked", request{method: "PUT", path: "/enrollments/press-1", body: keyedBody("press-1", `"iotHubs":["other.example.net"]`)}, 400, 400000},
		{"two minds about the hub", request{method: "PUT", path: "/enrollments/press-1", body: keyedBody("press-1", `"iotHubHostName":"`+hub+`","iotHubs":["other.example.net"]`)}, 400, 400000},

		{"a bulk call of 10", request{method: "POST", path: "/enrollments/", body: bulk(10)}, 0, 0},
		{"a bulk call of 11", request{method: "POST", path: "/enrollments/", body: bulk(11)}, 400, 400000},
		{"a bulk call of none", request{method: "POST", path: "/enrollments/", body: bulk(0)}, 400, 400000},
		{"a bulk call of enrollments as groups", request{method: "POST", path: "/enrollmentGroups", body: bulk(1)}, 400, 400000},
		{"a mode that is none", request{method: "POST", path: "/enrollments/", body: `{"mode":"upsert","enrollments":[{}]}`}, 400, 400000},

		{"a query of everything", request{method: "POST", path: "/enrollments/QUERY/", body: `{"query":"select * from Enrollments"}`}, 0, 0},
		{"a query without FROM", request{method: "POST", path: "/enrollmentGroups/query", body: `{"query":"SELECT *"}`}, 0, 0},
		{"a star, as npm's samples have it", request{method: "POST", path: "/enrollments/query", body: `{"query":"*"}`}, 0, 0},
		{"a query of one column", request{method: "POST", path: "/enrollments/query", body: `{"query":"SELECT registrationId FROM enrollments"}`}, 400, 400000},
		{"a query that counts", request{method: "POST", path: "/enrollments/query", body: `{"query":"SELECT COUNT() FROM enrollments"}`}, 400, 400000},
		{"a query of groups among enrollments", request{method: "POST", path: "/enrollments/query", body: `{"query":"SELECT * FROM enrollmentGroups"}`}, 400, 400000},
		{"a query with more behind it", request{method: "POST", path: "/enrollments/query", body: `{"query":"SELECT * FROM enrollments; DROP TABLE entries"}`}, 400, 400000},
		{"no query", request{method: "POST", path: "/enrollments/query", body: `{}`}, 400, 400000},
		{"no body of a query", request{method: "POST", path: "/enrollments/query"}, 400, 400000},
		{"no body of a query of records", request{method: "POST", path: "/registrations/line-3/query"}, 0, 0},
		{"a query of records by any name", request{method: "POST", path: "/registrations/LINE-3/query", body: `{"query":"SELECT * FROM deviceRegistrations"}`}, 0, 0},
		{"a query of records of no group", request{method: "POST", path: "/registrations/line-4/query"}, 404, 404201},
		{"a page of 1000", request{method: "POST", path: "/enrollments/query", body: `{"query":"*"}`, header: map[string]string{"x-ms-max-item-count": "1000"}}, 0, 0},
		{"a page of 1001", request{method: "POST", path: "/enrollments/query", body: `{"query":"*"}`, header: map[string]string{"x-ms-max-item-count": "1001"}}, 400, 400000},
		{"a page of none", request{method: "POST", path: "/enrollments/query", body: `{"query":"*"}`, header: map[string]string{"x-ms-max-item-count": "0"}}, 400, 400000},
		{"a page of words", request{method: "POST", path: "/enrollments/query", body: `{"query":"*"}`, header: map[string]string{"x-ms-max-item-count": "ten"}}, 400, 400000},
		{"a forged continuation", request{method: "POST", path: "/enrollments/query", body: `{"query":"*"}`, header: map[string]string{"x-ms-continuation": "dGhlcmU"}}, 400, 400000},
	} {
		w.part(c.name, func() {
			a := w.do(c.request)
			if c.status == 0 {
				a.want(200)
				return
			}
			a.want(c.status, c.code)
			if a.at("message") == "" || a.at("trackingId") == nil || a.at("timestampUtc") == nil {
				w.t.Errorf("the error has no more to say: %s", a.text)
			}
		})
	}
	w.get("/enrollments/press-1").want(404) // nothing of the above was written
}

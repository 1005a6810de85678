package admin

import (
	"net/http"
	"testing"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/policies"
)

func TestWrites(t *testing.T) {
	t.Parallel()
	w := linked(t)
	w.run("conditional requests", conditionalRequests)
	w.run("acts honour If-Match when it is sent", actsHonourIfMatch)
	w.run("get, change, put keeps keys", getChangePutKeepsKeys)
	w.run("lists of endorsement keys", listsOfEndorsementKeys)
	w.run("get, change, put keeps certificates", getChangePutKeepsCertificates)
	w.run("settings of an entry", settingsOfAnEntry)
	w.run("warnings say where else a certificate stands", warnings)
	w.run("a reference needs a verified anchor", references)
	w.run("anchors", anchors)
}

func conditionalRequests(w *world) {
	family := testkit.Chain(w.t, "root > dev")
	second := testkit.Chain(w.t, "root > dev")
	ca := func(f *testkit.Family) string {
		return `{"certificate":` + quoted(f.Get("root").PEM()) + `}`
	}
	keyed := `{"attestation":{"type":"symmetricKey"}}`
	for _, r := range []struct {
		path, body, other, patch string
	}{
		{"/enrollments/press-1", keyed, `{"attestation":{"type":"symmetricKey"},"iotHubHostName":"hub-1"}`, `{"provisioningStatus":"disabled"}`},
		{"/groups/line:3", keyed, `{"attestation":{"type":"symmetricKey"},"iotHubs":["hub-1"]}`, `{"provisioningStatus":"disabled"}`},
		{"/hubs/hub-2", `{}`, `{"weight":3}`, `{"draining":true}`},
		{"/profiles/short", `{"lifetime":"P7D"}`, `{"lifetime":"P8D"}`, `{"lifetime":"PT24H"}`},
		{"/anchors/root", ca(family), ca(second), ""},
	} {
		w.run(r.path, func(w *world) {
			w.put(r.path, r.body, `"1"`).want(http.StatusPreconditionFailed, "etag-mismatch")
			w.put(r.path, r.body, `*`).want(http.StatusPreconditionFailed, "etag-mismatch")
			w.delete(r.path, `"1"`).want(http.StatusNotFound)
			first := w.put(r.path, r.body).want(http.StatusCreated)
			if first.etag() == "" || first.at("etag") != first.etag() || first.header.Get("Location") != prefix+r.path {
				w.t.Fatalf("ETag %q, etag %v, Location %q", first.etag(), first.at("etag"), first.header.Get("Location"))
			}
			w.get(r.path).want(http.StatusOK).has("etag", first.etag())
			w.put(r.path, r.other).want(http.StatusPreconditionRequired, "if-match-required")
			w.put(r.path, r.other, `"1700000000000"`).want(http.StatusPreconditionFailed, "etag-mismatch")
			w.put(r.path, r.other, `"nonsense"`).want(http.StatusPreconditionFailed, "etag-mismatch")
			w.put(r.path, r.other, `"1", "2"`).want(http.StatusBadRequest, "if-match")
			absent := request{role: policies.RoleAdmin, method: http.MethodPut, path: r.path, body: r.other, header: http.Header{"If-None-Match": {"*"}}}
			w.do(absent).want(http.StatusPreconditionFailed, "exists")
			absent.header.Set("If-None-Match", `"1"`)
			w.do(absent).want(http.StatusBadRequest, "if-none-match")
			next := w.put(r.path, r.other, first.etag()).want(http.StatusOK)
			if next.etag() == first.etag() {
				w.t.Fatal("a write keeps the ETag")
			}
			w.put(r.path, r.body, first.etag()).want(http.StatusPreconditionFailed, "etag-mismatch")
			w.put(r.path, r.body, "W/"+next.etag()).want(http.StatusOK)
			last := w.put(r.path, r.other, `*`).want(http.StatusOK)
			if r.patch != "" {
				w.patch(r.path+"x", r.patch, `*`).want(http.StatusNotFound)
				w.patch(r.path, r.patch).want(http.StatusPreconditionRequired, "if-match-required")
				w.patch(r.path, r.patch, next.etag()).want(http.StatusPreconditionFailed, "etag-mismatch")
				w.patch(r.path, r.patch, last.etag()).want(http.StatusOK)
				last = w.patch(r.path, r.patch, `"*"`).want(http.StatusOK)
			}
			w.delete(r.path).want(http.StatusPreconditionRequired, "if-match-required")
			w.delete(r.path, first.etag()).want(http.StatusPreconditionFailed, "etag-mismatch")
			w.delete(r.path, last.etag()).want(http.StatusNoContent)
			w.get(r.path).want(http.StatusNotFound)
		})
	}
}

func actsHonourIfMatch(w *world) {
	tag := w.put("/groups/line-3", `{"attestation":{"type":"symmetricKey"}}`).want(http.StatusCreated).etag()
	w.post("/groups/line-3/disable", "", `"17"`).want(http.StatusPreconditionFailed, "etag-mismatch")
	w.post("/groups/line-3/disable", "", tag).want(http.StatusOK).has("provisioningStatus", "disabled")
	w.post("/groups/LINE-3/enable", "").want(http.StatusOK).has("provisioningStatus", "enabled").has("enrollmentGroupId", "line-3")
}

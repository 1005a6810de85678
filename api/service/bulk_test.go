package service

import (
	"fmt"
	"strings"
)

func bulkCalls(w *world) {
	t := w.t
	call := func(mode, entries string) *answer {
		return w.post("/enrollments/", `{"mode":"`+mode+`","enrollments":[`+entries+`]}`).want(200)
	}
	failed := func(a *answer, want ...string) {
		t.Helper()
		var got []string
		for _, e := range a.at("errors").([]any) {
			fields := e.(map[string]any)
			got = append(got, fields["registrationId"].(string)+" "+jsonNumber(fields["errorCode"]))
			if fields["errorStatus"] == "" {
				t.Errorf("an error without words: %s", a.text)
			}
		}
		if strings.Join(got, ", ") != strings.Join(want, ", ") || a.at("isSuccessful") != (len(want) == 0) {
			t.Errorf("%s: %s, want the errors %v", a.request.body, a.text, want)
		}
	}
	failed(call("create", keyedBody("a")+","+keyedBody("b")))
	failed(call("create", keyedBody("c")+","+keyedBody("a")+`,{"registrationId":"bad id","attestation":{"type":"symmetricKey"}},{"registrationId":"d"},{"registrationId":"e","iotHubs":5}`),
		"a 409201", "bad id 400000", "d 400000", "e 400000")
	w.get("/enrollments/c").want(200) // entries are independent

	off := `"provisioningStatus":"disabled"`
	failed(call("UPDATE", keyedBody("A", off)+","+keyedBody("nobody")), "nobody 404201")
	tag := w.get("/enrollments/a").want(200).has("provisioningStatus", "disabled").at("etag").(string)

	etag := func(tag string) string { return `"etag":"` + strings.ReplaceAll(tag, `"`, `\"`) + `"` }
	failed(call("updateIfMatchETag", keyedBody("a", etag(tag))+","+keyedBody("b", etag(`"1"`))+","+keyedBody("c")+","+keyedBody("nobody", etag(`"1"`))),
		"b 412202", "c 400000", "nobody 412202")
	w.get("/enrollments/a").want(200).has("provisioningStatus", "enabled")

	failed(call("delete", `{"registrationId":"a"},{"registrationId":"nobody"},{"registrationId":"B"}`), "nobody 404201")
	w.get("/enrollments/a").want(404)
	w.get("/enrollments/b").want(404)
}

func bulkOfGroups(w *world) {
	body := `{"mode":"create","enrollmentGroups":[{"enrollmentGroupId":"line-3","attestation":{"type":"symmetricKey"}}]}`
	w.post("/enrollmentGroups", body).want(200).has("isSuccessful", true)
	w.post("/enrollmentGroups", body).want(200).has("isSuccessful", false).has("errors.0.enrollmentGroupId", "line-3").has("errors.0.errorCode", 409201)
	w.get("/enrollmentGroups/line-3").want(200)
}

func jsonNumber(v any) string { return fmt.Sprint(int(v.(float64))) }

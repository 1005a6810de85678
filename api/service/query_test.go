package service

import (
	"fmt"
	"strings"
	"testing"

	"github.com/passmuster/muster/provisioning"
)

// ask is one page of a query.
func (w *world) ask(path, query, size, continuation string) *answer {
	w.t.Helper()
	r := request{method: "POST", path: path, header: map[string]string{}}
	if query != "" {
		r.body = `{"query":` + inJSON([]byte(query)) + `}`
	}
	if size != "" {
		r.header["x-ms-max-item-count"] = size
	}
	if continuation != "" {
		r.header["x-ms-continuation"] = continuation
	}
	return w.do(r)
}

// walk asks for page after page, and returns the ids of each.
func (w *world) walk(path, query, size string) (pages []string) {
	w.t.Helper()
	for next := ""; ; {
		a := w.ask(path, query, size, next)
		pages = append(pages, a.ids())
		more := a.header.Values("x-ms-continuation")
		if len(more) == 0 {
			return pages
		}
		next = more[0]
	}
}

func pagesGoByKey(w *world) {
	t := w.t
	for _, id := range []string{"e", "a", "C", "b", "d"} {
		w.keyed(id)
	}
	w.put("/enrollmentGroups/z", `{"enrollmentGroupId":"z","attestation":{"type":"symmetricKey"}}`).want(200)
	const all = "SELECT * FROM enrollments"
	for size, want := range map[string]string{"2": "a b|C d|e", "5": "a b C d e", "1": "a|b|C|d|e", "": "a b C d e", "1000": "a b C d e"} {
		if got := strings.Join(w.walk("/enrollments/query", all, size), "|"); got != want {
			t.Errorf("pages of %q are %s, want %s", size, got, want)
		}
	}
	if got := w.walk("/enrollmentGroups/query", "SELECT * FROM enrollmentGroups", ""); len(got) != 1 || got[0] != "z" {
		t.Errorf("the groups are %v", got)
	}

	first := w.ask("/enrollments/query", all, "2", "")
	if got := first.header; got.Get("x-ms-item-type") != "Enrollment" || got.Get("x-ms-max-item-count") != "2" {
		t.Errorf("the headers of a page are %v", got)
	}
	if len(w.ask("/enrollments/query", all, "5", "").header.Values("x-ms-continuation")) != 0 {
		t.Error("the last page has a continuation")
	}
	// What comes and goes meanwhile neither repeats nor hides others.
	w.delete("/enrollments/b").want(204)
	w.keyed("bb")
	if got := w.ask("/enrollments/query", all, "2", first.header.Get("x-ms-continuation")).ids(); got != "bb C" {
		t.Errorf("the second page is %s", got)
	}
}

func TestAContinuationIsGoodForItsQueryAlone(t *testing.T) {
	w := newWorld(t)
	for _, id := range []string{"a", "b", "c"} {
		w.keyed(id)
		w.put("/enrollmentGroups/"+id, `{"enrollmentGroupId":"`+id+`","attestation":{"type":"symmetricKey"}}`).want(200)
	}
	const all = "SELECT *"
	next := w.ask("/enrollments/query", all, "1", "").header.Get("x-ms-continuation")
	if got := w.ask("/enrollments/query", all, "2", next).ids(); got != "b c" {
		t.Errorf("with another page size the second page is %s", got)
	}
	w.ask("/enrollments/query", all+" ", "1", next).want(400, 400000)
	w.ask("/enrollmentGroups/query", all, "1", next).want(400, 400000)
	w.ask("/registrations/a/query", all, "1", next).want(400, 400000)
	for i := range next {
		forged := []byte(next)
		forged[i] ^= 1
		w.ask("/enrollments/query", all, "1", string(forged)).want(400, 400000)
	}
	w.ask("/enrollments/query", all, "1", next[:len(next)-2]).want(400, 400000)
	w.ask("/enrollments/query", all, "1", next+"AA").want(400, 400000)
	w.ask("/enrollments/query", all, "1", strings.Repeat("A", 10000)).want(400, 400000)

	// It survives a restart.
	w.check(w.scopes[0].stop())
	w.start(w.scopes[0])
	w.open()
	if got := w.ask("/enrollments/query", all, "1", next).ids(); got != "b" {
		t.Errorf("after a restart the second page is %s", got)
	}
}

func queriesWithConditions(w *world) {
	t := w.t
	for i := range 12 {
		status := `"provisioningStatus":"enabled"`
		if i%4 == 0 {
			status = `"provisioningStatus":"disabled"`
		}
		id := fmt.Sprintf("press-%02d", i)
		w.put("/enrollments/"+id, keyedBody(id, status, fmt.Sprintf(`"initialTwin":{"tags":{"floor":%d}}`, i%3))).want(200)
	}
	for query, want := range map[string]string{
		`WHERE provisioningStatus = 'disabled'`:                                                             "press-00 press-04 press-08",
		`FROM enrollments WHERE provisioningStatus <> "enabled"`:                                            "press-00 press-04 press-08",
		`WHERE provisioningStatus='disabled' AND initialTwin.tags.floor=1`:                                  "press-04",
		`WHERE provisioningStatus='disabled' AND (initialTwin.tags.floor=1 OR registrationId = 'PRESS-08')`: "press-04 press-08",
		`WHERE registrationId IN ['press-01', 'PRESS-02']`:                                                  "press-01 press-02",
		`WHERE capabilities.iotEdge = true`:                                                                 "",
		`WHERE nothing.of = 'that'`:                                                                         "",
		`WHERE nothing.of != 'that'`:                                                                        "",
		`WHERE initialTwin.tags = 'x'`:                                                                      "",
		`WHERE attestation.symmetricKey.primaryKey != 'x'`:                                                  "", // secrets are not in what is looked at
	} {
		if got := strings.Join(w.walk("/enrollments/query", "SELECT * "+query, ""), "|"); got != want {
			t.Errorf("%s finds %q, want %q", query, got, want)
		}
		if got := strings.Fields(strings.Join(w.walk("/enrollments/query", "SELECT * "+query, "1"), " ")); strings.Join(got, " ") != want {
			t.Errorf("%s finds, one by one, %q, want %q", query, got, want)
		}
	}
}

func recordsOfAGroup(w *world) {
	t := w.t
	for _, group := range []string{"line-3", "line-4"} {
		w.put("/enrollmentGroups/"+group, `{"enrollmentGroupId":"`+group+`","attestation":{"type":"symmetricKey"}}`).want(200)
	}
	for _, id := range []string{"c", "a", "b"} {
		w.registered(provisioning.Group, "line-3", id)
	}
	w.registered(provisioning.Group, "line-4", "ab")
	w.keyed("line-3x")
	w.registered(provisioning.Individual, "line-3x", "line-3x")
	if got := strings.Join(w.walk("/registrations/LINE-3/query", "", "2"), "|"); got != "a b|c" {
		t.Errorf("the records of the group are %s", got)
	}
	a := w.ask("/registrations/line-3/query", "SELECT * WHERE status = 'assigned' AND registrationId='B'", "", "").has("0.status", "assigned").has("0.assignedHub", hub)
	if got := a.header.Get("x-ms-item-type"); got != "DeviceRegistration" || a.ids() != "b" {
		t.Errorf("%s of type %s", a.text, got)
	}
}

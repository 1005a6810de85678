package admin

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/testkit"
)

func TestTripwiresAndHolds(t *testing.T) {
	t.Parallel()
	w := linked(t)
	f := stolen(w)
	mid := f.Get("mid")
	for _, id := range []string{"c1", "c2", "c3"} { // with the key of d1, each
		w.advance(time.Second)
		w.presents(id, mid.Issue(t, id, testkit.WithKey(f.Get("d1").Key)))
	}
	for more := true; more; {
		more = must(w.engine.SweepKeysInUse(t.Context(), w.jobs))
	}
	w.get("/tripwires").want(http.StatusOK).has("items.0.kind", "shared-key").has("items.0.object", "registration d1").has("items.0.count", 1).
		has("items.0.held", false).has("items.0.door", nil).has("items.3", nil)
	if got := w.walk("/tripwires?kind=shared-key", "registrationId", 1, func(int) {}); len(got) != 3 || !slices.Contains(got, "c3") || slices.Contains(got, "d1") { // not who came first
		t.Errorf("page by page %q", got)
	}
	w.get("/tripwires?registration=c3").want(http.StatusOK).has("items.0.registrationId", "c3").has("items.1", nil)
	w.get("/tripwires?kind=two-chains").want(http.StatusOK).has("items.0", nil)
	w.get("/tripwires?kind=new").want(http.StatusBadRequest, "schema")
	w.get("/tripwires?registration=no%20id").want(http.StatusBadRequest, "registration-id")
	w.get("/tripwires?cursor=none").want(http.StatusBadRequest, "cursor")
	w.get("/explain/c3").want(http.StatusOK).has("tripwires.0.kind", "shared-key").has("admitted", true)

	w.post("/registrations/c3/hold", "").want(http.StatusOK).has("registrationId", "c3").has("status", "assigned")
	held := w.get("/registrations/c3").want(http.StatusOK)
	if held.at("heldAt") == nil {
		t.Error("nothing says that it is held")
	}
	w.get("/explain/c3").want(http.StatusOK).has("admitted", false).has("refusedBy.rule", "registration-held").has("refusedBy.object", "registration c3")
	w.delete("/registrations/c3", "*").want(http.StatusConflict, "registration-held")
	w.post("/registrations/c3/release", "").want(http.StatusOK).has("heldAt", nil)
	w.get("/explain/c3").want(http.StatusOK).has("admitted", true)
	w.post("/registrations/nobody/hold", "").want(http.StatusNotFound, "registration-not-found")
	w.post("/registrations/no%20id/release", "").want(http.StatusBadRequest, "registration-id")
}

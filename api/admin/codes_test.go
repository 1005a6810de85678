package admin

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestOneTimeCodes(t *testing.T) {
	t.Parallel()
	w := linked(t)
	w.put("/enrollments/pump-1", `{"attestation":{"type":"symmetricKey"},"credentialPolicyName":"default"}`).want(http.StatusCreated)
	w.put("/groups/line", `{"attestation":{"type":"symmetricKey"},"credentialPolicyName":"default"}`).want(http.StatusCreated)
	made := w.post("/codes", `{"registrationId":"pump-1"}`).want(http.StatusCreated).
		has("registrationId", "pump-1").has("owner.kind", "individual").has("status", "open")
	name := made.at("name").(string)
	if !regexp.MustCompile(`^mec_[0-9a-z]{26}$`).MatchString(made.at("code").(string)) || made.header.Get("Location") != "/api/v1/codes/"+name {
		t.Errorf("made %s at %s", made.text, made.header.Get("Location"))
	}
	if a := w.get("/codes").want(http.StatusOK); a.at("items.0.code") != nil || a.at("items.0.name") != name {
		t.Errorf("the list says %s", a.text)
	}
	for i := range 5 {
		w.post("/codes", fmt.Sprintf(`{"registrationId":"m-%d","group":"line","lifetime":"PT10M"}`, i)).want(http.StatusCreated).has("owner.id", "line")
	}
	if got := w.walk("/codes", "registrationId", 2, func(int) {}); len(got) != 6 {
		t.Errorf("pages have %v", got)
	}
	w.get("/codes?registrationId=m-3").want(http.StatusOK).has("items.0.registrationId", "m-3").has("items.1", nil)
	w.advance(11 * time.Minute)
	w.get("/codes?registrationId=m-3").want(http.StatusOK).has("items.0.status", "expired")

	w.post("/codes", `{"registrationId":"no id"}`).want(http.StatusBadRequest)
	w.post("/codes", `{"registrationId":"m-1","group":"no id"}`).want(http.StatusBadRequest)
	w.post("/codes", `{"registrationId":"m-1","group":"line","lifetime":"PT0S"}`).want(http.StatusBadRequest, "code-lifetime")
	w.post("/codes", `{"registrationId":"m-1","group":"line","lifetime":"a day"}`).want(http.StatusBadRequest)
	w.post("/codes", `{"registrationId":"nobody"}`).want(http.StatusNotFound)
	w.get("/codes?cursor=nonsense").want(http.StatusBadRequest)
	w.get("/codes?registrationId=no%20id").want(http.StatusBadRequest)

	w.call(http.MethodDelete, "/codes/"+name, "").want(http.StatusNoContent)
	w.call(http.MethodDelete, "/codes/"+name, "").want(http.StatusNotFound)
	w.call(http.MethodDelete, "/codes/nonsense", "").want(http.StatusBadRequest, "code-name")
	w.get("/audit?action=code.revoked").want(http.StatusOK).has("items.0.subject", "code:"+name)
}

func TestLineage(t *testing.T) {
	t.Parallel()
	w := linked(t)
	w.put("/groups/line", `{"attestation":{"type":"symmetricKey"},"credentialPolicyName":"default"}`).want(http.StatusCreated)
	op := w.register("line", "dev-1")
	serial, print := string(op.Certificate.Serial), w.get("/certificates").at("items.0.thumbprint").(string)
	for _, path := range []string{"/certificates/" + serial + "/lineage", "/lineage/" + print} {
		w.get(path).want(http.StatusOK).has("certificate.serial", serial).has("certificate.registrationId", "dev-1").
			has("ancestors.0", nil).has("descendants.0", nil).has("next", nil)
	}
	w.get("/certificates/00ff/lineage").want(http.StatusNotFound)
	w.get("/certificates/nonsense/lineage").want(http.StatusBadRequest)
	w.get("/lineage/nonsense").want(http.StatusBadRequest)
	w.get("/lineage/" + print + "?cursor=nonsense").want(http.StatusBadRequest)
	w.get("/lineage/"+strings.Repeat("00", 32)).want(http.StatusNotFound, "certificate-unknown")
}

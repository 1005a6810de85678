package admin

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

func TestProfilesHaveVersionsThatCanBeComparedTriedAndReturnedTo(t *testing.T) {
	t.Parallel()
	w := linked(t)
	first := w.put("/profiles/gate", `{"lifetime":"P7D","maxLifetime":"P14D","names":{"permitted":{"dns":["*.plant.example"]}},"keyReuse":"ownOnly","serverKeygen":true,"extensions":["1.2.3"]}`).want(http.StatusCreated).
		has("maxLifetime", "P14D").has("names.permitted.dns.0", "*.plant.example").has("names.excluded", nil).has("keyReuse", "ownOnly").has("serverKeygen", true).has("extensions.0", "1.2.3")
	etag := first.etag()
	w.advance(time.Minute)
	w.put("/profiles/gate", `{"lifetime":"P1D","names":{"permitted":{"dns":["*.plant.example"]}}}`, etag).want(http.StatusOK).has("keyReuse", "allowed").has("maxLifetime", nil)

	versions := w.walk("/profiles/gate/versions", "version", 1, func(int) {})
	if len(versions) != 2 {
		t.Fatalf("versions %v", versions)
	}
	list := w.get("/profiles/gate/versions").want(http.StatusOK).has("items.0.actor", "operator:admin").has("items.0.settings.lifetime", "P1D").has("items.1.settings.lifetime", "P7D")
	newest, oldest := fmt.Sprintf("%.0f", list.at("items.0.version")), fmt.Sprintf("%.0f", list.at("items.1.version"))
	w.get("/profiles/gate/versions/"+oldest).want(http.StatusOK).has("settings.keyReuse", "ownOnly").has("settings.etag", nil)
	w.get("/profiles/gate/versions/7").want(http.StatusNotFound, "profile-version-not-found")
	w.get("/profiles/gone/versions").want(http.StatusNotFound, "profile-not-found")
	w.get("/profiles/gone/diff").want(http.StatusNotFound)

	w.get("/profiles/gate/diff").want(http.StatusOK).has("changes.0.field", "extensions").has("changes.0.old.0", "1.2.3").has("changes.0.new", nil).
		has("changes.1.field", "keyReuse").has("changes.1.new", "allowed").
		has("changes.2.field", "lifetime").has("changes.2.old", "P7D").has("changes.2.new", "P1D").
		has("changes.3.field", "maxLifetime").has("changes.4.field", "serverKeygen").has("changes.5", nil)
	w.get("/profiles/gate/diff?from="+newest+"&to="+oldest).want(http.StatusOK).has("changes.2.old", "P1D").has("changes.2.new", "P7D")
	w.get("/profiles/gate/diff?to="+oldest).want(http.StatusOK).has("changes.0", nil)

	w.post("/profiles/gate/rollback", `{"version":`+oldest+`}`).want(http.StatusPreconditionRequired)
	w.post("/profiles/gate/rollback", `{"version":`+oldest+`}`, "*").want(http.StatusOK).has("lifetime", "P7D").has("keyReuse", "ownOnly")
	w.get("/audit?subject=profile:gate").want(http.StatusOK).has("items.0.action", "profile.rolled-back")

	w.put("/groups/sas", `{"attestation":{"type":"symmetricKey"},"credentialPolicyName":"gate"}`).want(http.StatusCreated)
	for i := range 3 {
		w.register("sas", fmt.Sprintf("dev-%d", i))
	}
	w.post("/profiles/gate/test", `{"profile":{"lifetime":"P7D","names":{"permitted":{"dns":["*.plant.example"]}}}}`).want(http.StatusOK).has("requests", 3).has("same", 3).has("examples.0", nil)
	w.post("/profiles/gate/test", `{"profile":{"lifetime":"PT12H"},"last":2,"examples":1}`).want(http.StatusOK).has("requests", 2).has("changed", 2).
		has("examples.0.registrationId", "dev-2").has("examples.0.changes.0.field", "lifetime").has("examples.0.changes.0.new", "12h0m0s").has("examples.1", nil)
	w.post("/profiles/gate/test", `{"profile":{"keys":["RSA-2048"]}}`).want(http.StatusOK).has("refused", 3).has("refusedBy.key-type-not-allowed", 3).
		has("examples.0.before", nil).has("examples.0.after.rule", "key-type-not-allowed")
	w.post("/profiles/gate/test", `{"profile":{"lifetime":"PT1S"}}`).want(http.StatusBadRequest, "profile-invalid")
	w.post("/profiles/gate/test", `{"profile":{"template":"{\"extKeyUsage\":[\"any\"]}"}}`).want(http.StatusBadRequest, "template-usage").has("errors.0.pointer", "/template")
	w.post("/profiles/gone/test", `{"profile":{}}`).want(http.StatusNotFound)
	w.put("/profiles/new", `{"names":{"permitted":{"ip":["10.0.0.0/99"]}}}`).want(http.StatusBadRequest, "profile-invalid").has("errors.0.pointer", "/names/permitted/ip")
}

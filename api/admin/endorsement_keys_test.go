package admin

import (
	"net/http"
	"strings"
)

func listsOfEndorsementKeys(w *world) {
	w.put("/groups/presses", `{"attestation":{"type":"tpm","tpm":{"listed":true}}}`).want(http.StatusCreated).has("attestation.tpm.listed", true)
	one, two := strings.Repeat("01", 32), strings.Repeat("02", 32)
	const list = "/groups/presses/endorsementKeys"
	w.post(list, `{"add":[{"sha256":"`+one+`"},{"sha256":"`+two+`","registrationId":"Press-2"}]}`).want(http.StatusOK).has("added", 2).has("removed", 0).has("listed", 2)
	first := w.get(list+"?limit=1").want(http.StatusOK).has("items.0.sha256", one).has("items.0.registrationId", nil).has("items.1", nil)
	w.get(list+"?cursor="+first.at("next").(string)).want(http.StatusOK).has("items.0.sha256", two).has("items.0.registrationId", "press-2").has("next", nil)
	w.post(list, `{"add":[{"sha256":"`+one+`","registrationId":"press-1"}],"remove":["`+two+`"]}`).want(http.StatusOK).has("added", 0).has("removed", 1).has("listed", 1)
	w.get(list).has("items.0.registrationId", "press-1").has("items.1", nil)
	for body, pointer := range map[string]string{
		`{"add":[{}]}`: "/add/0", `{"add":[{"sha256":"` + one + `"},{"sha256":"01"}]}`: "/add/1", `{"remove":["x"]}`: "/remove/0",
		`{"add":[{"endorsementKey":"AA=="}]}`: "/add/0", `{"add":[{"endorsementKey":"AA==","sha256":"` + one + `"}]}`: "/add/0",
	} {
		w.post(list, body).want(http.StatusBadRequest).has("errors.0.pointer", pointer)
	}
	w.put("/groups/keyed", `{"attestation":{"type":"symmetricKey"}}`).want(http.StatusCreated)
	w.post("/groups/keyed/endorsementKeys", `{"add":[{"sha256":"`+one+`"}]}`).want(http.StatusConflict)
	w.get("/groups/nobody/endorsementKeys").want(http.StatusNotFound)
	w.rewrite("/groups/presses", func(g map[string]any) { g["provisioningStatus"] = "disabled" }).want(http.StatusOK)
	w.get(list).has("items.0.sha256", one) // it stays
	w.get("/groups?mechanism=tpmList").want(http.StatusOK).has("items.0.enrollmentGroupId", "presses").has("items.1", nil)
}

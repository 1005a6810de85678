package admin

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/passmuster/muster/internal/testkit"
)

// rewrite is get-change-put: what GET answers, with one change, is put back.
func (w *world) rewrite(path string, change func(map[string]any)) *answer {
	w.t.Helper()
	a := w.get(path).want(http.StatusOK)
	change(a.json)
	return w.put(path, compact(a.json), a.etag())
}

func getChangePutKeepsKeys(w *world) {
	primary := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))
	w.put("/groups/sas", `{"attestation":{"type":"symmetricKey","symmetricKey":{"primaryKey":"`+primary+`"}}}`).want(http.StatusCreated)
	before := w.post("/groups/sas/attestationmechanism", "").want(http.StatusOK).has("symmetricKey.primaryKey", primary)
	if len(before.at("symmetricKey.secondaryKey").(string)) != 88 {
		w.t.Error("no secondary key of 64 bytes was made")
	}
	got := w.get("/groups/sas").want(http.StatusOK)
	if strings.Contains(got.text, primary) || strings.Contains(got.text, "primaryKey") {
		w.t.Errorf("GET shows keys: %s", got.text)
	}
	w.rewrite("/groups/sas", func(g map[string]any) { g["provisioningStatus"] = "disabled" }).want(http.StatusOK).has("provisioningStatus", "disabled")
	after := w.post("/groups/sas/attestationmechanism", "").want(http.StatusOK)
	if after.text != before.text {
		w.t.Error("the keys changed")
	}
	w.get("/audit?action=enrollment.keys-read&subject=group:sas").has("items.1.actor", "operator:admin").has("items.2", nil)

	w.patch("/groups/sas", `{"attestation":{"symmetricKey":{"secondaryKey":"`+primary+`"}}}`, "*").want(http.StatusOK)
	w.post("/groups/sas/attestationmechanism", "").want(http.StatusOK).has("symmetricKey.primaryKey", primary).has("symmetricKey.secondaryKey", primary)
}

func getChangePutKeepsCertificates(w *world) {
	f := testkit.Chain(w.t, "root > press-1; other > press-1b [cn=press-1]")
	body := func(slots string) string {
		return `{"attestation":{"type":"x509","x509":{"clientCertificates":{` + slots + `}}},"credentialPolicyName":"default"}`
	}
	first, second := quoted(f.Get("press-1").PEM()), quoted([]byte(f.Get("press-1b").Base64()))
	w.put("/enrollments/press-1", body(`"primary":{"certificate":`+first+`},"secondary":{"certificate":`+second+`}`)).want(http.StatusCreated)
	const info = "attestation.x509.clientCertificates.primary.info"
	got := w.get("/enrollments/press-1").want(http.StatusOK).
		has(info+".subjectName", "CN=press-1").has(info+".issuerName", "CN=root").has(info+".version", 3).
		has("attestation.x509.clientCertificates.primary.certificate", nil)
	if thumb := got.at(info + ".sha256Thumbprint").(string); len(thumb) != 64 || thumb != strings.ToLower(thumb) {
		w.t.Errorf("thumbprint %s", thumb)
	}
	kept := w.rewrite("/enrollments/press-1", func(e map[string]any) { e["deviceId"] = "pump-1" }).want(http.StatusOK).has("deviceId", "pump-1")
	if kept.at(info+".sha256Thumbprint") != got.at(info+".sha256Thumbprint") {
		w.t.Error("the certificate changed")
	}
	w.post("/enrollments/press-1/attestationmechanism", "").want(http.StatusOK).has("type", "x509").has("symmetricKey", nil)

	// Another certificate's info does not keep anything.
	swapped := w.get("/enrollments/press-1")
	certs := swapped.at("attestation.x509.clientCertificates").(map[string]any)
	certs["primary"], certs["secondary"] = certs["secondary"], certs["primary"]
	w.put("/enrollments/press-1", compact(swapped.json), swapped.etag()).want(http.StatusBadRequest, "certificate-missing").
		has("errors.0.pointer", "/attestation/x509/clientCertificates/primary")

	// A slot that is removed is rolled out; one that is replaced is replaced.
	w.patch("/enrollments/press-1", `{"attestation":{"x509":{"clientCertificates":{"primary":null}}}}`, "*").want(http.StatusOK).has("attestation.x509.clientCertificates.primary", nil)
	w.patch("/enrollments/press-1", `{"attestation":{"x509":{"clientCertificates":{"secondary":{"certificate":`+first+`}}}}}`, "*").want(http.StatusOK).
		has("attestation.x509.clientCertificates.secondary.info.issuerName", "CN=root").has("deviceId", "pump-1")
}

func settingsOfAnEntry(w *world) {
	w.put("/hubs/hub-2", `{}`).want(http.StatusCreated)
	w.put("/enrollments/Press:1", `{"attestation":{"type":"symmetricKey"}}`).want(http.StatusCreated).
		has("registrationId", "Press:1").has("provisioningStatus", "enabled").has("allocationPolicy", "hashed").
		has("reprovisionPolicy.updateHubAssignment", true).has("reprovisionPolicy.migrateDeviceData", true).has("capabilities.iotEdge", false)
	w.put("/enrollments/press:1", `{"registrationId":"PRESS:1","attestation":{"type":"symmetricKey"},"iotHubHostName":"hub-2",
		"reprovisionPolicy":{"migrateDeviceData":false},"capabilities":{"iotEdge":true},"provisioningStatus":"disabled","deviceId":"pump",
		"initialTwin":{"tags":{"floor":3},"properties":{"desired":{"n":12345678901234567890}}},"optionalDeviceInformation":{"vendor":"x"},
		"credentialPolicyName":"default"}`, "*").want(http.StatusOK).
		has("registrationId", "Press:1").has("allocationPolicy", "static").has("iotHubs.0", "hub-2").has("iotHubHostName", nil).
		has("reprovisionPolicy.updateHubAssignment", true).has("reprovisionPolicy.migrateDeviceData", false).has("capabilities.iotEdge", true)
	patched := w.patch("/enrollments/press%3A1", `{"deviceId":null,"initialTwin":{"tags":{"floor":4}}}`, "*").want(http.StatusOK).
		has("deviceId", nil).has("initialTwin.tags.floor", 4).has("optionalDeviceInformation.vendor", "x").has("provisioningStatus", "disabled")
	if !strings.Contains(patched.text, "12345678901234567890") {
		w.t.Errorf("a PATCH rounded a number: %s", patched.text)
	}
}

func warnings(w *world) {
	root := quoted(testkit.Chain(w.t, "root > dev").Get("root").PEM())
	body := `{"attestation":{"type":"x509","x509":{"signingCertificates":{"primary":{"certificate":` + root + `}}}}}`
	w.put("/groups/line-1", body).want(http.StatusCreated).
		has("warnings.0", "no verified trust anchor is, or signed, the primary certificate: it admits nobody unless devices send the certificates up to one")
	w.put("/anchors/warned", `{"vouched":true,"certificate":`+root+`}`).want(http.StatusCreated)
	w.put("/groups/line-1", body, "*").want(http.StatusOK).has("warnings", nil)
	w.put("/groups/line-2", body).want(http.StatusCreated).has("warnings.0", "the primary certificate stands in group line-1 too")
	w.post("/groups/line-1/disable", "").want(http.StatusOK)
	w.put("/groups/line-2", body, "*").want(http.StatusOK).
		has("warnings.0", "the primary certificate is held by group line-1, which is disabled: it will be refused")
}

func references(w *world) {
	root := testkit.Chain(w.t, "root > dev").Get("root")
	group := `{"attestation":{"type":"x509","x509":{"caReferences":{"primary":"plant-7"}}}}`
	w.put("/groups/line-7", group).want(http.StatusBadRequest, "anchor-unknown").has("errors.0.pointer", "/attestation/x509/caReferences/primary")
	w.put("/anchors/plant-7", `{"certificate":`+quoted(root.PEM())+`}`).want(http.StatusCreated).has("isVerified", false)
	w.put("/groups/line-7", group).want(http.StatusBadRequest, "anchor-not-verified").has("refusedBy.object", "anchor plant-7")
	code := w.post("/anchors/plant-7/generateVerificationCode", "").want(http.StatusOK)
	if code.at("verificationCodeExpires") == nil {
		w.t.Error("the code has no end")
	}
	w.post("/anchors/plant-7/verify", `{"certificate":`+quoted(root.Issue(w.t, "wrong").PEM())+`}`).want(http.StatusBadRequest, "proof-not-named")
	w.get("/anchors/plant-7").want(http.StatusOK).has("verificationCode", nil).has("isVerified", false)
	proof := testkit.PEM(root.Prove(w.t, code.at("verificationCode").(string)))
	w.post("/anchors/plant-7/verify", `{"certificate":`+quoted(proof)+`}`).want(http.StatusOK).has("isVerified", true).has("verifiedBy", "proof")
	w.put("/groups/line-7", group).want(http.StatusCreated).has("attestation.x509.caReferences.primary", "plant-7")
	w.delete("/anchors/plant-7", "*").want(http.StatusNoContent)
	w.get("/groups/line-7").want(http.StatusOK).has("attestation.type", "none")
}

func anchors(w *world) {
	f := testkit.Chain(w.t, "root > dev; next > dev2")
	post := `{"name":"plant","certificate":` + quoted(f.Get("root").PEM()) + `}`
	first := w.post("/anchors", post).want(http.StatusCreated).has("subject", "CN=root").has("isVerified", false)
	if first.header.Get("Location") != prefix+"/anchors/plant" || len(first.at("thumbprint").(string)) != 64 {
		w.t.Errorf("%v %s", first.header, first.text)
	}
	w.post("/anchors", post).want(http.StatusOK).has("etag", first.etag())
	other := `{"name":"plant","certificate":` + quoted([]byte(f.Get("next").Base64())) + `}`
	w.post("/anchors", other).want(http.StatusPreconditionRequired, "if-match-required")
	w.put("/anchors/plant", other, first.etag()).want(http.StatusOK).has("subject", "CN=next")
	w.post("/anchors", `{"name":"vouched","vouched":true,"certificate":`+quoted(f.Get("root").PEM())+`}`).want(http.StatusCreated).
		has("isVerified", true).has("verifiedBy", "operator:admin").has("vouched", nil)
	w.rewrite("/anchors/vouched", func(map[string]any) {}).want(http.StatusOK).has("isVerified", true)
	w.put("/anchors/vouched", other, "*").want(http.StatusBadRequest, "name-mismatch")
	// What GET answers of another anchor does not make this one verified.
	claimed := map[string]any{"certificate": string(f.Get("next").PEM()), "isVerified": true, "verifiedBy": "proof"}
	w.put("/anchors/claimed", string(must(json.Marshal(claimed)))).want(http.StatusCreated).has("isVerified", false)
}

package service

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

func anEnrollmentFromItsMakingToItsEnd(w *world) {
	t := w.t
	made := w.put("/enrollments/Press-1", keyedBody("PRESS-1", `"deviceId":"pump-1"`, `"capabilities":{"iotEdge":true}`, `"iotHubs":["`+hub+`"]`,
		`"initialTwin":{"tags":{"floor":3},"properties":{"desired":{"period":5}}}`, `"optionalDeviceInformation":{"vendor":"x"}`)).want(200).
		has("registrationId", "Press-1").has("deviceId", "pump-1").has("provisioningStatus", "enabled").has("allocationPolicy", "hashed").
		has("reprovisionPolicy.updateHubAssignment", true).has("reprovisionPolicy.migrateDeviceData", true).has("capabilities.iotEdge", true).
		has("iotHubs.0", hub).has("iotHubHostName", nil).has("initialTwin.tags.floor", 3).has("optionalDeviceInformation.vendor", "x").
		has("attestation.type", "symmetricKey").has("attestation.symmetricKey", nil).has("registrationState", nil).
		has("createdDateTimeUtc", "2026-03-01T08:00:00.0000000Z").has("lastUpdatedDateTimeUtc", "2026-03-01T08:00:00.0000000Z")
	if made.header.Get("ETag") != made.etag() || !strings.HasPrefix(made.etag(), `"`) {
		t.Errorf("ETag %s, etag %s: the quotes are part of the text", made.header.Get("ETag"), made.etag())
	}
	w.get("/Enrollments/PRESS-1/").want(200).has("registrationId", "Press-1").has("etag", made.etag())

	w.registered(provisioning.Individual, "press-1", "press-1")
	w.get("/enrollments/press-1").want(200).has("registrationState.status", "assigned").has("registrationState.assignedHub", hub).
		has("registrationState.deviceId", "pump-1").has("etag", made.etag()) // device traffic leaves an operator's etag alone (§4.3)

	w.delete("/enrollments/press-1", `"17"`).want(412, 412202)
	if gone := w.delete("/enrollments/press-1").want(204); gone.text != "" {
		t.Errorf("a 204 has a body: %s", gone.text)
	}
	w.get("/enrollments/press-1").want(404, 404201)
	w.delete("/enrollments/press-1").want(404, 404201)
	w.get("/registrations/press-1").want(200) // the record stays
}

func aGroupHasNothingOfOneDevice(w *world) {
	w.put("/enrollmentGroups/Line-3", `{"enrollmentGroupId":"line-3","registrationId":"x","deviceId":"x","optionalDeviceInformation":{},"attestation":{"type":"symmetricKey"}}`).
		want(200).has("enrollmentGroupId", "Line-3").has("registrationId", nil).has("deviceId", nil).has("optionalDeviceInformation", nil)
	w.get("/enrollmentgroups/LINE-3").want(200).has("enrollmentGroupId", "Line-3")
	w.get("/enrollments/line-3").want(404, 404201)
	w.delete("/enrollmentGroups/line-3").want(204)
}

func entityTagsOfAWrite(w *world) {
	t := w.t
	w.put("/enrollments/press-1", keyedBody("press-1"), "*").want(412, 412202)
	w.put("/enrollments/press-1", keyedBody("press-1"), `"5"`).want(412, 412202)
	tag := w.keyed("press-1").etag()
	bare := strings.Trim(tag, `"`)
	w.put("/enrollments/press-1", keyedBody("press-1")).want(409, 409201)
	for _, stale := range []string{`"1"`, `1`, `W/"1"`, `somebody's`, `""x""`} {
		w.put("/enrollments/press-1", keyedBody("press-1"), stale).want(412, 412202)
	}
	w.put("/enrollments/press-1", keyedBody("press-1"), tag+", "+tag).want(400, 400000)
	for _, spell := range []func(string) string{
		func(bare string) string { return `"` + bare + `"` },
		func(bare string) string { return bare },
		func(bare string) string { return `W/"` + bare + `"` },
		func(string) string { return `*` },
		func(string) string { return `"*"` },
	} {
		was := bare
		next := w.put("/enrollments/press-1", keyedBody("press-1"), spell(bare)).want(200).
			has("createdDateTimeUtc", "2026-03-01T08:00:00.0000000Z").etag()
		if bare = strings.Trim(next, `"`); bare == was {
			t.Errorf("If-Match %s: the etag stayed %s", spell(was), was)
		}
	}
}

// A client gets an entry, changes a field and puts it back: without keys, and with info
// instead of certificates.
func getChangePutKeepsSecrets(w *world) {
	f := testkit.Chain(w.t, "root > line-3 > press-1; root > line-4 > press-9; other > press-1b [cn=press-1]")
	for _, name := range []string{"root", "other"} {
		must(w.scopes[0].engine.UploadAnchor(w.t.Context(), "operator:test", name, f.Get(name).PEM(), true, provisioning.Precondition{}))
	}
	slot := func(name, spelled string) string { return `"` + name + `":{"certificate":` + spelled + `}` }
	pem := func(name string) string { return inJSON(f.Get(name).PEM()) }
	for name, c := range map[string]struct{ path, id, attestation string }{
		"symmetric keys":         {"/enrollments/press-1", `"registrationId":"press-1"`, `{"type":"symmetricKey"}`},
		"symmetric keys of ours": {"/enrollmentGroups/line-3", `"enrollmentGroupId":"line-3"`, `{"type":"symmetricKey","symmetricKey":{"primaryKey":"` + b64(32) + `","secondaryKey":"` + b64(64) + `"}}`},
		"client certificates":    {"/enrollments/press-1", `"registrationId":"press-1"`, `{"type":"x509","x509":{"clientCertificates":{` + slot("primary", pem("press-1")) + `,` + slot("secondary", pem("press-1b")) + `}}}`},
		"one client certificate": {"/enrollments/press-1", `"registrationId":"press-1"`, `{"type":"x509","x509":{"clientCertificates":{` + slot("primary", pem("press-1")) + `}}}`},
		"signing certificates":   {"/enrollmentGroups/line-3", `"enrollmentGroupId":"line-3"`, `{"type":"x509","x509":{"signingCertificates":{` + slot("primary", pem("line-3")) + `,` + slot("secondary", pem("line-4")) + `}}}`},
		"CA references":          {"/enrollmentGroups/line-3", `"enrollmentGroupId":"line-3"`, `{"type":"x509","x509":{"caReferences":{"primary":"root","secondary":"other"}}}`},
	} {
		w.run(name, func(w *world) {
			w.put(c.path, `{`+c.id+`,"attestation":`+c.attestation+`}`).want(200)
			secrets := w.post(c.path+"/attestationmechanism", "").want(200).text
			read := w.get(c.path).want(200)
			if strings.Contains(read.text, "primaryKey") || strings.Contains(read.text, `"certificate"`) {
				w.t.Fatalf("GET shows a secret or a certificate: %s", read.text)
			}
			changed := strings.Replace(read.text, `"provisioningStatus":"enabled"`, `"provisioningStatus":"disabled"`, 1)
			put := w.put(c.path, changed, read.etag()).want(200).has("provisioningStatus", "disabled")
			if again := w.post(c.path+"/attestationmechanism", "").want(200).text; again != secrets {
				w.t.Errorf("the attestation was\n%s\nand is\n%s", secrets, again)
			}
			// C#'s client sends empty keys where it was answered none.
			w.put(c.path, strings.Replace(put.text, `{"type":"symmetricKey"}`, `{"type":"symmetricKey","symmetricKey":{"primaryKey":"","secondaryKey":""},"x509":null,"tpm":null}`, 1), "*").want(200)
			if again := w.post(c.path+"/attestationmechanism", "").want(200).text; again != secrets {
				w.t.Errorf("after nulls and empty keys the attestation is\n%s", again)
			}
		})
	}
}

func oneKeyLeftOutStays(w *world) {
	t := w.t
	w.keyed("press-1")
	before := w.post("/enrollments/press-1/attestationmechanism", "").want(200)
	w.put("/enrollments/press-1", `{"registrationId":"press-1","attestation":{"type":"symmetricKey","symmetricKey":{"primaryKey":"`+b64(32)+`"}}}`, "*").want(200)
	w.post("/enrollments/press-1/attestationmechanism", "").want(200).
		has("symmetricKey.primaryKey", b64(32)).has("symmetricKey.secondaryKey", before.at("symmetricKey.secondaryKey"))
	if key := must(base64.StdEncoding.DecodeString(before.at("symmetricKey.primaryKey").(string))); len(key) != 64 {
		t.Errorf("a key made here has %d bytes, want 64", len(key))
	}
}

func certificatesInEverySpelling(w *world) {
	t := w.t
	leaf := testkit.Chain(t, "root > press-1").Leaf()
	for name, text := range map[string][]byte{
		"PEM":           leaf.PEM(),
		"base64 of PEM": []byte(base64.StdEncoding.EncodeToString(leaf.PEM())),
		"base64 of DER": []byte(base64.StdEncoding.EncodeToString(leaf.Cert.Raw)),
	} {
		info := "attestation.x509.clientCertificates.primary.info."
		a := w.put("/enrollments/press-1", `{"registrationId":"press-1","attestation":{"type":"x509","x509":{"clientCertificates":{"primary":{"certificate":`+inJSON(text)+`}}}}}`)
		if a.status != http.StatusOK {
			t.Fatalf("%s: %s", name, a.text)
		}
		a.has(info+"subjectName", "CN=press-1").has(info+"issuerName", "CN=root").has(info+"version", 3).
			has(info+"sha256Thumbprint", strings.ToUpper(verify.ThumbprintOf(leaf.Cert.Raw).String()))
		for _, field := range []string{"sha1Thumbprint", "notBeforeUtc", "notAfterUtc", "serialNumber"} {
			if a.at(info+field) == nil {
				t.Errorf("%s: the info has no %s", name, field)
			}
		}
		w.delete("/enrollments/press-1").want(204)
	}
}

// C#'s client throws at a pair of certificates without a primary one.
func aCertificateThatStandsAloneIsThePrimaryOne(w *world) {
	t := w.t
	f := testkit.Chain(t, "root > press-1; root > press-2")
	pair := "attestation.x509.clientCertificates."
	w.put("/enrollments/press-1", `{"registrationId":"press-1","attestation":{"type":"x509","x509":{"clientCertificates":{"secondary":{"certificate":`+inJSON(f.Get("press-1").PEM())+`}}}}}`).
		want(200).has(pair+"primary.info.subjectName", "CN=press-1").has(pair+"secondary", nil)

	// Another door may have left the secondary one alone.
	d := provisioning.Draft{Owner: must(individuals.owner("press-2")), Spelled: "press-2", Allocation: "hashed", Attestation: provisioning.Attestation{
		Role: provisioning.RoleClient, Slots: [2]provisioning.SlotDraft{1: {Certificate: f.Get("press-2").PEM()}},
	}}
	_, _, err := w.scopes[0].engine.Put(t.Context(), "operator:test", d, provisioning.Precondition{})
	w.check(err)
	read := w.get("/enrollments/press-2").want(200).has(pair+"primary.info.subjectName", "CN=press-2").has(pair+"secondary", nil)
	w.put("/enrollments/press-2", read.text, read.etag()).want(200).has(pair+"primary.info.subjectName", "CN=press-2")
}

func whatClientsAddToATwinIsDropped(w *world) {
	t := w.t
	for body, want := range map[string]string{
		`{"tags":{"$version":4,"$metadata":{"$lastUpdated":"2026-03-01"},"floor":3},"properties":{"desired":{"$version":4,"period":5}}}`:                      `{"properties":{"desired":{"period":5}},"tags":{"floor":3}}`,
		`{"tags":{"version":4,"count":1,"metadata":{"lastUpdated":"x"},"floor":3},"properties":{"desired":{"version":1,"count":0,"metadata":{},"period":5}}}`: `{"properties":{"desired":{"period":5}},"tags":{"floor":3}}`,
		`{"tags":{"version":4,"floor":3}}`:                   `{"tags":{"floor":3,"version":4}}`,
		`{"tags":{"version":"1.2","count":1,"metadata":{}}}`: `{"tags":{"count":1,"metadata":{},"version":"1.2"}}`,
		`{"tags":null,"properties":null}`:                    `{"properties":null,"tags":null}`,
	} {
		twin := w.put("/enrollments/press-1", keyedBody("press-1", `"initialTwin":`+body)).want(200).at("initialTwin")
		if got := string(must(json.Marshal(twin))); got != want {
			t.Errorf("the twin %s is answered %s, want %s", body, got, want)
		}
		w.delete("/enrollments/press-1").want(204)
	}
	w.put("/enrollments/press-1", keyedBody("press-1", `"initialTwin":null`)).want(200).has("initialTwin", nil)
}

func hubsOfAnEnrollment(w *world) {
	for body, want := range map[string]string{
		`"iotHubHostName":"` + hub + `"`:                                  "static",
		`"iotHubHostName":"` + hub + `","allocationPolicy":"static"`:      "static",
		`"iotHubs":["` + hub + `"],"allocationPolicy":"static"`:           "static",
		`"iotHubHostName":"` + hub + `","allocationPolicy":"hashed"`:      "hashed", // looked at by static allocation alone
		`"iotHubHostName":"x","allocationPolicy":"hashed","iotHubs":[]`:   "hashed",
		`"allocationPolicy":"hashed","reprovisionPolicy":{"x":1}`:         "hashed",
		`"iotHubs":["` + hub + `"],"iotHubHostName":"` + hub + `"`:        "static",
		`"allocationPolicy":"hashed","customAllocationDefinition":null`:   "hashed",
		`"allocationPolicy":"hashed","iotHubs":["` + hub + `"],"etag":5.`: "",
	} {
		a := w.put("/enrollments/press-1", keyedBody("press-1", body))
		if want == "" {
			a.want(400, 400000)
			continue
		}
		a.want(200).has("allocationPolicy", want)
		if want == "static" {
			a.has("iotHubHostName", hub).has("iotHubs.0", hub)
		}
		w.put("/enrollments/press-1", a.text, a.etag()).want(200).has("allocationPolicy", want)
		w.delete("/enrollments/press-1").want(204)
	}
}

func allocationByPlaceAndByWebhook(w *world) {
	w.put("/enrollments/press-1", keyedBody("press-1", `"allocationPolicy":"geoLatency"`)).want(200).has("allocationPolicy", "geoLatency")
	const webhook = `"customAllocationDefinition":{"webhookUrl":"https://alloc.example.net/pick?code=a-key","apiVersion":"2021-10-01"}`
	w.put("/enrollmentGroups/line-3", `{"enrollmentGroupId":"line-3","attestation":{"type":"symmetricKey"},"allocationPolicy":"custom"}`).want(400, 400000)
	read := w.put("/enrollmentGroups/line-3", `{"enrollmentGroupId":"line-3","attestation":{"type":"symmetricKey"},"allocationPolicy":"custom",`+webhook+`}`).want(200)
	w.put("/enrollmentGroups/line-3", read.text, read.etag()).want(200).has("allocationPolicy", "custom").
		has("customAllocationDefinition.webhookUrl", "https://alloc.example.net/pick?code=a-key").has("customAllocationDefinition.apiVersion", "2021-10-01")
	w.post("/enrollmentGroups/query", `{"query":"SELECT * FROM enrollmentGroups"}`).want(200).has("0.customAllocationDefinition.webhookUrl", "https://alloc.example.net/pick?code=a-key")
}

func readingSecretsIsOnRecord(w *world) {
	t := w.t
	w.keyed("press-1")
	w.post("/enrollments/press-1/attestationmechanism", "").want(200)
	ledger := must(w.scopes[0].engine.Ledger(t.Context(), provisioning.LedgerFilter{Limit: 1}))
	if got := ledger[0]; got.Actor != "policy:service/provisioningserviceowner" || got.Subject != "enrollment:press-1" {
		t.Errorf("the newest entry of the ledger is %+v", got)
	}
}

func registrationRecords(w *world) {
	w.get("/registrations/press-1").want(404, 404202)
	w.delete("/registrations/press-1").want(404, 404202)
	w.keyed("Press-1")
	w.registered(provisioning.Individual, "press-1", "press-1")
	a := w.get("/registrations/PRESS-1").want(200).has("registrationId", "press-1").has("status", "assigned").has("assignedHub", hub).
		has("substatus", "initialAssignment").has("deviceId", "press-1").has("x509", nil).has("symmetricKey", nil)
	w.delete("/registrations/press-1", `"17"`).want(412, 412202)
	w.delete("/registrations/press-1", a.etag()).want(204)
	w.get("/registrations/press-1").want(404, 404202)
	w.get("/enrollments/press-1").want(200).has("registrationState", nil)
	d, err := w.scopes[0].engine.HubDevice(w.t.Context(), hub, must(verify.ParseRegistrationID("press-1")), "")
	if err != nil || !d.Enabled {
		w.t.Errorf("the device went with its record (%v)", err)
	}
}

// b64 is a key of n bytes in base64.
func b64(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }

package admin

import (
	"crypto/x509"
	"net/http"
	"testing"

	"github.com/passmuster/muster/internal/testkit"
)

func TestSlots(t *testing.T) {
	t.Parallel()
	w := linked(t)
	w.run("a certificate is staged, promoted and retired", slotsOfAnEnrollment)
	w.run("a group shows who hangs on each slot", slotsOfAGroup)
	w.run("a key has a state and no devices", slotsOfKeys)
}

func slotsOfAnEnrollment(w *world) {
	first := testkit.Chain(w.t, "root > dev-1", testkit.Edit("dev-1", endsEarly)).Get("dev-1")
	next := testkit.Chain(w.t, "root > dev-1").Get("dev-1")
	made := w.put("/enrollments/dev-1", `{"attestation":{"type":"x509","x509":{"clientCertificates":{"primary":{"certificate":`+quoted(first.PEM())+`}}}}}`).want(http.StatusCreated).
		has("slots.0.slot", "primary").has("slots.0.state", "active")
	body := `{"certificate":` + quoted(next.PEM()) + `}`
	w.post("/enrollments/dev-1/stage", body, `"AAAA"`).want(http.StatusPreconditionFailed, "etag-mismatch")
	w.post("/enrollments/dev-1/stage", `{"certificate":`+quoted(testkit.Chain(w.t, "root > dev-2").Get("dev-2").PEM())+`}`).want(http.StatusBadRequest, "client-certificate-name").has("errors.0.pointer", "/certificate")
	w.post("/enrollments/dev-1/promote", "").want(http.StatusConflict, "not-staged")
	staged := w.post("/enrollments/dev-1/stage", body, made.etag()).want(http.StatusOK).has("slots.1.slot", "secondary").has("slots.1.state", "staged").has("slots.1.seenAt", nil)
	w.post("/enrollments/dev-1/stage", body, made.etag()).want(http.StatusPreconditionFailed, "etag-mismatch")
	w.post("/enrollments/dev-1/stage", body).want(http.StatusConflict, "already-staged")
	w.post("/enrollments/dev-1/promote", "", staged.etag()).want(http.StatusOK).has("slots.0.state", "retiring").has("slots.1.state", "active")
	w.get("/enrollments/dev-1/slots").want(http.StatusOK).has("items.0.devices", 0).has("items.0.subjectName", "CN=dev-1").has("items.1.state", "active")
	w.post("/enrollments/dev-1/retire", "").want(http.StatusConflict, "successor-not-seen")
	w.post("/enrollments/dev-1/retire", `{"slot":"secondary","force":true}`).want(http.StatusOK).has("slots.0.state", "active").has("slots.1", nil)
	w.post("/enrollments/dev-1/retire", `{"slot":"primary","force":true}`).want(http.StatusConflict, "last-credential")
	w.post("/enrollments/gone/retire", "").want(http.StatusNotFound)
	w.get("/audit?subject=enrollment:dev-1&action=roll.retired").has("items.0.actor", "operator:admin").has("items.1", nil)
	// What is answered can be put back.
	w.rewrite("/enrollments/dev-1", func(e map[string]any) { e["deviceId"] = "pump-1" }).want(http.StatusOK)
}

func slotsOfAGroup(w *world) {
	f := testkit.Chain(w.t, "root > mid-1 > a; root > mid-2 > b", testkit.Edit("mid-1", endsEarly))
	w.post("/groups/line-3/stage", `{"certificate":`+quoted(f.Get("mid-2").PEM())+`}`).want(http.StatusNotFound)
	w.put("/groups/line-3", `{"attestation":{"type":"x509","x509":{"signingCertificates":{"primary":{"certificate":`+quoted(f.Get("mid-1").PEM())+`}}}}}`).want(http.StatusCreated)
	w.post("/groups/line-3/stage", `{"certificate":`+quoted(f.Get("mid-2").PEM())+`}`).want(http.StatusConflict, "chain-not-trusted")
	w.post("/groups/line-3/stage", `{"caReference":"root"}`).want(http.StatusBadRequest, "attestation-mismatch")
	w.get("/groups/line-3/slots").want(http.StatusOK).has("items.0.devices", 0).has("items.0.lockedOut", 0).has("items.1", nil)
	w.get("/groups/line-3/stragglers").want(http.StatusConflict, "nothing-retiring")
	w.get("/groups/line-3/stragglers?slot=secondary").want(http.StatusConflict, "slot-empty")
	w.get("/groups/line-3/stragglers?slot=primary").want(http.StatusOK).has("items.0", nil)
	w.get("/groups/line-3/stragglers?slot=primary&cursor=nonsense").want(http.StatusBadRequest, "cursor")
}

func slotsOfKeys(w *world) {
	w.put("/groups/keyed", `{"attestation":{"type":"symmetricKey"}}`).want(http.StatusCreated).has("slots.0.state", "active").has("slots.1.state", "staged")
	w.get("/groups/keyed/slots").want(http.StatusOK).has("items.0.devices", nil).has("items.0.notAfterUtc", nil)
	w.post("/groups/keyed/stage", `{"caReference":"root"}`).want(http.StatusConflict, "attestation-mismatch")
	w.post("/groups/keyed/retire", `{"slot":"primary"}`).want(http.StatusConflict, "attestation-mismatch")
}

// endsEarly makes a certificate end before the others of a test.
func endsEarly(c *x509.Certificate) { c.NotAfter = testkit.Now().AddDate(0, 1, 0) }

package api_test

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// A device that did not ask fetches what was made for it, by the certificate it has or by
// its key; nobody else does.
func TestADeviceFetchesTheCertificateThatWaitsForIt(t *testing.T) {
	w := newWorld(t)
	p := must(w.engine.Profile(t.Context(), "default"))
	p.Renewal.Retain = true
	must(w.engine.PutProfile(t.Context(), operator, p.Profile, provisioning.Precondition{Any: true}))
	key := newKey()
	registered := w.do(w.client(nil), w.devices, dps("PUT", "pump-1", "/register"+preview, fmt.Sprintf(`{"registrationId":"pump-1","csr":%q}`, csrBase64(t, key, "pump-1"))).with("Authorization", w.sas("pump-1")))
	first := read[operation](t, registered).State.Chain
	device := w.client(credential(t, key, first...))
	fetch := dps("GET", "pump-1", "/certificates/pending"+stable, "")
	want(t, w.do(device, w.devices, fetch), http.StatusNotFound)

	w.advance(time.Hour)
	made := must(w.engine.Resign(t.Context(), operator, must(verify.ParseRegistrationID("pump-1")), ca.Superseded))
	type body struct {
		RegistrationID, Thumbprint string
		NotAfter                   time.Time
		Chain                      [][]byte `json:"issuedCertificateChain"`
	}
	for name, a := range map[string]answer{
		"by its certificate": w.do(device, w.devices, fetch),
		"by its key":         w.do(w.client(nil), w.devices, fetch.with("Authorization", w.sas("pump-1"))),
		"spelled otherwise":  w.do(device, w.devices, dps("GET", "PUMP-1", "/Certificates/Pending/"+stable, "")),
	} {
		want(t, a, http.StatusOK)
		got := read[body](t, a)
		if len(got.Chain) != 3 || !bytes.Equal(got.Chain[0], made.DER) || got.Thumbprint != made.Thumbprint.String() || !got.NotAfter.Equal(made.NotAfter) {
			t.Errorf("%s: %s", name, a.body)
		}
	}
	text := w.do(device, w.devices, fetch.with("Accept", "application/pem-certificate-chain"))
	want(t, text, http.StatusOK)
	if block, rest := pem.Decode([]byte(text.body)); !bytes.Equal(block.Bytes, made.DER) || bytes.Count(rest, []byte("BEGIN")) != 1 {
		t.Errorf("PEM: %s", text.body)
	}

	for name, a := range map[string]answer{
		"without proof":            w.do(w.client(nil), w.devices, fetch),
		"with another's":           w.do(w.client(w.deviceCertificate("dev-1")), w.devices, fetch),
		"with another's key":       w.do(w.client(nil), w.devices, fetch.with("Authorization", w.sas("pump-2"))),
		"of another, with its own": w.do(device, w.devices, dps("GET", "dev-1", "/certificates/pending"+stable, "")),
	} {
		if a.status != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	want(t, w.do(device, w.devices, dps("GET", "pump-1", "/certificates/pending", "")), http.StatusBadRequest) // no api-version

	use := w.client(credential(t, key, made.DER))
	want(t, w.do(use, w.devices, dps("PUT", "pump-1", "/register"+stable, `{"registrationId":"pump-1"}`)), http.StatusAccepted)
	want(t, w.do(use, w.devices, fetch), http.StatusNotFound) // it is in use
	w.enable(provisioning.Group, "sas-line", false)
	want(t, w.do(use, w.devices, fetch), http.StatusUnauthorized)
}

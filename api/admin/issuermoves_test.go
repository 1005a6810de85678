package admin

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/passmuster/muster/ca"
)

// issuers are the ids of the root and the issuing CA that a world begins with.
func (w *world) issuers() (root, issuing string) {
	w.t.Helper()
	list := w.get("/issuers").want(http.StatusOK)
	root, issuing = list.at("items.0.id").(string), list.at("items.1.id").(string)
	if list.at("items.0.role") != "root" {
		return issuing, root
	}
	return root, issuing
}

func TestAnIssuerRollsOver(t *testing.T) {
	t.Parallel()
	w := linked(t)
	w.put("/groups/sas", `{"attestation":{"type":"symmetricKey"},"credentialPolicyName":"default"}`).want(http.StatusCreated)
	w.register("sas", "dev-1")
	root, one := w.issuers()
	made := w.post("/issuers", `{"name":"Issuing 2","parent":"`+root+`","lifetime":"P365D"}`).want(http.StatusCreated).
		has("state", "prepared").has("role", "issuing").has("keyHere", true).has("parent", root).has("profile", nil)
	two := made.at("id").(string)
	if got := made.header.Get("Location"); got != "/api/v1/issuers/"+two {
		t.Errorf("Location %q", got)
	}
	w.post("/issuers", `{"name":"Issuing 3","parent":"`+root+`"}`).want(http.StatusConflict, "issuer-prepared")
	w.post("/issuers", `{"name":"Issuing 3","parent":"0000000000000000"}`).want(http.StatusNotFound, "no-issuer")
	w.post("/issuers", `{"name":"","parent":"`+root+`"}`).want(http.StatusBadRequest, "issuer-name").has("errors.0.pointer", "/name")
	w.post("/issuers", `{"name":"x","parent":"`+root+`","profile":"none"}`).want(http.StatusBadRequest, "profile-unknown").has("errors.0.pointer", "/profile")
	w.post("/upstreams/factory/adopt", `{"profile":"none"}`).want(http.StatusBadRequest, "profile-unknown").has("errors.0.pointer", "/profile")
	w.post("/issuers", `{"name":"x","parent":"`+root+`","lifetime":"5y"}`).want(http.StatusBadRequest, "duration").has("errors.0.pointer", "/lifetime")

	w.post("/issuers/"+two+"/promote", `{"overlap":"PT1H"}`).want(http.StatusConflict, "issuer-in-use")
	w.post("/issuers/"+one+"/promote", ``).want(http.StatusConflict, "issuer-not-prepared")
	w.revoked.Store(0)
	w.post("/issuers/"+two+"/promote", ``).want(http.StatusOK).has("state", "active")
	if w.revoked.Load() != 1 {
		t.Error("nobody was told")
	}
	if w.get("/issuers/"+one).want(http.StatusOK).has("state", "retiring").at("retireAt") == nil {
		t.Error("it does not say when it retires")
	}
	w.post("/issuers/"+one+"/retire", ``).want(http.StatusConflict, "issuer-in-use")
	w.post("/issuers/"+one+"/retire", `{"force":true}`).want(http.StatusOK).has("state", "retired").has("retireAt", nil)
	w.post("/issuers/"+two+"/retire", `{"force":true}`).want(http.StatusConflict, "issuer-active")

	w.post("/issuers/"+two+"/revoke", `{"reason":"because"}`).want(http.StatusBadRequest, "reason-unknown").has("errors.0.pointer", "/reason")
	w.post("/issuers/"+two+"/revoke", `{"reason":"cACompromise"}`).want(http.StatusOK).has("issuer.state", "revoked").has("onParentCRL", true)
	w.post("/issuers/"+two+"/revoke", `{"reason":"cACompromise"}`).want(http.StatusConflict, "issuer-ended")
	w.post("/issuers", `{"name":"Issuing 3","parent":"`+root+`"}`).want(http.StatusCreated).has("state", "active")
	w.get("/audit?subject=issuer:"+two+"&action=issuer.promoted").want(http.StatusOK).has("items.0.actor", "operator:admin")
	w.get("/audit?subject=issuer:"+two+"&action=issuer.revoked").want(http.StatusOK).has("items.0.body.reason", "cACompromise")
}

func TestACASignedElsewhereIsImported(t *testing.T) {
	t.Parallel()
	w := linked(t)
	root, _ := w.issuers()
	asked := w.post("/issuer-requests", `{"name":"Bought CA","keyType":"EC-P384"}`).want(http.StatusCreated).has("name", "Bought CA")
	csr := asked.at("csr").(string)
	block, _ := pem.Decode([]byte(csr))
	if request, err := x509.ParseCertificateRequest(block.Bytes); err != nil || request.CheckSignature() != nil {
		t.Fatalf("the request: %v", err)
	}
	w.get("/issuer-requests").want(http.StatusOK).has("items.0.id", asked.at("id")).has("items.1", nil)
	w.post("/issuer-requests", `{"name":"x","profile":"none"}`).want(http.StatusBadRequest, "profile-unknown")

	w.post("/issuers/"+root+"/sign", `{"csr":"none"}`).want(http.StatusBadRequest, "csr").has("errors.0.pointer", "/csr")
	brief := w.post("/issuers/"+root+"/sign", `{"csr":`+quoted([]byte(csr))+`,"lifetime":"P30D"}`).want(http.StatusOK)
	signed := w.post("/issuers/"+root+"/sign", `{"csr":`+quoted([]byte(csr))+`}`).want(http.StatusOK)
	w.get("/certificates/"+signed.at("serial").(string)).want(http.StatusOK).has("issuer", root)

	bring := func(text string) string { return `{"certificates":` + quoted([]byte(text)) + `}` }
	w.post("/issuers/import", bring("none")).want(http.StatusBadRequest).has("errors.0.pointer", "/certificates")
	w.post("/issuers/import", bring(brief.at("certificate").(string))).want(http.StatusBadRequest, "issuer-ends-too-soon")
	w.post("/issuers/import", bring(signed.at("certificate").(string))).want(http.StatusCreated).has("id", asked.at("id")).has("state", "prepared").has("keyHere", true)
	w.post("/issuers/import", bring(signed.at("certificate").(string))).want(http.StatusConflict, "issuer-exists")
	w.get("/issuer-requests").want(http.StatusOK).has("items.0", nil)

	given := w.post("/issuer-requests", `{"name":"Never"}`).want(http.StatusCreated).at("id").(string)
	w.delete("/issuer-requests/" + given).want(http.StatusNoContent)
	w.delete("/issuer-requests/"+given).want(http.StatusNotFound, "issuer-request-not-found")
	if strings.Contains(w.get("/audit").want(http.StatusOK).text, "PRIVATE KEY") {
		t.Error("a key in the ledger")
	}
}

func TestACrossCertificateIsShownWithItsRoot(t *testing.T) {
	t.Parallel()
	w := linked(t)
	root, issuing := w.issuers()
	w.post("/issuers/"+issuing+"/cross-sign", `{"by":"`+root+`"}`).want(http.StatusConflict, "issuer-not-root")
	next, err := w.authority.CreateRoot(t.Context(), "operator:test", ca.RootRequest{Name: "Root 2"})
	check(t, err)
	w.post("/issuers/"+string(next.ID)+"/cross-sign", `{"by":"`+root+`"}`).want(http.StatusOK).has("crossCertificates.0.signedBy", root).has("crossCertificates.1", nil)
	w.post("/issuers/"+string(next.ID)+"/cross-sign", `{"by":"`+root+`"}`).want(http.StatusConflict, "cross-certificate-exists")
	w.get("/issuers/"+root).want(http.StatusOK).has("crossCertificates", nil)
}

func TestOnlyTheCRLOfARootWhoseKeyIsElsewhereIsBrought(t *testing.T) {
	t.Parallel()
	w := linked(t)
	root, issuing := w.issuers()
	if err := w.authority.SweepCRLs(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := w.authority.PublishedCRL(t.Context(), ca.IssuerID(root), 0)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{"crl": string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list.DER}))})
	if err != nil {
		t.Fatal(err)
	}
	w.post("/issuers/"+root+"/crl", string(text)).want(http.StatusConflict, "issuer-key-here")
	w.post("/issuers/"+issuing+"/crl", string(text)).want(http.StatusConflict, "issuer-not-root")
	w.post("/issuers/0000000000000000/crl", string(text)).want(http.StatusNotFound, "no-issuer")
	for _, bad := range []string{`{"crl":""}`, `{"crl":"-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----"}`, `{"crl":"x"}`} {
		w.post("/issuers/"+root+"/crl", bad).want(http.StatusBadRequest, "crl").has("errors.0.pointer", "/crl")
	}
}

func TestAnIssuersCRLIsNotOverdueForAShardThatHasEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put("/profiles/default", `{"lifetime":"P1D"}`).want(http.StatusCreated)
	w.put("/hubs/hub-1", `{}`).want(http.StatusCreated)
	w.put("/groups/sas", `{"attestation":{"type":"symmetricKey"},"credentialPolicyName":"default"}`).want(http.StatusCreated)
	w.register("sas", "dev-1")
	_, issuing := w.issuers()
	for range 40 {
		if err := w.authority.SweepCRLs(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.advance(12 * time.Hour)
	}
	for r := range w.tokens { // those of before have expired
		text, _, err := w.engine.CreateToken(t.Context(), "operator:test", string(r)+"-late", r.Scopes(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		w.tokens[r] = text
	}
	next := w.get("/issuers/" + issuing).want(http.StatusOK).at("crl.nextUpdate").(string)
	if at, err := time.Parse(time.RFC3339, next); err != nil || at.Before(w.now().Add(-time.Hour)) {
		t.Errorf("next update %s at %s: %v", next, w.now(), err)
	}
}

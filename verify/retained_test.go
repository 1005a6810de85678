package verify_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
	"github.com/passmuster/muster/verify"
)

func TestARequestOnRecordSpeaksForTheCertificateThatItCameFrom(t *testing.T) {
	t.Parallel()
	f := testkit.Chain(t, "root > d1; root > d2")
	id, err := verify.ParseRegistrationID("d1")
	if err != nil {
		t.Fatal(err)
	}
	request := func(e *testkit.Entity, cn string) *x509.CertificateRequest {
		csr, err := x509.ParseCertificateRequest(testkit.CSR(t, e.Key, cn))
		if err != nil {
			t.Fatal(err)
		}
		return csr
	}
	d1 := f.Get("d1")
	forged := request(d1, "d1")
	forged.Signature = append([]byte(nil), request(d1, "D1").Signature...)
	end := d1.Cert.NotAfter
	for name, tt := range map[string]struct {
		leaf  *testkit.Entity
		csr   *x509.CertificateRequest
		at    time.Time
		grace time.Duration
		rule  string
	}{
		"its own":                         {d1, request(d1, "d1"), end, 0, ""},
		"spelled in another case":         {d1, request(d1, "D1"), end, 0, ""},
		"a second after the end":          {d1, request(d1, "d1"), end.Add(time.Second), 0, "leaf-expired"},
		"within the grace":                {d1, request(d1, "d1"), end.Add(time.Hour), time.Hour, ""},
		"after the grace":                 {d1, request(d1, "d1"), end.Add(time.Hour + time.Second), time.Hour, "leaf-expired"},
		"for another key":                 {d1, request(f.Get("d2"), "d1"), end, 0, "retained-key-differs"},
		"for another name":                {d1, request(d1, "d2"), end, 0, "retained-names-other-device"},
		"signed for another text":         {d1, forged, end, 0, "retained-signature"},
		"with another device's leaf":      {f.Get("d2"), request(f.Get("d2"), "d1"), end, 0, "leaf-names-other-device"},
		"before the certificate is valid": {d1, request(d1, "d1"), d1.Cert.NotBefore.Add(-time.Hour), time.Hour, "leaf-not-yet-valid"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := verify.Retained(verify.RetainedEvidence{ID: id, Leaf: verify.NewLink(tt.leaf.Cert), CSR: tt.csr, Grace: tt.grace}, tt.at)
			if fault.RuleOf(err) != tt.rule || (err == nil) != (tt.rule == "") {
				t.Fatalf("got %v, want rule %q", err, tt.rule)
			}
			if err != nil {
				if fault.KindOf(err) != fault.Unauthenticated || !got.IsZero() {
					t.Errorf("a refusal of kind %v with identity %v", fault.KindOf(err), got)
				}
				return
			}
			if got.ID() != id || got.Mechanism() != verify.MechanismRetained || len(got.Path()) != 1 || got.Path()[0].Thumbprint != verify.ThumbprintOf(tt.leaf.Cert.Raw) {
				t.Errorf("identity %+v", got)
			}
		})
	}
}

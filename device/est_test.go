package device

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smallstep/pkcs7"
)

func TestESTOverTLS(t *testing.T) {
	service := newFakeService(t)
	ctx := testContext(t)

	c := newClient(t, service.listen(t, service.symmetricCredential()))
	if certs, err := c.CACerts(ctx); err != nil || len(certs) != 2 {
		t.Fatalf("cacerts: %d certificates, %v", len(certs), err)
	}
	key := testKey(t)
	csr, err := NewCSR(key, testID)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := c.SimpleEnroll(ctx, csr)
	if err != nil || service.lastProof != "basic" {
		t.Fatalf("simpleenroll with HTTP basic (%s): %v", service.lastProof, err)
	}
	if len(chain) != 3 || !certifies(chain[0], key) || !chain[1].Equal(service.issuer.issuing) || !chain[2].Equal(service.issuer.root) {
		t.Errorf("the loose certificates were not put into order: %d", len(chain))
	}

	own := newClient(t, service.listen(t, Stored{Key: key, Chain: chain}.Credential()))
	if next, err := own.SimpleReenroll(ctx, newCSR(t, testID)); err != nil || service.lastProof != "issuer issuing" || next[0].Equal(chain[0]) {
		t.Errorf("simplereenroll with the certificate (%s): %v", service.lastProof, err)
	}

	typed := newClient(t, service.listen(t, Credential{Code: testCode}))
	if _, err := typed.SimpleEnroll(ctx, newCSR(t, testID)); err != nil || service.lastProof != "code" {
		t.Errorf("simpleenroll with a one-time code (%s): %v", service.lastProof, err)
	}

	factory := newClient(t, service.listen(t, service.factoryCredential(t)))
	if _, err := factory.SimpleEnroll(ctx, newCSR(t, testID)); err != nil || service.lastProof != "factory issuing" {
		t.Errorf("simpleenroll with the factory's certificate (%s): %v", service.lastProof, err)
	}
}

func TestESTWithoutAnIDScopeHasNoLabel(t *testing.T) {
	service := newFakeService(t)
	config := service.inMemory(Credential{})
	config.IDScope = ""
	_, err := newClient(t, config).CACerts(t.Context())
	if !IsRefused(err, http.StatusNotFound) || service.calls[0] != "GET /.well-known/est/cacerts" {
		t.Errorf("%v, %v", service.calls, err)
	}
}

func TestESTWaitsOutA202(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := newFakeService(t)
		left := 3
		service.before = func(w http.ResponseWriter, _ *http.Request) bool {
			if left == 0 {
				return false
			}
			left--
			w.Header().Set("Retry-After", "30")
			w.WriteHeader(http.StatusAccepted)
			return true
		}
		c := newClient(t, service.inMemory(service.symmetricCredential()))
		start := time.Now()
		if _, err := c.SimpleEnroll(t.Context(), newCSR(t, testID)); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(start); waited != 90*time.Second {
			t.Errorf("waited %s", waited)
		}
	})
}

func TestESTRefusals(t *testing.T) {
	service := newFakeService(t)
	c := newClient(t, service.inMemory(Credential{}))
	_, err := c.SimpleEnroll(t.Context(), newCSR(t, testID))
	var refused *Refused
	if !errors.As(err, &refused) || refused.HTTPStatus != 401 || refused.Message != "not?[31m enrolled" {
		t.Errorf("a text error: %+v", err)
	}
	if _, err := c.SimpleEnroll(t.Context(), []byte("no csr")); err == nil || len(service.calls) != 1 {
		t.Errorf("a broken request was sent: %v", service.calls)
	}
}

func TestESTRefusesAnswersThatBreakTheProtocol(t *testing.T) {
	service := newFakeService(t)
	leaf := service.issuer.leaf(t, testID, testKey(t).Public(), time.Now(), time.Now().Add(time.Hour))
	der, err := pkcs7.DegenerateCertificate(leaf.Raw)
	if err != nil {
		t.Fatal(err)
	}
	empty, err := pkcs7.DegenerateCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	good := base64.StdEncoding.EncodeToString(der)
	const media = "application/pkcs7-mime; smime-type=certs-only"
	for _, tc := range []struct{ name, media, body string }{
		{"a web page", "text/html", good},
		{"no content type", "", good},
		{"a server-side key", "application/pkcs7-mime; smime-type=server-generated-key", good},
		{"bytes that are not base64", media, "%%%"},
		{"base64 that is not PKCS#7", media, "YWJj"},
		{"PKCS#7 cut in half", media, base64.StdEncoding.EncodeToString(der[:len(der)/2])},
		{"PKCS#7 without certificates", media, base64.StdEncoding.EncodeToString(empty)},
		{"a certificate for another key", media, good},
		{"an empty body", media, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			service.before = answering(http.StatusOK, http.Header{"Content-Type": {tc.media}}, tc.body)
			_, err := newClient(t, service.inMemory(service.symmetricCredential())).SimpleEnroll(t.Context(), newCSR(t, testID))
			if !errors.Is(err, ErrBadAnswer) {
				t.Errorf("%v", err)
			}
		})
	}
}

func FuzzESTCertificates(f *testing.F) {
	service := newFakeService(f)
	der, err := pkcs7.DegenerateCertificate(service.issuer.root.Raw)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(base64.StdEncoding.EncodeToString(der)))
	f.Add([]byte("MAA=\r\n"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, body []byte) {
		certs, err := certsOnly(answer{header: http.Header{"Content-Type": {"application/pkcs7-mime"}}, body: body})
		if err == nil && len(certs) == 0 {
			t.Error("no error and no certificate")
		}
		if err != nil && !errors.Is(err, ErrBadAnswer) {
			t.Errorf("%v", err)
		}
	})
}

func TestExtendStopsAtARootAndAtWhatIsUnknown(t *testing.T) {
	a, b := newAuthority(t, "same name", time.Now()), newAuthority(t, "same name", time.Now())
	leaf := a.leaf(t, testID, testKey(t).Public(), time.Now(), time.Now().Add(time.Hour))
	pool := []*x509.Certificate{b.root, b.issuing, a.root, a.issuing}
	chain := extend([]*x509.Certificate{leaf}, pool)
	if len(chain) != 3 || !chain[1].Equal(a.issuing) || !chain[2].Equal(a.root) {
		t.Errorf("chain of %d; who signed counts, not the name", len(chain))
	}
	if chain := extend([]*x509.Certificate{leaf}, pool[:2]); len(chain) != 1 {
		t.Errorf("a stranger of the same name was taken for the issuer: %d", len(chain))
	}
}

package est

import (
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/internal/testkit"
)

func FuzzBody(f *testing.F) {
	der := testkit.CSR(f, testkit.NewKey(f, "p256"), "dev-1")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	f.Add([]byte(base64.StdEncoding.EncodeToString(der)))
	f.Add([]byte(base64.StdEncoding.EncodeToString(der[:48]) + "\r\n" + base64.StdEncoding.EncodeToString(der[48:])))
	f.Add(block)
	f.Add(append([]byte("Certificate Request:\n    Data:\n"), block...))
	f.Add(append(block, block...))
	f.Add(der)
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n-----BEGIN CERTIFICATE REQUEST-----\n"))
	f.Add([]byte(" \r\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := decodeCSR(body)
		switch {
		case err != nil && !fault.Is(err, fault.Malformed):
			t.Errorf("error %v is not the caller's", err)
		case err == nil && len(got) > len(body):
			t.Errorf("%d octets became %d", len(body), len(got))
		}
	})
}

func TestTextBeforeAPEMBlockIsPassedOver(t *testing.T) {
	der := []byte{0x30, 0}
	text := "Certificate Request:\n" + string(pem.EncodeToMemory(&pem.Block{Type: "NEW CERTIFICATE REQUEST", Bytes: der})) + "\n"
	got, err := decodeCSR([]byte(text))
	if err != nil || string(got) != string(der) {
		t.Errorf("%x, %v", got, err)
	}
}

func TestEveryKindHasAStatus(t *testing.T) {
	statuses := map[fault.Kind]int{
		fault.Internal: 500, fault.Malformed: 400, fault.Unauthenticated: 401, fault.Forbidden: 403, fault.Disallowed: 403,
		fault.NotFound: 404, fault.Conflict: 409, fault.PreconditionFailed: 412, fault.PreconditionRequired: 412,
		fault.Throttled: 429, fault.TooLarge: 413, fault.Unavailable: 503,
	}
	for kind := fault.Internal; kind.String() != "internal" || kind == fault.Internal; kind++ {
		w := httptest.NewRecorder()
		fail(w, httptest.NewRequest(http.MethodGet, "/", nil), fault.New(kind, "x", "The secret reason."))
		if w.Code != statuses[kind] {
			t.Errorf("%s is answered %d, want %d", kind, w.Code, statuses[kind])
		}
		told := strings.Contains(w.Body.String(), "secret")
		if hidden := kind == fault.Internal || kind == fault.Unauthenticated; told == hidden {
			t.Errorf("%s is answered %q", kind, w.Body)
		}
		if asked := w.Header().Get("Retry-After") != ""; asked != (w.Code == 429 || w.Code == 503) {
			t.Errorf("%s: Retry-After %q", kind, w.Header().Get("Retry-After"))
		}
	}
}

package dps

import (
	"crypto/x509"
	"math/big"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

func TestAnOperationThatIsNotFinishedSaysWhereToAsk(t *testing.T) {
	w := httptest.NewRecorder()
	c, _ := gin.CreateTestContext(w)
	c.Request = httptest.NewRequest(http.MethodGet, "/?api-version=2021-06-01", nil)
	k := call{engine: provisioning.New(provisioning.Config{IDScope: "0neA"}), version: "2021-06-01", spelled: "Dev-1"}
	op := provisioning.Operation{Registration: provisioning.Registration{State: provisioning.Assigning, Operation: provisioning.OperationRecord{ID: "abc"}}}
	if err := k.replyOperation(c, http.StatusOK, op); err != nil {
		t.Fatal(err)
	}
	if w.Code != http.StatusAccepted || w.Header().Get("Retry-After") != "1" ||
		w.Header().Get("Location") != "/0neA/registrations/Dev-1/operations/abc?api-version=2021-06-01" ||
		w.Body.String() != `{"operationId":"abc","status":"assigning"}` {
		t.Errorf("answer %d %v %s", w.Code, w.Header(), w.Body)
	}
}

func TestSerialsAreWholeOctetsOfHex(t *testing.T) {
	for number, want := range map[int64]string{0x0a1b: "0A1B", 5: "05", 0xff00: "FF00"} {
		if got := serial(&x509.Certificate{SerialNumber: big.NewInt(number)}); got != want {
			t.Errorf("%d is written %q, want %q", number, got, want)
		}
	}
}

func TestEveryKindHasACodeOfItsStatus(t *testing.T) {
	statuses := map[fault.Kind]int{
		fault.Internal: 500, fault.Malformed: 400, fault.Unauthenticated: 401, fault.Forbidden: 401, fault.Disallowed: 400,
		fault.NotFound: 404, fault.Conflict: 409, fault.PreconditionFailed: 412, fault.PreconditionRequired: 412,
		fault.Throttled: 429, fault.TooLarge: 413, fault.Unavailable: 503,
	}
	for kind := fault.Internal; kind.String() != "internal" || kind == fault.Internal; kind++ {
		if got := codeOf(fault.New(kind, "x", "X.")) / 1000; got != statuses[kind] {
			t.Errorf("%s is answered %d, want %d", kind, got, statuses[kind])
		}
	}
}

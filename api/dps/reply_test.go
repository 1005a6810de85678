package dps

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/provisioning"
)

func TestAnOperationThatIsNotFinishedSaysWhereToAsk(t *testing.T) {
	w := httptest.NewRecorder()
	c, _ := gin.CreateTestContext(w)
	c.Request = httptest.NewRequest(http.MethodGet, "/?api-version=2021-06-01", nil)
	k := Call{engine: provisioning.New(provisioning.Config{IDScope: "0neA"}), version: "2021-06-01", spelled: "Dev-1"}
	op := provisioning.Operation{Registration: provisioning.Registration{State: provisioning.Assigning, Operation: provisioning.OperationRecord{ID: "abc"}}}
	a, err := k.operation(http.StatusOK, op)
	if err := reply(c, k, a, err); err != nil {
		t.Fatal(err)
	}
	if w.Code != http.StatusAccepted || w.Header().Get("Retry-After") != "1" ||
		w.Header().Get("Location") != "/0neA/registrations/Dev-1/operations/abc?api-version=2021-06-01" ||
		w.Body.String() != `{"operationId":"abc","status":"assigning"}` {
		t.Errorf("answer %d %v %s", w.Code, w.Header(), w.Body)
	}
}

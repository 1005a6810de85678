package dps

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/provisioning"
)

// pollAfter is the Retry-After of an operation that is not finished, in seconds.
const pollAfter = "1"

type operationBody struct {
	OperationID string                   `json:"operationId"`
	Status      string                   `json:"status"`
	State       *azure.RegistrationState `json:"registrationState,omitempty"`
}

// replyOperation answers with an operation: as done says when it is finished, 202 and
// where to ask next when it is not.
func (k call) replyOperation(c *gin.Context, done int, op provisioning.Operation) error {
	body := operationBody{OperationID: op.Operation.ID, Status: string(op.State)}
	if op.State == provisioning.Assigning {
		c.Header("Retry-After", pollAfter)
		c.Header("Location", fmt.Sprintf("/%s/registrations/%s/operations/%s?api-version=%s",
			k.engine.IDScope(), k.spelled, op.Operation.ID, c.Query("api-version")))
		return reply(c, http.StatusAccepted, body)
	}
	state := azure.StateOf(op)
	if k.version.carriesCSR() {
		state.IssuedChain = op.Chain
	}
	body.State = &state
	return reply(c, done, body)
}

func reply(c *gin.Context, status int, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	c.Data(status, wire.MediaTypeJSON+"; charset=utf-8", text)
	return nil
}

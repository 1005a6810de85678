package dps

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/provisioning"
)

// Answer is what a device is told.
type Answer struct {
	Status int
	Body   []byte // JSON
	// Unfinished is the id of an operation to ask about again, after RetryAfter seconds;
	// both are "" when there is nothing to wait for.
	Unfinished, RetryAfter string
}

// pollAfter is the RetryAfter of an operation that is not finished.
const pollAfter = "1"

type operationBody struct {
	OperationID string                   `json:"operationId"`
	Status      string                   `json:"status"`
	State       *azure.RegistrationState `json:"registrationState,omitempty"`
}

// operation answers with an operation: as done says when it is finished, 202 and what to
// ask next when it is not.
func (k Call) operation(done int, op provisioning.Operation) (Answer, error) {
	body := operationBody{OperationID: op.Operation.ID, Status: string(op.State)}
	if op.State == provisioning.Assigning {
		a, err := answer(http.StatusAccepted, body)
		a.Unfinished, a.RetryAfter = op.Operation.ID, pollAfter
		return a, err
	}
	state := azure.StateOf(op)
	switch {
	case k.version.carriesCSR():
		state.IssuedChain = op.Chain
	case k.version.carriesOldCSR() && len(op.Chain) > 0:
		state.IssuedClient = oldChain(op.Chain)
	}
	if len(op.Chain) > 0 && state.Payload == nil && (state.IssuedChain != nil || state.IssuedClient != "") {
		state.Payload = advice(op.Renewal)
	}
	body.State = &state
	return answer(done, body)
}

// oldChain is what a client shows, as PEM: the certificate and those above it but the root.
func oldChain(chain [][]byte) string {
	var b strings.Builder
	for _, der := range chain[:max(1, len(chain)-1)] {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // a Builder does not fail
	}
	return b.String()
}

func answer(status int, body any) (Answer, error) {
	text, err := json.Marshal(body)
	return Answer{Status: status, Body: text}, err
}

// reply answers over HTTP.
func reply(c *gin.Context, k Call, a Answer, err error) error {
	if err != nil {
		return err
	}
	if a.Unfinished != "" {
		c.Header("Retry-After", a.RetryAfter)
		c.Header("Location", fmt.Sprintf("/%s/registrations/%s/operations/%s?api-version=%s",
			k.engine.IDScope(), k.spelled, a.Unfinished, c.Query("api-version")))
	}
	c.Data(a.Status, wire.MediaTypeJSON+"; charset=utf-8", a.Body)
	return nil
}

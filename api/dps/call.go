package dps

import (
	"context"
	"net/http"

	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// Call is whom a device asks, about which registration, and in which version of the API:
// what the path says over HTTPS and the user name over MQTT. It decodes, asks the engine
// and encodes for both.
type Call struct {
	engine  *provisioning.Engine
	version version
	id      verify.RegistrationID
	spelled string
}

// NewCall reads what an address says. It is Malformed for an api-version or a registration
// id that is none, NotFound for an id scope that is not here.
func NewCall(tenants wire.Tenants, idScope, id, apiVersion string) (Call, error) {
	v, err := parseVersion(apiVersion)
	if err != nil {
		return Call{}, err
	}
	parsed, err := verify.ParseRegistrationID(id)
	if err != nil {
		return Call{}, err
	}
	tenant, err := tenants.Find(idScope)
	if err != nil {
		return Call{}, err
	}
	return Call{engine: tenant.Engine, version: v, id: parsed, spelled: id}, nil
}

// Names says whether a text is the registration id, case apart.
func (k Call) Names(spelled string) bool { return k.id.Matches(spelled) }

// Attempt is the caller's claim to be the device, made at a door from an address.
func (k Call) Attempt(door, address string, shown provisioning.Evidence) provisioning.Attempt {
	return provisioning.Attempt{ID: k.id, Spelled: k.spelled, Evidence: shown, Door: door, Address: address}
}

// Attest says whether the device would be admitted now; see [provisioning.Engine.Attest].
func (k Call) Attest(ctx context.Context, a provisioning.Attempt) error {
	return k.engine.Attest(ctx, a)
}

// Misread has explain remember a request that could not be read, and answers the error.
func (k Call) Misread(a provisioning.Attempt, err error) error {
	k.engine.Misread(a, err)
	return err
}

// Register asks to be provisioned (§2.1). It is answered 202 also when it is finished: C#'s
// client throws on any other code.
func (k Call) Register(ctx context.Context, a provisioning.Attempt, r Request) (Answer, error) {
	op, err := k.engine.Register(ctx, provisioning.RegisterRequest{Attempt: a, CSR: r.csr, Payload: r.payload})
	if err != nil {
		return Answer{}, err
	}
	return k.operation(http.StatusAccepted, op)
}

// Poll asks how an operation stands (§2.2).
func (k Call) Poll(ctx context.Context, a provisioning.Attempt, operationID string) (Answer, error) {
	op, err := k.engine.Poll(ctx, provisioning.PollRequest{Attempt: a, OperationID: operationID})
	if err != nil {
		return Answer{}, err
	}
	return k.operation(http.StatusOK, op)
}

// lookup asks how the registration stands: the bare state, without a certificate (§2.2).
func (k Call) lookup(ctx context.Context, a provisioning.Attempt) (Answer, error) {
	op, err := k.engine.Poll(ctx, provisioning.PollRequest{Attempt: a})
	if err != nil {
		return Answer{}, err
	}
	return answer(http.StatusOK, azure.StateOf(op))
}

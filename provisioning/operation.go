package provisioning

import (
	"context"
	"time"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// Operation is the answer to a registration. With the built-in hub it is finished
// when Register returns: the identity is applied in the commit that assigned it.
type Operation struct {
	Registration
	Group string        // the group that admitted the device, as written; "" for an individual entry
	Path  []verify.Link // what attested it: leaf … anchor; nil for a key
	// Attested is how the device proved itself this time.
	Attested verify.Mechanism
	Chain    [][]byte // issued certificate, its issuer, …, root (DER); nil when none was issued
	// Renewal is when to ask for the certificate after the issued one.
	Renewal RenewalWindow
	TPMKey  []byte        // for the hub, wrapped for the TPM that attested (contract §2.4); nil: none did
	Key     verify.Secret // of the certificate, PKCS#8 DER, where it was made here; kept nowhere else (INV-P9)
}

// operation is the answer for a registration as it stands after decision d.
func (e *Engine) operation(reg Registration, d *decision) (op Operation, err error) {
	op = Operation{Registration: reg, Path: d.identity.Path(), Attested: d.identity.Mechanism()}
	if d.entry.Kind == Group {
		op.Group = d.entry.Spelled
	}
	op.TPMKey, err = e.wrapHubKey(d, reg)
	return op, err
}

// PollRequest asks for an operation, or (OperationID "") for the registration's
// state. It is authenticated like a registration: a poll may come on another
// connection, after the entry was disabled (INV-D1, D5).
type PollRequest struct {
	Attempt
	OperationID string
}

// Poll answers with the last operation of the registration, and its issued
// certificate when the operation is named (contract §2.2: the status lookup has none).
// NotFound when the device never registered or the operation is not its last; Throttled
// when it asks too often, which is counted among the attempts to register.
func (e *Engine) Poll(ctx context.Context, r PollRequest) (Operation, error) {
	now := e.now()
	in, err := e.pace.enter(r.Attempt, true, now)
	if err != nil {
		e.count(r.Attempt, false, err)
		return Operation{}, err
	}
	defer in.leave()
	op, err := e.poll(ctx, r, now)
	return op, in.outcome(err, now)
}

func (e *Engine) poll(ctx context.Context, r PollRequest, now time.Time) (Operation, error) {
	d, err := e.decidePoll(ctx, r.Attempt, now)
	if err != nil {
		e.refused(r.Attempt, d, err, now)
		return Operation{}, err
	}
	reg := d.facts.Registration
	if reg == nil || r.OperationID != "" && reg.Operation.ID != r.OperationID {
		return Operation{}, fault.New(fault.NotFound, "operation-unknown", "there is no such registration or operation")
	}
	if r.OperationID == "" || reg.Operation.Digest == [32]byte{} || reg.State == Failed {
		return e.operation(*reg, d)
	}
	return e.recorded(ctx, d, now)
}

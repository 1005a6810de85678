package azure

import (
	"context"
	"errors"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// Admit finds whose shared access policy signed a token, and who its bearer is there. The
// token alone says which tenant is meant: it is the one whose key verifies it.
//
// Errors: Unauthenticated with [RuleToken] when the header is no token, with the last
// tenant's rule when none verifies it. A tenant that cannot say is not a refusal: its error
// is the answer unless another one verifies.
func Admit(ctx context.Context, tenants wire.Tenants, header string, r provisioning.AccessRequest) (wire.Tenant, provisioning.Caller, error) {
	token, err := verify.ParseSAS(header)
	if err != nil {
		return wire.Tenant{}, provisioning.Caller{}, fault.New(fault.Unauthenticated, RuleToken, "the token cannot be read").Because(err)
	}
	r.Token = token
	return First(tenants, func(t wire.Tenant) (provisioning.Caller, error) { return t.Engine.Admit(ctx, r) })
}

// First asks each tenant and takes the first that lets the caller in.
func First[T any](tenants wire.Tenants, ask func(wire.Tenant) (T, error)) (wire.Tenant, T, error) {
	var none T
	var broken error
	var refused error = fault.New(fault.Unauthenticated, "token", "there is nobody to ask")
	for _, t := range tenants.All() {
		who, err := ask(t)
		switch {
		case err == nil:
			return t, who, nil
		case fault.Is(err, fault.Unauthenticated):
			refused = err
		default:
			broken = errors.Join(broken, err)
		}
	}
	if broken != nil {
		return wire.Tenant{}, none, broken
	}
	return wire.Tenant{}, none, refused
}

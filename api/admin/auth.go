package admin

import (
	"context"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

// scopeKey is where an operation's metadata says which scope it asks for.
const scopeKey = "scope"

// public stands in the place of a scope on the few routes that ask for none.
const public policies.Scope = "public"

type operatorKey struct{}

// authorize is the one place that lets requests in. The body has not been read yet.
func (d *door) authorize(ctx huma.Context, next func(huma.Context)) {
	scope, _ := ctx.Operation().Metadata[scopeKey].(policies.Scope)
	if scope == public {
		next(ctx)
		return
	}
	token, _ := wire.Bearer(ctx.Header("Authorization"))
	who, err := d.Engine.Authenticate(ctx.Context(), token)
	if err != nil {
		d.refuse(ctx, err)
		return
	}
	if !who.Scopes.Allows(scope) {
		d.refuse(ctx, d.forbid(ctx, who, scope))
		return
	}
	next(huma.WithValue(ctx, operatorKey{}, who))
}

// forbid puts the refusal on record (INV-L1).
func (d *door) forbid(ctx huma.Context, who provisioning.Operator, scope policies.Scope) error {
	wire.OnRecord(d.Log, d.Engine, humagin.Unwrap(ctx).Request, who.Actor(), who.Scopes.String())
	return lacks(who, scope)
}

// needs lets a request go on that asks for a scope beyond its route's.
func (d *door) needs(ctx context.Context, scope policies.Scope, act string) error {
	who, _ := ctx.Value(operatorKey{}).(provisioning.Operator)
	if who.Scopes.Allows(scope) {
		return nil
	}
	if err := d.Engine.Refused(ctx, who.Actor(), who.Scopes.String(), act); err != nil {
		d.Log.Error("recording a refused act", "actor", who.Actor(), "err", err)
	}
	return lacks(who, scope)
}

func lacks(who provisioning.Operator, scope policies.Scope) error {
	return fault.New(fault.Forbidden, "scope-missing", "this needs a token with the scope %s", scope).About("token " + who.Name)
}

// actor is who is asking, as the ledger names him.
func actor(ctx context.Context) string {
	who, _ := ctx.Value(operatorKey{}).(provisioning.Operator)
	return who.Actor()
}

package admin

import (
	"context"
	"net/http"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

func (d *door) addHolds() {
	const tag = "registrations"
	add(d, route{"hold-registration", http.MethodPost, "/registrations/{id}/hold", policies.ScopeSecurity, tag, "Refuse a device everywhere, and have its hub disable it, until it is released", false}, d.hold)
	add(d, route{"release-registration", http.MethodPost, "/registrations/{id}/release", policies.ScopeSecurity, tag, "End a hold", false}, d.release)
}

func (d *door) hold(ctx context.Context, in *EntryID) (*found[registration], error) {
	defer d.AfterRevoke() // brokers are to drop it
	return d.setHeld(ctx, in, d.Engine.Hold)
}

func (d *door) release(ctx context.Context, in *EntryID) (*found[registration], error) {
	return d.setHeld(ctx, in, d.Engine.Release)
}

func (d *door) setHeld(ctx context.Context, in *EntryID, act func(context.Context, string, verify.RegistrationID) (provisioning.Registration, error)) (*found[registration], error) {
	id, err := verify.ParseRegistrationID(in.ID)
	if err != nil {
		return nil, err
	}
	reg, err := act(ctx, actor(ctx), id)
	if err != nil {
		return nil, err
	}
	body, err := registrationOf(reg)
	return &found[registration]{ETag: etag(reg.Version), Body: body}, err
}

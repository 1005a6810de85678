package provisioning

import (
	"context"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

// PutProfile creates or replaces an issuing profile. Certificates already issued
// keep what they have.
func (e *Engine) PutProfile(ctx context.Context, actor string, p policies.Profile, pre Precondition) (Profile, error) {
	now := e.now()
	stored := Profile{Profile: p}
	if err := p.Validate(); err != nil {
		return stored, err
	}
	err := e.store.UpdateTrust(ctx, func(tx Tx) error {
		was, err := tx.Profile(p.Name)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		if err := pre.check(was.Version); err != nil {
			return err
		}
		stored.Created, stored.Updated, stored.Version = now, now, firstVersion(now)
		write := func() error { return tx.InsertProfile(stored) }
		if was.Version != 0 {
			stored.Created, stored.Version = was.Created, was.Version+1
			write = func() error { return tx.UpdateProfile(stored, was.Version) }
		}
		return first(write(), tx.Append(audit.Event{At: now, Actor: actor, Action: audit.ProfileWritten, Subject: "profile:" + p.Name,
			Body: audit.Body(map[string]any{"lifetime": p.Lifetime.String(), "backdate": p.Backdate.String(), "keys": p.Keys, "version": stored.Version})}))
	})
	return stored, err
}

// DeleteProfile removes a profile that no entry names; "default" always exists.
func (e *Engine) DeleteProfile(ctx context.Context, actor, name string, pre Precondition) error {
	now := e.now()
	if name == policies.DefaultProfile().Name {
		return fault.New(fault.Conflict, "profile-default", "the default profile always exists; change it instead")
	}
	return e.store.UpdateTrust(ctx, func(tx Tx) error {
		was, err := tx.Profile(name)
		if err != nil {
			return err
		}
		if err := pre.check(was.Version); err != nil {
			return err
		}
		entries, err := tx.ProfileUse(name)
		if err != nil {
			return err
		}
		if entries > 0 {
			return fault.New(fault.Conflict, "profile-in-use", "%d entries name the profile", entries).About("profile " + name)
		}
		return first(tx.DeleteProfile(name, was.Version), tx.Append(audit.Event{At: now, Actor: actor, Action: audit.ProfileDeleted, Subject: "profile:" + name, Body: audit.Body(map[string]any{})}))
	})
}

// Profile reads one issuing profile.
func (e *Engine) Profile(ctx context.Context, name string) (p Profile, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		p, err = tx.Profile(name)
		return err
	})
	return p, err
}

// Profiles lists the issuing profiles by name.
func (e *Engine) Profiles(ctx context.Context) (list []Profile, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		list, err = tx.Profiles()
		return err
	})
	return list, err
}

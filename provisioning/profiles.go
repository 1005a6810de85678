package provisioning

import (
	"context"
	"maps"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

// ProfileVersion is a profile as it was written once.
type ProfileVersion struct {
	policies.Profile
	Version int64
	At      time.Time
	Actor   string
}

// PutProfile creates or replaces an issuing profile. Certificates already issued
// keep what they have. What its template makes has been tried out (ca.CheckProfile).
func (e *Engine) PutProfile(ctx context.Context, actor string, p policies.Profile, pre Precondition) (Profile, error) {
	now := e.now()
	if err := e.checkProfile(p, now); err != nil {
		return Profile{Profile: p}, err
	}
	var stored Profile
	err := e.store.UpdateTrust(ctx, func(tx Tx) (err error) {
		stored, err = writeProfile(tx, actor, p, pre, audit.ProfileWritten, nil, now)
		return err
	})
	return stored, err
}

// RollbackProfile writes the settings of an old version as a new one, also of a profile
// that was deleted since. Rules, besides those of PutProfile: "profile-version-not-found".
func (e *Engine) RollbackProfile(ctx context.Context, actor, name string, version int64, pre Precondition) (Profile, error) {
	now := e.now()
	old, err := e.ProfileVersion(ctx, name, version)
	if err != nil {
		return Profile{}, err
	}
	if err := e.checkProfile(old.Profile, now); err != nil {
		return Profile{}, err // rules have become stricter since
	}
	var stored Profile
	err = e.store.UpdateTrust(ctx, func(tx Tx) (err error) {
		stored, err = writeProfile(tx, actor, old.Profile, pre, audit.ProfileRolledBack, map[string]any{"to": version}, now)
		return err
	})
	return stored, err
}

func (e *Engine) checkProfile(p policies.Profile, now time.Time) error {
	if err := p.Validate(); err != nil {
		return err
	}
	return e.authority.CheckProfile(p, now)
}

// writeProfile writes a profile, its version and its ledger row.
func writeProfile(tx Tx, actor string, p policies.Profile, pre Precondition, action audit.Action, body map[string]any, now time.Time) (Profile, error) {
	was, err := tx.Profile(p.Name)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return Profile{}, err
	}
	if err := pre.check(was.Version); err != nil {
		return Profile{}, err
	}
	stored := Profile{Profile: p, Created: now, Updated: now, Version: firstVersion(now)}
	write := func() error { return tx.InsertProfile(stored) }
	if was.Version != 0 {
		stored.Created, stored.Version = was.Created, was.Version+1
		write = func() error { return tx.UpdateProfile(stored, was.Version) }
	}
	facts := map[string]any{"lifetime": p.Lifetime.String(), "backdate": p.Backdate.String(), "keys": p.Keys, "version": stored.Version}
	maps.Copy(facts, body)
	return stored, first(write(),
		tx.InsertProfileVersion(ProfileVersion{Profile: p, Version: stored.Version, At: now, Actor: actor}),
		tx.Append(audit.Event{At: now, Actor: actor, Action: action, Subject: "profile:" + p.Name, Body: audit.Body(facts)}))
}

// DeleteProfile removes a profile that no entry names; "default" always exists. Its
// versions stay.
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

// ProfileVersion reads what was written once; fault.NotFound, rule
// "profile-version-not-found".
func (e *Engine) ProfileVersion(ctx context.Context, name string, version int64) (v ProfileVersion, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		v, err = tx.ProfileVersion(name, version)
		return err
	})
	return v, err
}

// ProfileVersions lists the versions of a profile before one of them (0 = the newest),
// newest first. Deleted profiles have theirs; fault.NotFound for a name that never was.
func (e *Engine) ProfileVersions(ctx context.Context, name string, before int64, limit int) (list []ProfileVersion, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		if list, err = tx.ProfileVersions(name, before, limit); err != nil || len(list) > 0 || before != 0 {
			return err
		}
		_, err = tx.Profile(name)
		return err
	})
	return list, err
}

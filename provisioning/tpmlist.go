package provisioning

import (
	"context"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// MaxListChange bounds what one change of a list names: it is one transaction.
const MaxListChange = 1000

// ListChange is what became of a list.
type ListChange struct{ Added, Removed, Listed int64 }

// ListedKeys are the endorsement keys that a group lists, by their hash.
func (e *Engine) ListedKeys(ctx context.Context, group verify.RegistrationID, after verify.KeyHash, limit int) (list []ListedKey, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		if _, err := listOf(tx, group); err != nil {
			return err
		}
		list, err = tx.ListedKeys(group, after, limit)
		return err
	})
	return list, err
}

// ChangeListedKeys puts endorsement keys on a group's list, and takes others off: their TPMs
// register no more. Certificates that they have go on.
//
// Errors: NotFound; Conflict "no-endorsement-keys" of a group that has no list; Malformed
// "too-many-keys".
func (e *Engine) ChangeListedKeys(ctx context.Context, actor string, group verify.RegistrationID, add []ListedKey, remove []verify.KeyHash) (c ListChange, err error) {
	now := e.now()
	if len(add)+len(remove) > MaxListChange {
		return c, fault.New(fault.Malformed, "too-many-keys", "one change names at most %d endorsement keys", MaxListChange)
	}
	err = e.store.UpdateTrust(ctx, func(tx Tx) error {
		c = ListChange{}
		was, err := listOf(tx, group)
		if err != nil {
			return err
		}
		before, err := tx.CountListedKeys(group)
		if err != nil {
			return err
		}
		for _, key := range remove {
			if err := tx.DeleteListedKey(group, key); err != nil {
				return err
			}
		}
		left, err := tx.CountListedKeys(group)
		if err != nil {
			return err
		}
		for _, k := range add {
			k.Group, k.Since = group, now
			if err := tx.PutListedKey(k); err != nil {
				return err
			}
		}
		if c.Listed, err = tx.CountListedKeys(group); err != nil {
			return err
		}
		c.Added, c.Removed = c.Listed-left, before-left
		is := was
		is.Version, is.Updated = was.Version+1, now
		event := audit.Event{At: now, Actor: actor, Action: audit.EndorsementKeys, Subject: subject(was.Owner), Body: audit.Body(map[string]any{
			"added": c.Added, "removed": c.Removed, "listed": c.Listed, "written": len(add), "version": is.Version,
		})}
		return first(tx.UpdateEnrollment(is, was.Version), tx.Append(event))
	})
	return c, err
}

// listOf is a group that has a list.
func listOf(tx Tx, group verify.RegistrationID) (Enrollment, error) {
	g, err := tx.Enrollment(Owner{Kind: Group, ID: group})
	if err == nil && g.Role() != RoleTPMList {
		return g, fault.New(fault.Conflict, "no-endorsement-keys", "the group has no list of endorsement keys: it attests otherwise").About(g.String())
	}
	return g, err
}

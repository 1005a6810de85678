package provisioning

import (
	"bytes"
	"context"
	"time"

	"github.com/passmuster/muster/internal/audit"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/verify"
)

// Put creates or replaces an entry in one transaction and returns it as stored, with
// warnings about what an operator might not expect (scenarios E7).
//
// Errors: Malformed with the field, PreconditionRequired, PreconditionFailed.
func (e *Engine) Put(ctx context.Context, actor string, draft Draft, pre Precondition) (Enrollment, []string, error) {
	now := e.now()
	made, err := newKeys()
	if err != nil {
		return Enrollment{}, nil, err
	}
	var stored Enrollment
	var warnings []string
	err = e.store.UpdateTrust(ctx, func(tx Tx) error {
		was, err := tx.Enrollment(draft.Owner)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		if err := pre.check(was.Version); err != nil {
			return err
		}
		was = e.changing(was)
		if stored, err = e.compose(tx, draft, was, made, now); err != nil {
			return err
		}
		if warnings, err = e.warnings(tx, was, stored, now); err != nil {
			return err
		}
		action := audit.EnrollmentCreated
		if was.Role() == RoleTPMList && stored.Role() != RoleTPMList {
			if err := tx.ClearListedKeys(was.ID); err != nil {
				return err
			}
		}
		if was.Version == 0 {
			err = tx.InsertEnrollment(stored)
		} else {
			action = changeOf(was, stored)
			err = tx.UpdateEnrollment(stored, was.Version)
		}
		if err != nil {
			return err
		}
		return first(hubsAdapt(tx, was, stored), tx.Append(entryEvent(actor, action, was, stored, now)))
	})
	return stored, warnings, err
}

func changeOf(was, is Enrollment) audit.Action {
	switch {
	case was.Enabled && !is.Enabled:
		return audit.EnrollmentDisabled
	case !was.Enabled && is.Enabled:
		return audit.EnrollmentEnabled
	}
	return audit.EnrollmentUpdated
}

// SetEnabled enables or disables an entry. Disabling is the entry's own refusal: no
// certificate is revoked and hub identities stay (scenarios J1).
func (e *Engine) SetEnabled(ctx context.Context, actor string, o Owner, enabled bool, pre Precondition) (Enrollment, error) {
	now := e.now()
	var is Enrollment
	err := e.store.UpdateTrust(ctx, func(tx Tx) error {
		was, err := tx.Enrollment(o)
		if err != nil {
			return err
		}
		if pre != (Precondition{}) {
			if err := pre.check(was.Version); err != nil {
				return err
			}
		}
		was = e.changing(was)
		if is = was; was.Enabled == enabled {
			return nil
		}
		is.Enabled, is.Updated, is.Version, is.DueAt = enabled, now, was.Version+1, now
		if plainWebhook(was.SealedWebhook) {
			is.SealedWebhook = sealWebhook(e.box, o, was.Custom)
		}
		if err := tx.UpdateEnrollment(is, was.Version); err != nil {
			return err
		}
		return tx.Append(entryEvent(actor, changeOf(was, is), was, is, now))
	})
	return is, err
}

// Delete removes an entry. Its registrations stay, without an owner.
func (e *Engine) Delete(ctx context.Context, actor string, o Owner, pre Precondition) error {
	now := e.now()
	return e.store.UpdateTrust(ctx, func(tx Tx) error {
		was, err := tx.Enrollment(o)
		if err != nil {
			return err
		}
		if err := pre.check(was.Version); err != nil {
			return err
		}
		if err := tx.DeleteEnrollment(o, was.Version); err != nil {
			return err
		}
		return tx.Append(entryEvent(actor, audit.EnrollmentDeleted, e.changing(was), Enrollment{}, now))
	})
}

// Enrollment reads one entry.
func (e *Engine) Enrollment(ctx context.Context, o Owner) (en Enrollment, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		en, err = tx.Enrollment(o)
		return err
	})
	if err != nil {
		return en, err
	}
	return e.withWebhook(en)
}

// Enrollments lists entries by id.
func (e *Engine) Enrollments(ctx context.Context, f EnrollmentFilter) (list []Enrollment, err error) {
	err = e.store.View(ctx, func(tx Tx) error {
		list, err = tx.Enrollments(f)
		return err
	})
	for i := range list {
		if list[i], err = e.withWebhook(list[i]); err != nil {
			return nil, err
		}
	}
	return list, err
}

// Keys reveals an entry's symmetric keys, primary and secondary; a nil one is an
// empty slot. Reading them is audited (INV-K5).
func (e *Engine) Keys(ctx context.Context, actor string, o Owner) (keys [2][]byte, err error) {
	now := e.now()
	err = e.store.Update(ctx, func(tx Tx) error {
		en, err := tx.Enrollment(o)
		if err != nil {
			return err
		}
		if en.Role() != RoleKey {
			return fault.New(fault.Conflict, "no-symmetric-key", "the entry attests with a %s", en.Role().noun()).About(o.String())
		}
		for _, c := range en.Credentials {
			if keys[c.Slot], err = e.box.Open(keyPurpose(o, c.Slot), c.SealedKey); err != nil {
				return err
			}
		}
		return tx.Append(audit.Event{At: now, Actor: actor, Action: audit.KeysRead, Subject: subject(o), Body: audit.Body(map[string]any{})})
	})
	return keys, err
}

func subject(o Owner) string {
	if o.Kind == Group {
		return "group:" + o.ID.String()
	}
	return "enrollment:" + o.ID.String()
}

// entryEvent tells of a change with what was and what is, secrets by hash (INV-L1).
func entryEvent(actor string, action audit.Action, was, is Enrollment, now time.Time) audit.Event {
	owner, facts := is.Owner, map[string]any{}
	if was.Version != 0 {
		facts["before"], owner = summary(was), was.Owner
	}
	if is.Version != 0 {
		facts["after"] = summary(is)
	}
	return audit.Event{At: now, Actor: actor, Action: action, Subject: subject(owner), Body: audit.Body(facts)}
}

func summary(e Enrollment) map[string]any {
	s := map[string]any{"enabled": e.Enabled, "allocation": string(e.Allocation), "version": e.Version}
	if e.Profile != "" {
		s["profile"] = e.Profile
	}
	if len(e.Hubs) > 0 {
		s["hubs"] = e.Hubs
	}
	switch {
	case e.Custom.URL != "":
		s["webhook"] = e.Custom.withoutQuery()
	case len(e.SealedWebhook) > 0:
		s["webhook"] = verify.ThumbprintOf(e.SealedWebhook).String()
	}
	if e.DeviceID != "" {
		s["deviceId"] = e.DeviceID
	}
	if !bytes.Equal(e.InitialTwin, nil) {
		s["initialTwin"] = verify.ThumbprintOf(e.InitialTwin).String()
	}
	for name, words := range map[string][]string{"tpmManufacturers": e.TPM.Manufacturers, "tpmModels": e.TPM.Models, "tpmVersions": e.TPM.Versions} {
		if len(words) > 0 {
			s[name] = words
		}
	}
	for _, c := range e.Credentials {
		value := c.Anchor
		switch {
		case len(c.Certificate) > 0:
			value = verify.ThumbprintOf(c.Certificate).String()
		case len(c.SealedKey) > 0:
			value = verify.ThumbprintOf(c.SealedKey).String()
		case c.Role == RoleTPM:
			value = verify.ThumbprintOf(c.TPM.Endorsement).String()
		}
		s[c.Slot.String()] = string(c.Role) + " " + value
	}
	return s
}

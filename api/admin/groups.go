package admin

import (
	"context"
	"net/http"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// group is an enrollment group (contract §4.2).
type group struct {
	EnrollmentGroupID string `json:"enrollmentGroupId,omitempty" doc:"That of the path, where it is given."`
	EntrySettings
}

func groupDraft(b group, o provisioning.Owner, spelled string) (provisioning.Draft, error) {
	if b.EnrollmentGroupID != "" && !o.ID.Matches(b.EnrollmentGroupID) {
		return provisioning.Draft{}, otherName("/enrollmentGroupId")
	}
	return b.EntrySettings.draft(o, spelled)
}

func groupOf(e provisioning.Enrollment, warnings []string) (group, error) {
	s, err := settingsOf(e, warnings)
	return group{EnrollmentGroupID: e.Spelled, EntrySettings: s}, err
}

type groupList struct {
	EntryList
	Mechanism string `query:"mechanism" enum:"signingCertificates,caReferences,symmetricKey,tpmList,tpmManufacturers"`
}

type (
	deriveKey struct {
		EntryID
		Body struct {
			RegistrationID string `json:"registrationId" doc:"As the device spells it."`
		}
	}
	derivedKeys struct {
		RegistrationID string `json:"registrationId"`
		PrimaryKey     string `json:"primaryKey,omitempty" doc:"Base64."`
		SecondaryKey   string `json:"secondaryKey,omitempty" doc:"Base64."`
	}
)

func (d *door) addGroups() {
	r := entries[group]{door: d, kind: provisioning.Group, path: "/groups", noun: "group", draft: groupDraft, view: groupOf}
	add(d, route{"list-groups", http.MethodGet, r.path, policies.ScopeRead, "groups", "List enrollment groups", false},
		func(ctx context.Context, in *groupList) (*listed[group], error) {
			role := map[string]provisioning.Role{
				"signingCertificates": provisioning.RoleSigning, "caReferences": provisioning.RoleCARef, "symmetricKey": provisioning.RoleKey,
				"tpmList": provisioning.RoleTPMList, "tpmManufacturers": provisioning.RoleTPMCA,
			}[in.Mechanism]
			return r.list(ctx, in.EntryList, role)
		})
	addEntries(r)
	d.addEndorsementKeys(r)
	add(d, route{"derive-key", http.MethodPost, r.path + "/{id}/deriveKey", policies.ScopeSecurity, "groups", "Derive the keys of one device of a symmetric-key group; that is put on record", false},
		func(ctx context.Context, in *deriveKey) (*found[derivedKeys], error) {
			o, err := r.owner(in.ID)
			if err != nil {
				return nil, err
			}
			return d.derive(ctx, o, in.Body.RegistrationID)
		})
}

// derive computes what a device of the group proves itself with (contract §2.4).
func (d *door) derive(ctx context.Context, o provisioning.Owner, spelled string) (*found[derivedKeys], error) {
	if _, err := verify.ParseRegistrationID(spelled); err != nil {
		return nil, at(err, "/registrationId")
	}
	group, err := d.Engine.Keys(ctx, actor(ctx), o)
	if err != nil {
		return nil, err
	}
	var derived [2][]byte
	for slot, key := range group {
		derived[slot] = verify.DeriveKey(verify.NewSecret(key), spelled).Reveal()
	}
	keys := keysOf(derived)
	return &found[derivedKeys]{Body: derivedKeys{RegistrationID: spelled, PrimaryKey: keys.PrimaryKey, SecondaryKey: keys.SecondaryKey}}, nil
}

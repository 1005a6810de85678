package admin

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
)

// enrollment is an individual enrollment (contract §4.1).
type enrollment struct {
	RegistrationID string `json:"registrationId,omitempty" doc:"That of the path, where it is given."`
	DeviceID       string `json:"deviceId,omitempty" doc:"On the hub; the registration id unless given."`
	EntrySettings
	OptionalDeviceInformation json.RawMessage    `json:"optionalDeviceInformation,omitempty" doc:"Any JSON."`
	RegistrationState         *RegistrationState `json:"registrationState,omitempty" readOnly:"true" doc:"Once the device has registered; in GET of one."`
}

func enrollmentDraft(b enrollment, o provisioning.Owner, spelled string) (provisioning.Draft, error) {
	if b.RegistrationID != "" && !o.ID.Matches(b.RegistrationID) {
		return provisioning.Draft{}, otherName("/registrationId")
	}
	d, err := b.EntrySettings.draft(o, spelled)
	d.DeviceID, d.OptionalInfo = b.DeviceID, given(b.OptionalDeviceInformation)
	return d, err
}

func enrollmentOf(e provisioning.Enrollment, warnings []string) (enrollment, error) {
	s, err := settingsOf(e, warnings)
	return enrollment{RegistrationID: e.Spelled, DeviceID: e.DeviceID, EntrySettings: s, OptionalDeviceInformation: e.OptionalInfo}, err
}

type enrollmentList struct {
	EntryList
	Mechanism string `query:"mechanism" enum:"x509,symmetricKey,tpm"`
}

func (d *door) addEnrollments() {
	r := entries[enrollment]{
		door: d, kind: provisioning.Individual, path: "/enrollments", noun: "enrollment",
		draft: enrollmentDraft, view: enrollmentOf, more: d.withState,
	}
	add(d, route{"list-enrollments", http.MethodGet, r.path, policies.ScopeRead, "enrollments", "List individual enrollments", false},
		func(ctx context.Context, in *enrollmentList) (*listed[enrollment], error) {
			role := map[string]provisioning.Role{"x509": provisioning.RoleClient, "symmetricKey": provisioning.RoleKey, "tpm": provisioning.RoleTPM}[in.Mechanism]
			return r.list(ctx, in.EntryList, role)
		})
	addEntries(r)
}

// withState adds the registration of the enrollment's device, if it has one.
func (d *door) withState(ctx context.Context, o provisioning.Owner, b *enrollment) error {
	device, err := d.Engine.Device(ctx, o.ID)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	state := stateOf(device.Registration)
	b.RegistrationState = &state
	return nil
}
